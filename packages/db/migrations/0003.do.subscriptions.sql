-- Plans, subscriptions, devices (control-api writes), and what the scheduler decides of them.
CREATE TABLE plan (
  tenant_id      uuid NOT NULL REFERENCES tenant (tenant_id),
  plan_id        uuid NOT NULL,
  name           text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
  -- NULL: unlimited.
  limit_bytes    bigint CHECK (limit_bytes >= 0),
  period         text NOT NULL DEFAULT 'none' CHECK (period IN ('none', 'day', 'week', 'month')),
  duration_days  integer CHECK (duration_days BETWEEN 1 AND 36500),
  device_limit   integer NOT NULL DEFAULT 1 CHECK (device_limit BETWEEN 1 AND 256),
  engines        text[] NOT NULL CHECK (engines <@ ARRAY['xray', 'wireguard'] AND cardinality(engines) > 0),
  offline_policy text NOT NULL DEFAULT 'deny' CHECK (offline_policy IN ('deny', 'grace')),
  version        integer NOT NULL DEFAULT 1,
  created_at     timestamptz NOT NULL DEFAULT now(),
  archived_at    timestamptz,
  PRIMARY KEY (tenant_id, plan_id)
);

CREATE TABLE plan_node_group (
  tenant_id     uuid NOT NULL,
  plan_id       uuid NOT NULL,
  node_group_id uuid NOT NULL REFERENCES node_group (node_group_id),
  PRIMARY KEY (tenant_id, plan_id, node_group_id),
  FOREIGN KEY (tenant_id, plan_id) REFERENCES plan (tenant_id, plan_id)
);

-- Terms are copied from the plan when the subscription is made: a later edit of the plan changes nobody's contract.
CREATE TABLE subscription (
  tenant_id       uuid NOT NULL REFERENCES tenant (tenant_id),
  subscription_id uuid NOT NULL,
  plan_id         uuid NOT NULL,
  name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
  external_ref    text CHECK (length(external_ref) <= 200),
  admin_state     text NOT NULL DEFAULT 'active' CHECK (admin_state IN ('active', 'disabled', 'deleted')),
  limit_bytes     bigint CHECK (limit_bytes >= 0),
  period          text NOT NULL DEFAULT 'none' CHECK (period IN ('none', 'day', 'week', 'month')),
  engines         text[] NOT NULL CHECK (engines <@ ARRAY['xray', 'wireguard'] AND cardinality(engines) > 0),
  device_limit    integer NOT NULL DEFAULT 1,
  expires_at      timestamptz,
  -- AEAD, AAD = subscription, tenant, id. 32 random bytes from which each node's credentials are derived.
  secret          bytea NOT NULL,
  version         integer NOT NULL DEFAULT 1,
  created_at      timestamptz NOT NULL DEFAULT now(),
  deleted_at      timestamptz,
  PRIMARY KEY (tenant_id, subscription_id),
  FOREIGN KEY (tenant_id, plan_id) REFERENCES plan (tenant_id, plan_id)
);

-- A WireGuard key pair. private_key: AEAD when we made it; NULL when the customer keeps his own.
CREATE TABLE device (
  tenant_id       uuid NOT NULL,
  device_id       uuid NOT NULL,
  subscription_id uuid NOT NULL,
  name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
  public_key      bytea NOT NULL CHECK (length(public_key) = 32),
  private_key     bytea,
  created_at      timestamptz NOT NULL DEFAULT now(),
  removed_at      timestamptz,
  PRIMARY KEY (tenant_id, device_id),
  FOREIGN KEY (tenant_id, subscription_id) REFERENCES subscription (tenant_id, subscription_id)
);
CREATE INDEX device_subscription ON device (tenant_id, subscription_id);

-- A WireGuard key belongs to one living device of the whole installation: WireGuard knows a peer by its key alone, so
-- a second device with the same key would take the first one's place on a shared node. No tenant: a key is public.
CREATE TABLE device_key (
  public_key bytea PRIMARY KEY CHECK (length(public_key) = 32),
  device_id  uuid NOT NULL UNIQUE
);

-- What holds, decided by the scheduler.
CREATE TABLE subscription_state (
  tenant_id       uuid NOT NULL,
  subscription_id uuid NOT NULL,
  effective_state text NOT NULL CHECK (effective_state IN ('on_hold', 'active', 'limited', 'expired', 'disabled')),
  reason          text NOT NULL DEFAULT '',
  since           timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, subscription_id),
  FOREIGN KEY (tenant_id, subscription_id) REFERENCES subscription (tenant_id, subscription_id)
);

-- A stretch of time over which the quota counts. observed_bytes: the total a collector saw when it reported a
-- crossing; used = greatest(counter, observed), so a later recomputation never lets the customer back in.
CREATE TABLE usage_period (
  tenant_id       uuid NOT NULL,
  subscription_id uuid NOT NULL,
  period_id       uuid NOT NULL,
  started_at      timestamptz NOT NULL,
  ends_at         timestamptz,
  limit_bytes     bigint,
  observed_bytes  bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, subscription_id, period_id),
  FOREIGN KEY (tenant_id, subscription_id) REFERENCES subscription (tenant_id, subscription_id)
);
CREATE UNIQUE INDEX usage_period_start ON usage_period (tenant_id, subscription_id, started_at);

-- Which subscriptions a node serves, and served: a tombstone's late usage still finds its node.
CREATE TABLE assignment (
  tenant_id       uuid NOT NULL,
  node_id         uuid NOT NULL REFERENCES node (node_id),
  subscription_id uuid NOT NULL,
  assigned_at     timestamptz NOT NULL,
  ended_at        timestamptz,
  PRIMARY KEY (tenant_id, node_id, subscription_id),
  FOREIGN KEY (tenant_id, subscription_id) REFERENCES subscription (tenant_id, subscription_id)
);
CREATE INDEX assignment_node ON assignment (node_id);
CREATE INDEX assignment_subscription ON assignment (tenant_id, subscription_id);

-- Whatever may change who has access leaves a row here in the transaction of its cause. The scheduler consumes it.
CREATE TABLE access_change (
  tenant_id       uuid NOT NULL,
  change_id       uuid NOT NULL,
  -- NULL: everything of the node.
  subscription_id uuid,
  node_id         uuid,
  cause           text NOT NULL CHECK (cause IN ('edit', 'crossing', 'expiry', 'period', 'node', 'sweep')),
  period_id       uuid,
  observed_bytes  bigint,
  created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (tenant_id, change_id)
);

-- What the scheduler still has to tell a node: one row a subscription and node.
CREATE TABLE node_change (
  tenant_id       uuid NOT NULL,
  node_id         uuid NOT NULL,
  subscription_id uuid NOT NULL,
  cause           text NOT NULL,
  caused_at       timestamptz NOT NULL,
  -- A new value with each change, so that a change which arrives while a revision is made is not lost.
  generation      uuid NOT NULL,
  PRIMARY KEY (tenant_id, node_id, subscription_id)
);
CREATE INDEX node_change_node ON node_change (node_id);

-- Numbered desired states of a node.
CREATE TABLE revision (
  node_id         uuid NOT NULL REFERENCES node (node_id),
  revision        bigint NOT NULL,
  fence           bigint NOT NULL,
  digest          bytea NOT NULL,
  upserts         integer NOT NULL,
  removals        integer NOT NULL,
  created_at      timestamptz NOT NULL,
  sent_at         timestamptz,
  acknowledged_at timestamptz,
  applied_at      timestamptz,
  error_code      text,
  error_message   text,
  PRIMARY KEY (node_id, revision)
);

-- One change of access on one node, and its proof.
CREATE TABLE enforcement (
  tenant_id       uuid NOT NULL,
  subscription_id uuid NOT NULL,
  node_id         uuid NOT NULL,
  revision        bigint NOT NULL,
  kind            text NOT NULL CHECK (kind IN ('grant', 'cut')),
  cause           text NOT NULL,
  state           text NOT NULL DEFAULT 'ordered' CHECK (state IN ('ordered', 'confirmed', 'unproven', 'failed')),
  caused_at       timestamptz NOT NULL,
  ordered_at      timestamptz NOT NULL,
  acknowledged_at timestamptz,
  sessions_ended  integer,
  cut_us          integer,
  proven_us       integer,
  reason          text NOT NULL DEFAULT '',
  PRIMARY KEY (tenant_id, subscription_id, node_id, revision)
);
CREATE INDEX enforcement_open ON enforcement (node_id) WHERE state IN ('ordered', 'unproven');

CREATE FUNCTION notify_access_change() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_notify('access_change', ''); RETURN NULL; END $$;
CREATE TRIGGER access_change_notify AFTER INSERT ON access_change
  FOR EACH STATEMENT EXECUTE FUNCTION notify_access_change();

DO $$
DECLARE
  t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['plan', 'plan_node_group', 'subscription', 'device', 'subscription_state', 'usage_period',
                           'assignment', 'access_change', 'node_change', 'enforcement'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY tenant_of_transaction ON %I TO penstock_control_api
      USING (tenant_id = (SELECT app_tenant())) WITH CHECK (tenant_id = (SELECT app_tenant()))', t);
    EXECUTE format('CREATE POLICY sweep ON %I TO penstock_scheduler USING (true) WITH CHECK (true)', t);
  END LOOP;
  -- The collector sees the tenants that its nodes serve.
  FOREACH t IN ARRAY ARRAY['usage_period', 'access_change', 'subscription'] LOOP
    EXECUTE format('CREATE POLICY served_tenants ON %I TO penstock_collector
      USING (tenant_id = ANY ((SELECT app_tenants())::uuid[])) WITH CHECK (tenant_id = ANY ((SELECT app_tenants())::uuid[]))', t);
  END LOOP;
END
$$;
-- Where a node's tenants come from: asked by node before app.tenant_ids can be set.
CREATE POLICY sweep_assignments ON assignment FOR SELECT TO penstock_collector, penstock_reader USING (true);
CREATE POLICY sweep_reader ON subscription FOR SELECT TO penstock_reader USING (true);
CREATE POLICY sweep_reader ON subscription_state FOR SELECT TO penstock_reader USING (true);
CREATE POLICY sweep_reader ON usage_period FOR SELECT TO penstock_reader USING (true);
CREATE POLICY sweep_reader ON enforcement FOR SELECT TO penstock_reader USING (true);
CREATE POLICY sweep_reader ON plan FOR SELECT TO penstock_reader USING (true);

GRANT SELECT, INSERT, UPDATE ON plan, subscription, device TO penstock_control_api;
GRANT SELECT, INSERT, DELETE ON plan_node_group TO penstock_control_api;
GRANT SELECT, INSERT, DELETE ON device_key TO penstock_control_api;
GRANT SELECT ON revision TO penstock_control_api;
GRANT SELECT ON subscription_state, usage_period, assignment, enforcement TO penstock_control_api;
GRANT INSERT ON access_change TO penstock_control_api, penstock_collector;
GRANT SELECT ON plan, plan_node_group, subscription, device TO penstock_scheduler;
GRANT SELECT, INSERT, UPDATE ON subscription_state, usage_period, assignment, enforcement, revision TO penstock_scheduler;
GRANT SELECT, INSERT, UPDATE, DELETE ON access_change, node_change TO penstock_scheduler;
GRANT SELECT ON usage_period, assignment TO penstock_collector;
GRANT SELECT (tenant_id, subscription_id, admin_state) ON subscription TO penstock_collector;
GRANT SELECT (tenant_id, subscription_id, plan_id, name, external_ref, admin_state, limit_bytes, period, engines,
  expires_at, created_at, deleted_at) ON subscription TO penstock_reader;
GRANT SELECT ON plan, subscription_state, usage_period, assignment, enforcement, revision TO penstock_reader;
