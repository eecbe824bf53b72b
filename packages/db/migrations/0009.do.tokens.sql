-- What signs, what acts for somebody, and who vouches for people. Owner of all tables here: control-api.

-- Signing keys of our tokens (platform table). One signs (current), one is published ahead (next), those that signed
-- before verify until their last token has expired (previous). The private half is AEAD-encrypted and goes when retired.
CREATE TABLE signing_key (
  kid            text PRIMARY KEY CHECK (kid ~ '^[A-Za-z0-9_-]{43}$'),
  state          text NOT NULL CHECK (state IN ('next', 'current', 'previous', 'retired')),
  public_jwk     jsonb NOT NULL,
  private_sealed bytea,
  created_at     timestamptz NOT NULL,
  activated_at   timestamptz,
  demoted_at     timestamptz,
  -- The last moment at which a token that it signed may still be shown.
  needed_until   timestamptz,
  retired_at     timestamptz,
  CHECK ((private_sealed IS NULL) = (state = 'retired'))
);
CREATE UNIQUE INDEX signing_key_one ON signing_key (state) WHERE state IN ('next', 'current');

-- A tenant identity provider vouches for its own tenant only: a session that it opened reaches no other.
ALTER TABLE session ADD COLUMN only_tenant_id uuid REFERENCES tenant (tenant_id);
CREATE FUNCTION session_inherits() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN
    SELECT p.only_tenant_id INTO NEW.only_tenant_id FROM session p WHERE p.session_id = NEW.parent_id;
    RETURN NEW;
  END $$;
CREATE TRIGGER session_inherits BEFORE INSERT ON session
  FOR EACH ROW WHEN (NEW.parent_id IS NOT NULL) EXECUTE FUNCTION session_inherits();

-- API keys act for their maker, within their scopes. The secret's hash is in credential_route.
CREATE TABLE api_key (
  tenant_id    uuid NOT NULL REFERENCES tenant (tenant_id),
  key_id       uuid NOT NULL,
  account_id   uuid NOT NULL REFERENCES account (account_id),
  name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
  prefix       text NOT NULL,
  scopes       text[] NOT NULL CHECK (cardinality(scopes) BETWEEN 1 AND 200),
  cidrs        text[] NOT NULL DEFAULT '{}' CHECK (cardinality(cidrs) <= 50),
  created_at   timestamptz NOT NULL,
  expires_at   timestamptz NOT NULL,
  last_used_at timestamptz,
  revoked_at   timestamptz,
  PRIMARY KEY (tenant_id, key_id)
);

-- Machine tokens: signed, narrow and short. The row is what can be revoked or used up; `ancestors` are the tokens that
-- it was narrowed from, and dies with any of them.
CREATE TABLE machine_token (
  tenant_id   uuid NOT NULL REFERENCES tenant (tenant_id),
  key_id      uuid NOT NULL,
  account_id  uuid NOT NULL REFERENCES account (account_id),
  name        text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
  jti_hash    bytea NOT NULL,
  ancestors   uuid[] NOT NULL DEFAULT '{}' CHECK (cardinality(ancestors) <= 8),
  scopes      text[] NOT NULL CHECK (cardinality(scopes) BETWEEN 1 AND 200),
  audience    text NOT NULL,
  path_prefix text NOT NULL,
  single_use  boolean NOT NULL,
  created_at  timestamptz NOT NULL,
  expires_at  timestamptz NOT NULL CHECK (expires_at <= created_at + interval '30 days 1 minute'),
  used_at     timestamptz,
  revoked_at  timestamptz,
  PRIMARY KEY (tenant_id, key_id),
  UNIQUE (tenant_id, jti_hash)
);

-- Who else may say who somebody is (OpenID Connect), per tenant; the platform tenant's serve everybody.
CREATE TABLE identity_provider (
  tenant_id            uuid NOT NULL REFERENCES tenant (tenant_id),
  identity_provider_id uuid NOT NULL,
  name                 text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
  issuer               text NOT NULL CHECK (length(issuer) BETWEEN 1 AND 500),
  client_id            text NOT NULL CHECK (length(client_id) BETWEEN 1 AND 200),
  secret_sealed        bytea NOT NULL,
  enabled              boolean NOT NULL,
  version              integer NOT NULL DEFAULT 1,
  created_at           timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, identity_provider_id)
);

-- The person behind a subject of a provider. Made by that person, signed in, or by an invitation; never by mail address.
CREATE TABLE identity_link (
  tenant_id            uuid NOT NULL,
  identity_provider_id uuid NOT NULL,
  issuer               text NOT NULL,
  subject              text NOT NULL CHECK (length(subject) BETWEEN 1 AND 255),
  account_id           uuid NOT NULL REFERENCES account (account_id),
  created_at           timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, identity_provider_id, issuer, subject),
  UNIQUE (tenant_id, identity_provider_id, account_id),
  FOREIGN KEY (tenant_id, identity_provider_id) REFERENCES identity_provider ON DELETE CASCADE
);
CREATE INDEX identity_link_account ON identity_link (account_id);

-- What a browser brings back from a provider and exchanges once (platform table, rows live a minute). Good only with
-- the cookie of the browser that began, and only for what it began.
CREATE TABLE oidc_exchange (
  hash                 bytea PRIMARY KEY,
  browser_hash         bytea NOT NULL,
  purpose              text NOT NULL CHECK (purpose IN ('sign_in', 'link')),
  provider_tenant_id   uuid NOT NULL,
  identity_provider_id uuid NOT NULL,
  issuer               text NOT NULL,
  subject              text NOT NULL,
  expires_at           timestamptz NOT NULL
);
CREATE INDEX oidc_exchange_expires ON oidc_exchange (expires_at);

-- Whoever caches what somebody is forgets it when it changes: a: account, t: tenant, k: key.
CREATE FUNCTION notify_standing() RETURNS trigger LANGUAGE plpgsql AS
  $$ DECLARE
    r jsonb := to_jsonb(CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END);
  BEGIN
    PERFORM pg_notify('standing', TG_ARGV[0] || ':' || (r ->> TG_ARGV[1]));
    RETURN NULL;
  END $$;
CREATE FUNCTION notify_signing_key() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_notify('signing_key', ''); RETURN NULL; END $$;

CREATE TRIGGER standing_account AFTER UPDATE ON account FOR EACH ROW
  WHEN (OLD.disabled_at IS DISTINCT FROM NEW.disabled_at OR OLD.password_hash IS DISTINCT FROM NEW.password_hash)
  EXECUTE FUNCTION notify_standing('a', 'account_id');
CREATE TRIGGER standing_session AFTER UPDATE OF revoked_at ON session FOR EACH ROW
  WHEN (OLD.revoked_at IS DISTINCT FROM NEW.revoked_at) EXECUTE FUNCTION notify_standing('a', 'account_id');
CREATE TRIGGER standing_member AFTER INSERT OR UPDATE OR DELETE ON member FOR EACH ROW
  EXECUTE FUNCTION notify_standing('a', 'account_id');
CREATE TRIGGER standing_tenant AFTER UPDATE OF state ON tenant FOR EACH ROW
  WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION notify_standing('t', 'tenant_id');
CREATE TRIGGER standing_api_key AFTER UPDATE OF revoked_at, expires_at, scopes, cidrs ON api_key FOR EACH ROW
  EXECUTE FUNCTION notify_standing('k', 'key_id');
-- A token may have others under it, which are known by other ids: whatever this tenant's keys were is forgotten.
CREATE TRIGGER standing_machine_token AFTER UPDATE OF revoked_at ON machine_token FOR EACH ROW
  EXECUTE FUNCTION notify_standing('t', 'tenant_id');
CREATE TRIGGER signing_key_changed AFTER INSERT OR UPDATE OF state ON signing_key FOR EACH STATEMENT
  EXECUTE FUNCTION notify_signing_key();

ALTER TABLE api_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_key FORCE ROW LEVEL SECURITY;
ALTER TABLE machine_token ENABLE ROW LEVEL SECURITY;
ALTER TABLE machine_token FORCE ROW LEVEL SECURITY;
ALTER TABLE identity_provider ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity_provider FORCE ROW LEVEL SECURITY;
ALTER TABLE identity_link ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity_link FORCE ROW LEVEL SECURITY;

CREATE POLICY tenant_of_transaction ON api_key TO penstock_control_api
  USING (tenant_id = (SELECT app_tenant())) WITH CHECK (tenant_id = (SELECT app_tenant()));
CREATE POLICY tenant_of_transaction ON machine_token TO penstock_control_api
  USING (tenant_id = (SELECT app_tenant())) WITH CHECK (tenant_id = (SELECT app_tenant()));
CREATE POLICY tenant_of_transaction ON identity_provider TO penstock_control_api
  USING (tenant_id = (SELECT app_tenant())) WITH CHECK (tenant_id = (SELECT app_tenant()));
-- A sign-in begins with a provider's id, before any tenant is known.
CREATE POLICY of_sign_in ON identity_provider FOR SELECT TO penstock_control_api
  USING (identity_provider_id = nullif(current_setting('app.identity_provider_id', true), '')::uuid);
CREATE POLICY tenant_of_transaction ON identity_link TO penstock_control_api
  USING (tenant_id = (SELECT app_tenant()) OR account_id = (SELECT app_account()))
  WITH CHECK (account_id = (SELECT app_account()));
CREATE POLICY of_sign_in ON identity_link FOR SELECT TO penstock_control_api
  USING (identity_provider_id = nullif(current_setting('app.identity_provider_id', true), '')::uuid);

GRANT SELECT, INSERT, UPDATE ON signing_key, api_key, machine_token TO penstock_control_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON identity_provider TO penstock_control_api;
GRANT DELETE ON machine_token TO penstock_control_api;
GRANT SELECT, INSERT, DELETE ON identity_link TO penstock_control_api;
GRANT SELECT, INSERT, DELETE ON oidc_exchange TO penstock_control_api;
