-- Accepted frames and slices, and what is derived from them. The collector is the only writer.

-- The end of a node's stream. Locked first by every append (lock order: stream_head → watermark → usage_counter →
-- access_change, keys ascending).
CREATE TABLE stream_head (
  node_id       uuid PRIMARY KEY REFERENCES node (node_id),
  epoch         integer NOT NULL,
  seq           bigint NOT NULL,
  digest        bytea NOT NULL,
  fence         bigint NOT NULL,
  holder        text NOT NULL,
  frozen_at     timestamptz,
  frozen_reason text,
  accepted_at   timestamptz NOT NULL
);

-- How far derived state has come. A flush moves it (WHERE seq = old AND fence = mine) in the transaction that writes
-- the sums; whatever lies above is read again from the ledger.
CREATE TABLE stream_watermark (
  node_id uuid NOT NULL REFERENCES node (node_id),
  kind    text NOT NULL CHECK (kind IN ('counter', 'series')),
  epoch   integer NOT NULL,
  seq     bigint NOT NULL,
  fence   bigint NOT NULL,
  PRIMARY KEY (node_id, kind)
);

-- One window of one node. The bytes that were hashed are the bytes stored.
CREATE TABLE ledger_frame (
  accepted_on date NOT NULL,
  node_id     uuid NOT NULL,
  epoch       integer NOT NULL,
  seq         bigint NOT NULL,
  accepted_at timestamptz NOT NULL,
  digest      bytea NOT NULL,
  prev_digest bytea NOT NULL,
  header      bytea NOT NULL,
  signature   bytea NOT NULL,
  -- Bit 0: the node's clock was implausible.
  flags       smallint NOT NULL DEFAULT 0,
  traceparent text
) PARTITION BY RANGE (accepted_on);
CREATE INDEX ledger_frame_stream ON ledger_frame (node_id, epoch, seq);

-- The samples of one tenant in one frame, as byte columns (layout: packages/ledger/src/frame.ts).
CREATE TABLE ledger_slice (
  tenant_id   uuid NOT NULL,
  accepted_on date NOT NULL,
  node_id     uuid NOT NULL,
  epoch       integer NOT NULL,
  seq         bigint NOT NULL,
  opened      integer NOT NULL,
  rows        integer NOT NULL,
  digest      bytea NOT NULL,
  prev_digest bytea NOT NULL,
  payload     bytea NOT NULL
) PARTITION BY RANGE (accepted_on);
CREATE INDEX ledger_slice_stream ON ledger_slice (node_id, epoch, seq);
ALTER TABLE ledger_slice ALTER COLUMN payload SET STORAGE EXTERNAL;

-- Last slice of a tenant on a node: what the next one must link to.
CREATE TABLE slice_head (
  tenant_id uuid NOT NULL,
  node_id   uuid NOT NULL REFERENCES node (node_id),
  digest    bytea NOT NULL,
  PRIMARY KEY (tenant_id, node_id)
) WITH (fillfactor = 60);
CREATE INDEX slice_head_node ON slice_head (node_id);

-- Stretches whose bytes nobody can know: an engine died, a journal record was lost. Booked, never guessed.
CREATE TABLE loss_mark (
  node_id uuid NOT NULL REFERENCES node (node_id),
  epoch   integer NOT NULL,
  seq     bigint NOT NULL,
  ordinal integer NOT NULL,
  kind    text NOT NULL CHECK (kind IN ('engine_died', 'record_lost')),
  engine  text,
  from_at timestamptz NOT NULL,
  to_at   timestamptz NOT NULL,
  PRIMARY KEY (node_id, epoch, seq, ordinal)
);

-- Derived: one life of one engine counter and how far it has come (kind 'counter' watermark).
CREATE TABLE meter (
  tenant_id       uuid NOT NULL,
  node_id         uuid NOT NULL REFERENCES node (node_id),
  epoch           integer NOT NULL,
  meter           bigint NOT NULL,
  engine          smallint NOT NULL,
  boot            bytea NOT NULL,
  subscription_id uuid NOT NULL,
  device_id       uuid,
  cumulative_up   bigint NOT NULL,
  cumulative_down bigint NOT NULL,
  PRIMARY KEY (tenant_id, node_id, epoch, meter)
) WITH (fillfactor = 60);
CREATE INDEX meter_node ON meter (node_id, epoch);

-- Derived: bytes of a subscription in one period. It grows, it is never set to zero.
CREATE TABLE usage_counter (
  tenant_id       uuid NOT NULL,
  subscription_id uuid NOT NULL,
  period_id       uuid NOT NULL,
  up_bytes        bigint NOT NULL,
  down_bytes      bigint NOT NULL,
  billable_bytes  bigint NOT NULL,
  updated_at      timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, subscription_id, period_id)
) WITH (fillfactor = 60);

-- Usage that is kept but not billed until somebody releases it.
CREATE TABLE usage_quarantine (
  tenant_id       uuid NOT NULL,
  node_id         uuid NOT NULL,
  epoch           integer NOT NULL,
  seq             bigint NOT NULL,
  subscription_id uuid NOT NULL,
  engine          smallint NOT NULL,
  up_bytes        bigint NOT NULL,
  down_bytes      bigint NOT NULL,
  reason          text NOT NULL CHECK (reason IN ('not_assigned', 'above_link_rate', 'no_period')),
  created_at      timestamptz NOT NULL,
  released_at     timestamptz,
  PRIMARY KEY (tenant_id, node_id, epoch, seq, subscription_id, engine)
);

-- Makes the day partitions of the ledger for `days` days from `first`, built beside and attached. Returns how many
-- were made. Rows of a day that fell into the default partition meanwhile (nobody made partitions for a fortnight) move
-- into theirs. Run by the owner (migrations) and by the scheduler's partition login.
CREATE FUNCTION make_partitions(first date, days integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  parent text;
  d date;
  name text;
  made integer := 0;
BEGIN
  FOREACH parent IN ARRAY ARRAY['ledger_frame', 'ledger_slice'] LOOP
    FOR i IN 0 .. days - 1 LOOP
      d := first + i;
      name := parent || '_' || to_char(d, 'YYYYMMDD');
      CONTINUE WHEN to_regclass(name) IS NOT NULL;
      EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', name, parent);
      -- The owner moves rows before row security is forced on either side; both changes are one transaction.
      EXECUTE format('ALTER TABLE %I NO FORCE ROW LEVEL SECURITY', parent || '_default');
      EXECUTE format('ALTER TABLE %I DISABLE TRIGGER append_only', parent || '_default');
      EXECUTE format('WITH moved AS (DELETE FROM %I WHERE accepted_on = %L RETURNING *) INSERT INTO %I SELECT * FROM moved',
        parent || '_default', d, name);
      EXECUTE format('ALTER TABLE %I ENABLE TRIGGER append_only', parent || '_default');
      EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', parent || '_default');
      EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
      EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
      EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, name, d, d + 1);
      EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %I
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', name);
      made := made + 1;
    END LOOP;
  END LOOP;
  RETURN made;
END
$$;
REVOKE ALL ON FUNCTION make_partitions(date, integer) FROM PUBLIC;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_frame
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_slice
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- A missing day never loses a slice: it lands here, and an alarm says so.
CREATE TABLE ledger_frame_default PARTITION OF ledger_frame DEFAULT;
CREATE TABLE ledger_slice_default PARTITION OF ledger_slice DEFAULT;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_frame_default
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_slice_default
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

DO $$
DECLARE
  t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['ledger_slice', 'ledger_slice_default', 'slice_head', 'meter', 'usage_counter',
                           'usage_quarantine'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
  END LOOP;
  FOREACH t IN ARRAY ARRAY['ledger_slice', 'slice_head', 'meter', 'usage_counter', 'usage_quarantine'] LOOP
    EXECUTE format('CREATE POLICY served_tenants ON %I TO penstock_collector
      USING (tenant_id = ANY ((SELECT app_tenants())::uuid[])) WITH CHECK (tenant_id = ANY ((SELECT app_tenants())::uuid[]))', t);
    EXECUTE format('CREATE POLICY tenant_of_transaction ON %I FOR SELECT TO penstock_control_api
      USING (tenant_id = (SELECT app_tenant()))', t);
    EXECUTE format('CREATE POLICY sweep_reader ON %I FOR SELECT TO penstock_reader USING (true)', t);
  END LOOP;
END
$$;
CREATE POLICY sweep ON usage_counter FOR SELECT TO penstock_scheduler USING (true);

GRANT SELECT, INSERT ON ledger_frame, ledger_slice, loss_mark, usage_quarantine TO penstock_collector;
GRANT SELECT, INSERT, UPDATE ON stream_head, stream_watermark, slice_head, meter, usage_counter TO penstock_collector;
GRANT SELECT ON usage_counter, usage_quarantine TO penstock_control_api;
GRANT SELECT ON usage_counter, stream_head TO penstock_scheduler;
GRANT SELECT ON ledger_frame, ledger_slice, loss_mark, usage_quarantine, stream_head, stream_watermark, slice_head,
  meter, usage_counter TO penstock_reader;
GRANT SELECT (serial, node_id, der, not_before, not_after, revoked_at) ON certificate TO penstock_reader;

SELECT make_partitions(current_date - 1, 16);
