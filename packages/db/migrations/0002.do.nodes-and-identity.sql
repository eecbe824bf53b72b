-- Nodes and their certificates. node, node_group, inbound, join_token: control-api writes. certificate: scheduler.
CREATE TABLE node (
  node_id              uuid PRIMARY KEY,
  -- NULL: the operator's own, shared by all tenants.
  owner_tenant_id      uuid REFERENCES tenant (tenant_id),
  name                 text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
  -- Host name or address that customers connect to.
  address              text NOT NULL,
  state                text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'drain', 'maintenance', 'revoked')),
  -- Billable bytes = raw × multiplier / 1000.
  multiplier_per_mille integer NOT NULL DEFAULT 1000 CHECK (multiplier_per_mille BETWEEN 0 AND 100000),
  -- Above this rate usage is implausible and quarantined.
  link_mbps            integer NOT NULL DEFAULT 10000 CHECK (link_mbps > 0),
  version              integer NOT NULL DEFAULT 1,
  created_at           timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE node_group (
  node_group_id   uuid PRIMARY KEY,
  owner_tenant_id uuid REFERENCES tenant (tenant_id),
  name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
  created_at      timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE node_group_node (
  node_group_id uuid NOT NULL REFERENCES node_group (node_group_id),
  node_id       uuid NOT NULL REFERENCES node (node_id),
  PRIMARY KEY (node_group_id, node_id)
);
CREATE INDEX node_group_node_node ON node_group_node (node_id);

-- A listening protocol of an engine on a node. settings: what may be read; secret: AEAD, AAD = inbound, node, tag.
CREATE TABLE inbound (
  node_id  uuid NOT NULL REFERENCES node (node_id),
  tag      text NOT NULL CHECK (tag ~ '^[a-z0-9-]{1,40}$'),
  engine   text NOT NULL CHECK (engine IN ('xray', 'wireguard')),
  port     integer NOT NULL CHECK (port BETWEEN 1 AND 65535),
  settings jsonb NOT NULL DEFAULT '{}',
  secret   bytea,
  PRIMARY KEY (node_id, tag)
);

CREATE TABLE join_token (
  tenant_id     uuid NOT NULL REFERENCES tenant (tenant_id),
  join_token_id uuid NOT NULL,
  node_id       uuid NOT NULL REFERENCES node (node_id),
  expires_at    timestamptz NOT NULL,
  revoked_at    timestamptz,
  created_by    uuid,
  created_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, join_token_id)
);

-- Single use of a join token is the unique key here, in the transaction that signs.
CREATE TABLE certificate (
  serial          bytea PRIMARY KEY CHECK (length(serial) = 16),
  node_id         uuid NOT NULL REFERENCES node (node_id),
  join_token_id   uuid UNIQUE,
  public_key_hash bytea NOT NULL,
  der             bytea NOT NULL,
  not_before      timestamptz NOT NULL,
  not_after       timestamptz NOT NULL,
  issued_at       timestamptz NOT NULL DEFAULT now(),
  revoked_at      timestamptz,
  revoke_reason   text
);
CREATE INDEX certificate_node ON certificate (node_id);

-- Who serves a node's Enforcement stream. The fence only grows; every revision and acknowledgement write checks it.
CREATE TABLE node_lease (
  node_id    uuid PRIMARY KEY REFERENCES node (node_id),
  fence      bigint NOT NULL,
  holder     text NOT NULL,
  renewed_at timestamptz NOT NULL
);

-- What the node last said of itself. Aggregates only.
CREATE TABLE node_status (
  node_id           uuid PRIMARY KEY REFERENCES node (node_id),
  heartbeat_at      timestamptz NOT NULL,
  agent_version     text NOT NULL,
  applied_revision  bigint NOT NULL,
  subscriptions     integer NOT NULL,
  engines           jsonb NOT NULL,
  wal_bytes         bigint NOT NULL,
  wal_frames        integer NOT NULL,
  acknowledged_seq  bigint NOT NULL,
  clock_skew_ms     integer NOT NULL
);

-- Address of a device on a node (IPAM). No tenant: an address is the node's.
CREATE TABLE node_address (
  node_id     uuid NOT NULL REFERENCES node (node_id),
  address     inet NOT NULL,
  device_id   uuid NOT NULL,
  released_at timestamptz,
  PRIMARY KEY (node_id, address)
);
CREATE UNIQUE INDEX node_address_device ON node_address (node_id, device_id) WHERE released_at IS NULL;

ALTER TABLE node ENABLE ROW LEVEL SECURITY;
ALTER TABLE node FORCE ROW LEVEL SECURITY;
ALTER TABLE node_group ENABLE ROW LEVEL SECURITY;
ALTER TABLE node_group FORCE ROW LEVEL SECURITY;
ALTER TABLE node_group_node ENABLE ROW LEVEL SECURITY;
ALTER TABLE node_group_node FORCE ROW LEVEL SECURITY;
ALTER TABLE inbound ENABLE ROW LEVEL SECURITY;
ALTER TABLE inbound FORCE ROW LEVEL SECURITY;
ALTER TABLE join_token ENABLE ROW LEVEL SECURITY;
ALTER TABLE join_token FORCE ROW LEVEL SECURITY;

-- A tenant sees its own nodes and the shared ones; it changes its own only. The operator changes the shared ones.
CREATE POLICY visible ON node FOR SELECT TO penstock_control_api
  USING ((SELECT app_tenant()) IS NOT NULL
         AND (owner_tenant_id IS NULL OR owner_tenant_id = (SELECT app_tenant()) OR (SELECT app_is_platform())));
CREATE POLICY own_insert ON node FOR INSERT TO penstock_control_api
  WITH CHECK (owner_tenant_id = (SELECT app_tenant()) OR (SELECT app_is_platform()));
CREATE POLICY own_update ON node FOR UPDATE TO penstock_control_api
  USING (owner_tenant_id = (SELECT app_tenant()) OR (SELECT app_is_platform()))
  WITH CHECK (owner_tenant_id = (SELECT app_tenant()) OR (SELECT app_is_platform()));
CREATE POLICY visible ON node_group FOR SELECT TO penstock_control_api
  USING ((SELECT app_tenant()) IS NOT NULL
         AND (owner_tenant_id IS NULL OR owner_tenant_id = (SELECT app_tenant()) OR (SELECT app_is_platform())));
CREATE POLICY own_insert ON node_group FOR INSERT TO penstock_control_api
  WITH CHECK (owner_tenant_id = (SELECT app_tenant()) OR (SELECT app_is_platform()));
CREATE POLICY own_update ON node_group FOR UPDATE TO penstock_control_api
  USING (owner_tenant_id = (SELECT app_tenant()) OR (SELECT app_is_platform()))
  WITH CHECK (owner_tenant_id = (SELECT app_tenant()) OR (SELECT app_is_platform()));
-- Membership and inbounds are visible as their group and node are; their owner alone changes them.
CREATE POLICY visible ON node_group_node FOR SELECT TO penstock_control_api
  USING (EXISTS (SELECT FROM node_group g WHERE g.node_group_id = node_group_node.node_group_id));
CREATE POLICY own_insert ON node_group_node FOR INSERT TO penstock_control_api
  WITH CHECK (EXISTS (SELECT FROM node_group g WHERE g.node_group_id = node_group_node.node_group_id
                AND (g.owner_tenant_id = (SELECT app_tenant()) OR (SELECT app_is_platform())))
              AND EXISTS (SELECT FROM node n WHERE n.node_id = node_group_node.node_id
                AND (n.owner_tenant_id = (SELECT app_tenant()) OR (SELECT app_is_platform()))));
CREATE POLICY own_delete ON node_group_node FOR DELETE TO penstock_control_api
  USING (EXISTS (SELECT FROM node_group g WHERE g.node_group_id = node_group_node.node_group_id
           AND (g.owner_tenant_id = (SELECT app_tenant()) OR (SELECT app_is_platform()))));
CREATE POLICY visible ON inbound FOR SELECT TO penstock_control_api
  USING (EXISTS (SELECT FROM node n WHERE n.node_id = inbound.node_id));
CREATE POLICY own_insert ON inbound FOR INSERT TO penstock_control_api
  WITH CHECK (EXISTS (SELECT FROM node n WHERE n.node_id = inbound.node_id
                AND (n.owner_tenant_id = (SELECT app_tenant()) OR (SELECT app_is_platform()))));
CREATE POLICY own_update ON inbound FOR UPDATE TO penstock_control_api
  USING (EXISTS (SELECT FROM node n WHERE n.node_id = inbound.node_id
           AND (n.owner_tenant_id = (SELECT app_tenant()) OR (SELECT app_is_platform()))));
CREATE POLICY own_delete ON inbound FOR DELETE TO penstock_control_api
  USING (EXISTS (SELECT FROM node n WHERE n.node_id = inbound.node_id
           AND (n.owner_tenant_id = (SELECT app_tenant()) OR (SELECT app_is_platform()))));
CREATE POLICY tenant_of_transaction ON join_token TO penstock_control_api
  USING (tenant_id = (SELECT app_tenant()))
  WITH CHECK (tenant_id = (SELECT app_tenant())
              AND EXISTS (SELECT FROM node n WHERE n.node_id = join_token.node_id
                AND (n.owner_tenant_id = (SELECT app_tenant()) OR (SELECT app_is_platform()))));

CREATE POLICY sweep ON node TO penstock_scheduler, penstock_collector, penstock_reader USING (true);
CREATE POLICY sweep ON node_group FOR SELECT TO penstock_scheduler, penstock_reader USING (true);
CREATE POLICY sweep ON node_group_node FOR SELECT TO penstock_scheduler, penstock_reader USING (true);
CREATE POLICY sweep ON inbound FOR SELECT TO penstock_scheduler USING (true);
CREATE POLICY sweep ON join_token FOR SELECT TO penstock_scheduler USING (true);

GRANT SELECT, INSERT, UPDATE ON node, node_group, inbound, join_token TO penstock_control_api;
GRANT SELECT, INSERT, DELETE ON node_group_node TO penstock_control_api;
GRANT DELETE ON inbound TO penstock_control_api;
GRANT SELECT ON node_status TO penstock_control_api, penstock_reader;
GRANT SELECT ON node, node_group, node_group_node, inbound, join_token TO penstock_scheduler;
-- Revocation is the scheduler's; it marks the node too.
GRANT UPDATE (state) ON node TO penstock_scheduler;
GRANT SELECT, INSERT, UPDATE ON certificate, node_lease, node_status, node_address TO penstock_scheduler;
GRANT SELECT ON node TO penstock_collector, penstock_reader;
GRANT SELECT (serial, node_id, public_key_hash, der, not_before, not_after, revoked_at) ON certificate TO penstock_collector;
-- Links and pages show the device's address on a node.
GRANT SELECT ON node_address TO penstock_control_api;
