-- Tenants, people and what a bearer secret leads to. Owner of all tables here: control-api.
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO penstock_control_api, penstock_scheduler, penstock_collector, penstock_partitions,
  penstock_reader;

-- The tenant of this transaction; NULL when none was set, so that policies show no row.
CREATE FUNCTION app_tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS
  $$ SELECT nullif(current_setting('app.tenant_id', true), '')::uuid $$;
-- The account of this transaction: a person sees his own memberships before he has chosen a tenant.
CREATE FUNCTION app_account() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS
  $$ SELECT nullif(current_setting('app.account_id', true), '')::uuid $$;
-- The tenants that the nodes of this transaction serve (collector).
CREATE FUNCTION app_tenants() RETURNS uuid[] LANGUAGE sql STABLE PARALLEL SAFE AS
  $$ SELECT string_to_array(nullif(current_setting('app.tenant_ids', true), ''), ',')::uuid[] $$;

CREATE TABLE tenant (
  tenant_id  uuid PRIMARY KEY,
  name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
  kind       text NOT NULL CHECK (kind IN ('platform', 'customer')),
  state      text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended')),
  time_zone  text NOT NULL DEFAULT 'UTC',
  version    integer NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL DEFAULT now()
);

-- The one row that says which tenant is the operator itself.
CREATE TABLE platform (
  one       boolean PRIMARY KEY DEFAULT true CHECK (one),
  tenant_id uuid NOT NULL REFERENCES tenant (tenant_id)
);

CREATE FUNCTION app_is_platform() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS
  $$ SELECT EXISTS (SELECT FROM platform p WHERE p.tenant_id = app_tenant()) $$;

CREATE TABLE account (
  account_id    uuid PRIMARY KEY,
  email         text NOT NULL UNIQUE CHECK (length(email) BETWEEN 3 AND 254),
  display_name  text NOT NULL DEFAULT '',
  password_hash text NOT NULL,
  created_at    timestamptz NOT NULL DEFAULT now(),
  disabled_at   timestamptz
);

CREATE TABLE session (
  session_id   uuid PRIMARY KEY,
  account_id   uuid NOT NULL REFERENCES account (account_id),
  family_id    uuid NOT NULL,
  refresh_hash bytea NOT NULL UNIQUE,
  parent_id    uuid REFERENCES session (session_id),
  created_at   timestamptz NOT NULL DEFAULT now(),
  expires_at   timestamptz NOT NULL,
  rotated_at   timestamptz,
  revoked_at   timestamptz,
  ip           inet,
  user_agent   text
);
CREATE INDEX session_family ON session (family_id);
CREATE INDEX session_account ON session (account_id);

-- The one-time link that makes the first owner. Only its hash is here.
CREATE TABLE setup_link (
  hash       bytea PRIMARY KEY,
  created_at timestamptz NOT NULL DEFAULT now(),
  used_at    timestamptz
);

-- What arrives before a tenant is known: hash → tenant, kind, id; nothing else.
CREATE TABLE credential_route (
  hash      bytea PRIMARY KEY,
  tenant_id uuid NOT NULL REFERENCES tenant (tenant_id),
  kind      text NOT NULL CHECK (kind IN ('join_token', 'api_key', 'link')),
  id        uuid NOT NULL
);

CREATE TABLE member (
  tenant_id  uuid NOT NULL REFERENCES tenant (tenant_id),
  account_id uuid NOT NULL REFERENCES account (account_id),
  role       text NOT NULL CHECK (role IN ('owner', 'admin', 'operator', 'auditor')),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, account_id)
);
CREATE INDEX member_account ON member (account_id);

CREATE TABLE audit_log (
  tenant_id  uuid NOT NULL REFERENCES tenant (tenant_id),
  seq        bigint NOT NULL,
  at         timestamptz NOT NULL,
  account_id uuid,
  action     text NOT NULL,
  entity     text NOT NULL,
  entity_id  uuid,
  before     jsonb,
  after      jsonb,
  ip         inet,
  user_agent text,
  request_id uuid NOT NULL,
  prev_hash  bytea NOT NULL,
  hash       bytea NOT NULL,
  PRIMARY KEY (tenant_id, seq)
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = '42501'; END $$;
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

ALTER TABLE tenant ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant FORCE ROW LEVEL SECURITY;
ALTER TABLE member ENABLE ROW LEVEL SECURITY;
ALTER TABLE member FORCE ROW LEVEL SECURITY;
ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_log FORCE ROW LEVEL SECURITY;
ALTER TABLE credential_route ENABLE ROW LEVEL SECURITY;
ALTER TABLE credential_route FORCE ROW LEVEL SECURITY;

-- A tenant sees itself; the operator sees the list of tenants; a person sees the tenants he is a member of.
CREATE POLICY tenant_of_transaction ON tenant TO penstock_control_api
  USING (tenant_id = (SELECT app_tenant()) OR (SELECT app_is_platform())
         OR EXISTS (SELECT FROM member m WHERE m.tenant_id = tenant.tenant_id AND m.account_id = (SELECT app_account())))
  WITH CHECK (tenant_id = (SELECT app_tenant()) OR (SELECT app_is_platform()));
CREATE POLICY sweep ON tenant FOR SELECT TO penstock_scheduler, penstock_reader USING (true);
CREATE POLICY tenant_of_transaction ON member TO penstock_control_api
  USING (tenant_id = (SELECT app_tenant()) OR account_id = (SELECT app_account()))
  WITH CHECK (tenant_id = (SELECT app_tenant()));
CREATE POLICY tenant_of_transaction ON audit_log TO penstock_control_api
  USING (tenant_id = (SELECT app_tenant())) WITH CHECK (tenant_id = (SELECT app_tenant()));
-- Looked up by an unguessable hash before any tenant is known; written for the transaction's tenant only.
CREATE POLICY by_hash ON credential_route FOR SELECT TO penstock_control_api, penstock_scheduler USING (true);
CREATE POLICY tenant_of_transaction ON credential_route FOR INSERT TO penstock_control_api
  WITH CHECK (tenant_id = (SELECT app_tenant()));
CREATE POLICY tenant_of_transaction_delete ON credential_route FOR DELETE TO penstock_control_api
  USING (tenant_id = (SELECT app_tenant()));

GRANT SELECT, INSERT, UPDATE ON tenant, account, session, setup_link TO penstock_control_api;
GRANT SELECT, INSERT ON platform TO penstock_control_api;
GRANT SELECT, INSERT, DELETE ON credential_route TO penstock_control_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON member TO penstock_control_api;
GRANT SELECT, INSERT ON audit_log TO penstock_control_api;
GRANT SELECT ON tenant, platform, credential_route TO penstock_scheduler;
GRANT SELECT ON tenant TO penstock_reader;
