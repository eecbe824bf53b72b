-- Tenants' limits and names, invitations, the platform's settings, and what the audit log says of keys and traces.
-- Owner of all tables here: control-api; audit_head: scheduler.

-- name_key: the name as people would take it for the same (packages/domain/src/name-key.ts). NULL: made before there
-- were keys; it gets one with its next change.
ALTER TABLE tenant
  ADD COLUMN name_key             text,
  ADD COLUMN suspended_at         timestamptz,
  ADD COLUMN limit_subscriptions  integer CHECK (limit_subscriptions >= 0),
  ADD COLUMN limit_nodes          integer CHECK (limit_nodes >= 0),
  ADD COLUMN limit_pool_bytes     bigint CHECK (limit_pool_bytes >= 0),
  ADD COLUMN limit_api_per_minute integer CHECK (limit_api_per_minute > 0);
-- Partial, so that a new name locks the row no more than other changes do: whoever writes the tenant's log or anything
-- else that refers to the tenant does not wait for it.
CREATE UNIQUE INDEX tenant_same_name ON tenant (name_key) WHERE name_key IS NOT NULL;

ALTER TABLE account ADD COLUMN email_key text;
CREATE UNIQUE INDEX account_same_email ON account (email_key) WHERE email_key IS NOT NULL;

ALTER TABLE member ADD COLUMN version integer NOT NULL DEFAULT 1;

-- A place in a tenant for whoever has the link. Its hash is in credential_route, which says nothing of the role.
CREATE TABLE invitation (
  tenant_id     uuid NOT NULL REFERENCES tenant (tenant_id),
  invitation_id uuid NOT NULL,
  email         text NOT NULL CHECK (length(email) BETWEEN 3 AND 254),
  email_key     text NOT NULL,
  role          text NOT NULL CHECK (role IN ('owner', 'admin', 'operator', 'auditor')),
  hash          bytea NOT NULL CHECK (length(hash) = 32),
  created_by    uuid REFERENCES account (account_id),
  created_at    timestamptz NOT NULL,
  expires_at    timestamptz NOT NULL,
  accepted_at   timestamptz,
  accepted_by   uuid REFERENCES account (account_id),
  revoked_at    timestamptz,
  PRIMARY KEY (tenant_id, invitation_id)
);
CREATE UNIQUE INDEX invitation_open ON invitation (tenant_id, email_key)
  WHERE accepted_at IS NULL AND revoked_at IS NULL;
ALTER TABLE credential_route DROP CONSTRAINT credential_route_kind_check;
ALTER TABLE credential_route ADD CONSTRAINT credential_route_kind_check
  CHECK (kind IN ('join_token', 'api_key', 'link', 'invitation'));

-- What the operator sets for the whole platform; a key that is absent has its default.
CREATE TABLE setting (
  key        text PRIMARY KEY,
  value      jsonb NOT NULL,
  -- Grows with each change of this key; the sum over all keys is the version of the settings.
  version    integer NOT NULL DEFAULT 1,
  updated_at timestamptz NOT NULL
);

-- NULL in rows made without a key or a trace: they are then no part of what was hashed.
ALTER TABLE audit_log ADD COLUMN key_id uuid, ADD COLUMN trace_id text;
CREATE INDEX audit_log_at ON audit_log (tenant_id, at);
CREATE INDEX audit_log_action ON audit_log (tenant_id, action, seq);
CREATE INDEX audit_log_entity ON audit_log (tenant_id, entity_id, seq) WHERE entity_id IS NOT NULL;
CREATE INDEX audit_log_account ON audit_log (tenant_id, account_id, seq) WHERE account_id IS NOT NULL;

-- Ends of the audit chains as they were each hour. With the copy outside the database, rows cut off the end are missed.
CREATE TABLE audit_head (
  tenant_id   uuid NOT NULL REFERENCES tenant (tenant_id),
  seq         bigint NOT NULL,
  hash        bytea NOT NULL,
  exported_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, seq)
);
CREATE TRIGGER audit_head_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_head
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Suspension, a time zone: everything of the tenant is looked at.
ALTER TABLE access_change DROP CONSTRAINT access_change_cause_check;
ALTER TABLE access_change ADD CONSTRAINT access_change_cause_check
  CHECK (cause IN ('edit', 'crossing', 'expiry', 'period', 'node', 'sweep', 'tenant'));

ALTER TABLE invitation ENABLE ROW LEVEL SECURITY;
ALTER TABLE invitation FORCE ROW LEVEL SECURITY;
ALTER TABLE audit_head ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_head FORCE ROW LEVEL SECURITY;
ALTER TABLE setting ENABLE ROW LEVEL SECURITY;
ALTER TABLE setting FORCE ROW LEVEL SECURITY;

CREATE POLICY tenant_of_transaction ON invitation TO penstock_control_api
  USING (tenant_id = (SELECT app_tenant())) WITH CHECK (tenant_id = (SELECT app_tenant()));
CREATE POLICY tenant_of_transaction ON audit_head FOR SELECT TO penstock_control_api
  USING (tenant_id = (SELECT app_tenant()));
CREATE POLICY sweep ON audit_head TO penstock_scheduler USING (true) WITH CHECK (true);
-- Ends of the chains only: the grant below leaves out what the rows say.
CREATE POLICY sweep ON audit_log FOR SELECT TO penstock_scheduler USING (true);
CREATE POLICY of_everybody ON setting FOR SELECT TO penstock_control_api, penstock_scheduler USING (true);
CREATE POLICY of_platform ON setting FOR INSERT TO penstock_control_api WITH CHECK ((SELECT app_is_platform()));
CREATE POLICY of_platform_update ON setting FOR UPDATE TO penstock_control_api
  USING ((SELECT app_is_platform())) WITH CHECK ((SELECT app_is_platform()));
-- The operator suspends a tenant: the one thing that it says of another tenant's access.
CREATE POLICY of_platform ON access_change FOR INSERT TO penstock_control_api
  WITH CHECK (cause = 'tenant' AND subscription_id IS NULL AND node_id IS NULL AND (SELECT app_is_platform()));

GRANT SELECT, INSERT, UPDATE ON invitation, setting TO penstock_control_api;
GRANT SELECT ON audit_head TO penstock_control_api;
GRANT SELECT ON setting TO penstock_scheduler;
GRANT SELECT, INSERT ON audit_head TO penstock_scheduler;
GRANT SELECT (tenant_id, seq, hash) ON audit_log TO penstock_scheduler;
