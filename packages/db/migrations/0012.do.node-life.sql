-- Life of nodes after their registration: names, deletion, multipliers with a history, inbounds that change, nodes that
-- ask to be attested again, frozen streams and quarantined usage that somebody releases.

-- A name is one node's (or group's) of its owner, compared as nameKey() writes it. A revoked node gives its name free.
-- Deleted: a tombstone, because the ledger still names the node.
ALTER TABLE node ADD COLUMN name_key text, ADD COLUMN deleted_at timestamptz CHECK (deleted_at IS NULL OR state = 'revoked');
ALTER TABLE node_group ADD COLUMN name_key text, ADD COLUMN version integer NOT NULL DEFAULT 1;

-- The multiplier that usage is billed with is the one in force at the end of its window, whenever it is counted. Rows are
-- never changed, so counting the same window again gives the same bytes.
CREATE TABLE node_multiplier (
  node_id   uuid NOT NULL REFERENCES node (node_id),
  from_at   timestamptz NOT NULL,
  per_mille integer NOT NULL CHECK (per_mille BETWEEN 0 AND 100000),
  PRIMARY KEY (node_id, from_at)
);

-- Row security is forced on the owner too, who has no policy; for this transaction it is not.
ALTER TABLE node NO FORCE ROW LEVEL SECURITY;
ALTER TABLE node_group NO FORCE ROW LEVEL SECURITY;
ALTER TABLE inbound NO FORCE ROW LEVEL SECURITY;
UPDATE node n SET name_key = k.key
  FROM (SELECT node_id, lower(normalize(btrim(name), NFKC)) AS key,
               row_number() OVER (PARTITION BY owner_tenant_id, lower(normalize(btrim(name), NFKC)) ORDER BY node_id) AS nth
          FROM node WHERE state <> 'revoked') k
 WHERE k.node_id = n.node_id AND k.nth = 1;
UPDATE node_group g SET name_key = k.key
  FROM (SELECT node_group_id, lower(normalize(btrim(name), NFKC)) AS key,
               row_number() OVER (PARTITION BY owner_tenant_id, lower(normalize(btrim(name), NFKC)) ORDER BY node_group_id) AS nth
          FROM node_group) k
 WHERE k.node_group_id = g.node_group_id AND k.nth = 1;
INSERT INTO node_multiplier (node_id, from_at, per_mille) SELECT node_id, '-infinity', multiplier_per_mille FROM node;
-- A device with the key of a node could never be its peer: the keys of the nodes that exist are claimed too.
INSERT INTO device_key (public_key, device_id)
  SELECT DISTINCT ON (node_id) decode(settings ->> 'publicKey', 'base64'), node_id FROM inbound
   WHERE engine = 'wireguard' AND length(decode(settings ->> 'publicKey', 'base64')) = 32 ORDER BY node_id, tag
  ON CONFLICT DO NOTHING;
ALTER TABLE node FORCE ROW LEVEL SECURITY;
ALTER TABLE node_group FORCE ROW LEVEL SECURITY;
ALTER TABLE inbound FORCE ROW LEVEL SECURITY;

CREATE UNIQUE INDEX node_name ON node
  (coalesce(owner_tenant_id, '00000000-0000-0000-0000-000000000000'::uuid), name_key) WHERE state <> 'revoked';
CREATE UNIQUE INDEX node_group_name ON node_group
  (coalesce(owner_tenant_id, '00000000-0000-0000-0000-000000000000'::uuid), name_key);

-- Five minutes ahead: no collector judges a window by terms that it read more than a minute ago, and none takes a window
-- that ends more than two minutes from now, so all of them know the change before the first window that it is for.
CREATE FUNCTION keep_multiplier() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO node_multiplier (node_id, from_at, per_mille) VALUES (NEW.node_id, '-infinity', NEW.multiplier_per_mille);
  ELSIF NEW.multiplier_per_mille <> OLD.multiplier_per_mille THEN
    INSERT INTO node_multiplier (node_id, from_at, per_mille)
    VALUES (NEW.node_id, clock_timestamp() + interval '5 minutes', NEW.multiplier_per_mille);
  END IF;
  RETURN NULL;
END
$$;
CREATE TRIGGER node_multiplier_history AFTER INSERT OR UPDATE OF multiplier_per_mille ON node
  FOR EACH ROW EXECUTE FUNCTION keep_multiplier();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON node_multiplier
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The rule of the agent (node-agent, engines/xray/config.ts): a tag that is stored is one that starts.
ALTER TABLE inbound DROP CONSTRAINT inbound_tag_check;
ALTER TABLE inbound ADD CONSTRAINT inbound_tag_check
  CHECK (tag ~ '^[a-z0-9][a-z0-9-]{0,31}$' AND tag NOT IN ('api', 'direct', 'blocked'));

-- A node whose certificate ran out asks for a new one by its old key (scheduler). An admin approves that one new key
-- (control-api); the request ends with the certificate.
CREATE TABLE reattest_request (
  node_id         uuid PRIMARY KEY REFERENCES node (node_id),
  public_key_hash bytea NOT NULL CHECK (length(public_key_hash) = 32),
  expired_at      timestamptz NOT NULL,
  asked_at        timestamptz NOT NULL,
  address         text NOT NULL DEFAULT '',
  approved_at     timestamptz,
  approved_by     uuid
);

-- Somebody wants a frozen stream to go on (control-api). The collector takes the row when the node opens its stream;
-- frozen_at says which freeze was meant, so that an old wish never releases a new one.
CREATE TABLE stream_release (
  node_id   uuid PRIMARY KEY REFERENCES node (node_id),
  frozen_at timestamptz NOT NULL,
  asked_at  timestamptz NOT NULL,
  asked_by  uuid
);

-- Quarantined usage that is to be billed after all (control-api). The collector bills it and takes the row away in the
-- transaction that sets usage_quarantine.released_at.
CREATE TABLE quarantine_release (
  tenant_id     uuid NOT NULL,
  quarantine_id uuid NOT NULL,
  asked_at      timestamptz NOT NULL,
  asked_by      uuid,
  PRIMARY KEY (tenant_id, quarantine_id)
);
ALTER TABLE usage_quarantine ADD COLUMN quarantine_id uuid NOT NULL DEFAULT gen_random_uuid();
CREATE UNIQUE INDEX usage_quarantine_id ON usage_quarantine (tenant_id, quarantine_id);

-- What waits of crossings is found without a walk through everything else that waits.
CREATE INDEX access_change_crossing ON access_change (change_id) WHERE cause = 'crossing';

DO $$
DECLARE
  t text;
  mine text := 'EXISTS (SELECT FROM node n WHERE n.node_id = %I.node_id
    AND (n.owner_tenant_id = (SELECT app_tenant()) OR (SELECT app_is_platform())))';
BEGIN
  FOREACH t IN ARRAY ARRAY['node_multiplier', 'reattest_request', 'stream_release', 'certificate', 'stream_head',
                           'quarantine_release'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
  END LOOP;
  -- Only the owner of a node sees what its certificate, its stream and its requests are like.
  FOREACH t IN ARRAY ARRAY['reattest_request', 'stream_release', 'certificate', 'stream_head'] LOOP
    EXECUTE format('CREATE POLICY own ON %I FOR SELECT TO penstock_control_api USING (' || mine || ')', t, t);
  END LOOP;
  EXECUTE format('CREATE POLICY own_update ON reattest_request FOR UPDATE TO penstock_control_api
    USING (' || mine || ') WITH CHECK (' || mine || ')', 'reattest_request', 'reattest_request');
  FOREACH t IN ARRAY ARRAY['stream_release', 'node_multiplier'] LOOP
    EXECUTE format('CREATE POLICY own_insert ON %I FOR INSERT TO penstock_control_api WITH CHECK (' || mine || ')', t, t);
  END LOOP;
END
$$;
CREATE POLICY visible ON node_multiplier FOR SELECT TO penstock_control_api
  USING (EXISTS (SELECT FROM node n WHERE n.node_id = node_multiplier.node_id));
CREATE POLICY sweep ON node_multiplier FOR SELECT TO penstock_collector, penstock_reader USING (true);
CREATE POLICY sweep ON reattest_request TO penstock_scheduler USING (true) WITH CHECK (true);
CREATE POLICY sweep ON stream_release TO penstock_collector USING (true) WITH CHECK (true);
CREATE POLICY sweep ON certificate TO penstock_scheduler USING (true) WITH CHECK (true);
CREATE POLICY sweep_readers ON certificate FOR SELECT TO penstock_collector, penstock_reader USING (true);
CREATE POLICY sweep ON stream_head TO penstock_collector USING (true) WITH CHECK (true);
CREATE POLICY sweep_readers ON stream_head FOR SELECT TO penstock_scheduler, penstock_reader USING (true);
CREATE POLICY tenant_of_transaction ON quarantine_release TO penstock_control_api
  USING (tenant_id = (SELECT app_tenant())) WITH CHECK (tenant_id = (SELECT app_tenant()));
-- The collector finds by it which tenants it has to set.
CREATE POLICY sweep ON quarantine_release TO penstock_collector USING (true);
CREATE POLICY own_delete ON node_group FOR DELETE TO penstock_control_api
  USING (owner_tenant_id = (SELECT app_tenant()) OR (SELECT app_is_platform()));

GRANT SELECT, INSERT ON node_multiplier TO penstock_control_api;
GRANT SELECT ON node_multiplier TO penstock_collector, penstock_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON reattest_request TO penstock_scheduler;
GRANT SELECT, UPDATE (approved_at, approved_by) ON reattest_request TO penstock_control_api;
GRANT SELECT, INSERT ON stream_release TO penstock_control_api;
GRANT SELECT, DELETE ON stream_release TO penstock_collector;
GRANT SELECT, INSERT ON quarantine_release TO penstock_control_api;
GRANT SELECT, DELETE ON quarantine_release TO penstock_collector;
GRANT UPDATE (released_at) ON usage_quarantine TO penstock_collector;
GRANT SELECT (serial, node_id, join_token_id, issued_at, not_before, not_after, revoked_at) ON certificate
  TO penstock_control_api;
GRANT SELECT (node_id, epoch, seq, accepted_at, frozen_at, frozen_reason) ON stream_head TO penstock_control_api;
GRANT DELETE ON node_group TO penstock_control_api;
-- The scheduler revokes: another state is another version of the node.
GRANT UPDATE (version) ON node TO penstock_scheduler;
