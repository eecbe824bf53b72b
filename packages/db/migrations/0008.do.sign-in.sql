-- How people prove who they are: one-time links, second factors, passkeys, and the tenants in which a session acted.
-- Owner of all tables here: control-api. They belong to accounts, not to tenants: row security goes by app_account().

-- A link that sets a password, made by an admin or on the host. Only its hash is here.
CREATE TABLE one_time_link (
  hash                  bytea PRIMARY KEY CHECK (length(hash) = 32),
  kind                  text NOT NULL CHECK (kind IN ('password_reset')),
  account_id            uuid NOT NULL REFERENCES account (account_id),
  -- The link also takes away codes and passkeys: for somebody who lost them.
  removes_second_factor boolean NOT NULL DEFAULT false,
  -- The tenant whose admin made it: it works while the account is a member of that tenant alone. NULL: made by the
  -- platform or on the host.
  made_in               uuid REFERENCES tenant (tenant_id),
  -- NULL: made on the host.
  created_by            uuid REFERENCES account (account_id),
  created_at            timestamptz NOT NULL DEFAULT now(),
  expires_at            timestamptz NOT NULL,
  used_at               timestamptz
);
CREATE INDEX one_time_link_account ON one_time_link (account_id);
CREATE INDEX one_time_link_expiry ON one_time_link (expires_at);

-- Codes of an authenticator app (RFC 6238). At most one that is in force and one that waits for its first code.
CREATE TABLE totp (
  account_id   uuid NOT NULL REFERENCES account (account_id),
  totp_id      uuid NOT NULL,
  state        text NOT NULL CHECK (state IN ('pending', 'active')),
  -- AEAD, AAD = totp, account and totp_id.
  secret       bytea NOT NULL,
  -- The step of the last code that was accepted: neither it nor an older one is accepted again.
  last_step    bigint NOT NULL DEFAULT 0,
  -- Wrong codes since the last right one, and until when no code is looked at.
  failures     integer NOT NULL DEFAULT 0,
  locked_until timestamptz,
  created_at   timestamptz NOT NULL,
  PRIMARY KEY (account_id, totp_id)
);
CREATE UNIQUE INDEX totp_state ON totp (account_id, state);

CREATE TABLE recovery_code (
  account_id uuid NOT NULL REFERENCES account (account_id),
  hash       bytea NOT NULL CHECK (length(hash) = 32),
  used_at    timestamptz,
  PRIMARY KEY (account_id, hash)
);

CREATE TABLE passkey (
  account_id    uuid NOT NULL REFERENCES account (account_id),
  passkey_id    uuid NOT NULL,
  credential_id bytea NOT NULL UNIQUE CHECK (length(credential_id) BETWEEN 1 AND 1023),
  -- COSE key: public.
  public_key    bytea NOT NULL,
  sign_count    bigint NOT NULL,
  transports    text[] NOT NULL DEFAULT '{}',
  name          text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
  -- Lives in more than one device (a password manager) rather than in a single one.
  synced        boolean NOT NULL,
  created_at    timestamptz NOT NULL,
  last_used_at  timestamptz,
  PRIMARY KEY (account_id, passkey_id)
);

-- Challenges that were answered rightly. One that was only given out leaves no row: it carries its own proof.
CREATE TABLE passkey_challenge (
  hash       bytea PRIMARY KEY CHECK (length(hash) = 32),
  expires_at timestamptz NOT NULL
);
CREATE INDEX passkey_challenge_expiry ON passkey_challenge (expires_at);

-- Where a session acted: what a tenant's admin may end.
CREATE TABLE session_tenant (
  tenant_id  uuid NOT NULL REFERENCES tenant (tenant_id),
  family_id  uuid NOT NULL,
  account_id uuid NOT NULL REFERENCES account (account_id),
  PRIMARY KEY (tenant_id, family_id)
);
CREATE INDEX session_tenant_account ON session_tenant (tenant_id, account_id);
CREATE INDEX session_tenant_family ON session_tenant (family_id);

-- Rows of tokens that expired are removed; a token that is still good does not hold its ancestors.
ALTER TABLE session DROP CONSTRAINT session_parent_id_fkey;
ALTER TABLE session ADD CONSTRAINT session_parent_id_fkey FOREIGN KEY (parent_id) REFERENCES session (session_id)
  ON DELETE SET NULL;
CREATE INDEX session_parent ON session (parent_id);
CREATE INDEX session_expiry ON session (expires_at);

DO $$
DECLARE
  t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['totp', 'recovery_code', 'passkey', 'session_tenant'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
  END LOOP;
  FOREACH t IN ARRAY ARRAY['totp', 'recovery_code', 'passkey'] LOOP
    EXECUTE format('CREATE POLICY own_account ON %I TO penstock_control_api
      USING (account_id = (SELECT app_account())) WITH CHECK (account_id = (SELECT app_account()))', t);
  END LOOP;
END
$$;
-- A passkey says who signs in: it is looked up by its unguessable id before any account is known.
CREATE POLICY by_credential ON passkey FOR SELECT TO penstock_control_api USING ((SELECT app_account()) IS NULL);
CREATE POLICY tenant_of_transaction ON session_tenant TO penstock_control_api
  USING (tenant_id = (SELECT app_tenant())) WITH CHECK (tenant_id = (SELECT app_tenant()));
CREATE POLICY sweep ON session_tenant TO penstock_scheduler USING (true);

GRANT SELECT, INSERT, UPDATE ON one_time_link TO penstock_control_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON totp, recovery_code, passkey TO penstock_control_api;
GRANT SELECT, INSERT ON passkey_challenge, session_tenant TO penstock_control_api;
-- What expired is removed by the scheduler.
GRANT SELECT (hash, expires_at), DELETE ON one_time_link, passkey_challenge TO penstock_scheduler;
GRANT SELECT (session_id, family_id, expires_at, revoked_at), DELETE ON session TO penstock_scheduler;
GRANT SELECT, DELETE ON session_tenant TO penstock_scheduler;
