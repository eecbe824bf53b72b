-- Time series of usage, and the monthly statements made of them.
--
-- An hour and a day are the tenant's own: hours begin on the full hour of its time zone (in India at :30 UTC), and the
-- day is written down with the hour when it is first counted. So a later change of the zone neither doubles nor loses
-- a byte: every row lies in exactly one day, and so in exactly one month's statement.

-- A zone that this server does not know counts as UTC: a typo must not stop the flush of everybody's usage.
CREATE FUNCTION known_zone(zone text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
  PERFORM now() AT TIME ZONE zone;
  RETURN zone;
EXCEPTION WHEN OTHERS THEN
  RETURN 'UTC';
END
$$;

-- Written by the collector under the stream's watermark of kind 'series': one writer a node. Kept as long as the
-- platform's settings say (400 days).
CREATE TABLE usage_hour (
  tenant_id       uuid NOT NULL,
  day             date NOT NULL,
  subscription_id uuid NOT NULL,
  hour            timestamptz NOT NULL,
  node_id         uuid NOT NULL,
  engine          smallint NOT NULL,
  up_bytes        bigint NOT NULL,
  down_bytes      bigint NOT NULL,
  billable_bytes  bigint NOT NULL,
  PRIMARY KEY (tenant_id, day, subscription_id, hour, node_id, engine)
) PARTITION BY RANGE (day);

-- The same without subscriptions, in the same statement: a few rows a flush, so that charts of a tenant, a node or an
-- engine do not read a hundred thousand subscriptions. Kept for ever.
CREATE TABLE usage_node_hour (
  tenant_id      uuid NOT NULL,
  day            date NOT NULL,
  hour           timestamptz NOT NULL,
  node_id        uuid NOT NULL,
  engine         smallint NOT NULL,
  up_bytes       bigint NOT NULL,
  down_bytes     bigint NOT NULL,
  billable_bytes bigint NOT NULL,
  updated_at     timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, day, hour, node_id, engine)
);
CREATE INDEX usage_node_hour_updated ON usage_node_hour (updated_at);
CREATE INDEX usage_node_hour_hour ON usage_node_hour (hour);

-- Days out of usage_hour, made again by the scheduler when an hour of them grew. Kept for ever.
CREATE TABLE usage_day (
  tenant_id       uuid NOT NULL,
  day             date NOT NULL,
  subscription_id uuid NOT NULL,
  node_id         uuid NOT NULL,
  engine          smallint NOT NULL,
  up_bytes        bigint NOT NULL,
  down_bytes      bigint NOT NULL,
  billable_bytes  bigint NOT NULL,
  PRIMARY KEY (tenant_id, day, subscription_id, node_id, engine)
);

-- What usage_day holds of a node's day: equal to the sum of usage_node_hour when nothing is to be done.
CREATE TABLE usage_rolled (
  tenant_id   uuid NOT NULL,
  day         date NOT NULL,
  node_id     uuid NOT NULL,
  total_bytes numeric NOT NULL,
  rolled_at   timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, day, node_id)
);
CREATE INDEX usage_rolled_at ON usage_rolled (rolled_at);

-- Makes the month partitions of usage_hour from the month of `first` on, built beside and attached; rows that had to go
-- to the default partition meanwhile move into theirs. Returns how many were made.
CREATE FUNCTION make_series_partitions(first date, months integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  d date;
  name text;
  made integer := 0;
BEGIN
  FOR i IN 0 .. months - 1 LOOP
    d := (date_trunc('month', first) + make_interval(months => i))::date;
    name := 'usage_hour_' || to_char(d, 'YYYYMM');
    CONTINUE WHEN to_regclass(name) IS NOT NULL;
    EXECUTE format('CREATE TABLE %I (LIKE usage_hour INCLUDING DEFAULTS INCLUDING CONSTRAINTS) WITH (fillfactor = 60)', name);
    -- The owner moves rows before row security is forced on either side; both changes are one transaction.
    ALTER TABLE usage_hour_default NO FORCE ROW LEVEL SECURITY;
    EXECUTE format('WITH moved AS (DELETE FROM usage_hour_default WHERE day >= %L AND day < %L RETURNING *)
      INSERT INTO %I SELECT * FROM moved', d, d + interval '1 month', name);
    ALTER TABLE usage_hour_default FORCE ROW LEVEL SECURITY;
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE usage_hour ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, d,
      (d + interval '1 month')::date);
    made := made + 1;
  END LOOP;
  RETURN made;
END
$$;
REVOKE ALL ON FUNCTION make_series_partitions(date, integer) FROM PUBLIC;

-- Drops the months of usage_hour that end before `before`. Returns how many.
CREATE FUNCTION drop_series_partitions(before date) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  name text;
  dropped integer := 0;
BEGIN
  FOR name IN
    SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'usage_hour'::regclass AND c.relname ~ '^usage_hour_[0-9]{6}$'
      AND c.relname < 'usage_hour_' || to_char(before, 'YYYYMM')
  LOOP
    EXECUTE format('DROP TABLE %I', name);
    dropped := dropped + 1;
  END LOOP;
  RETURN dropped;
END
$$;
REVOKE ALL ON FUNCTION drop_series_partitions(date) FROM PUBLIC;

-- Before this day only days are kept.
CREATE FUNCTION series_begin() RETURNS date LANGUAGE sql STABLE AS $$
  SELECT coalesce(min(to_date(right(c.relname, 6), 'YYYYMM')), '-infinity')
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
  WHERE i.inhparent = 'usage_hour'::regclass AND c.relname ~ '^usage_hour_[0-9]{6}$'
$$;

-- A missing month never loses an hour: it lands here.
CREATE TABLE usage_hour_default PARTITION OF usage_hour DEFAULT;

-- Keys that sign statements. private_key: Ed25519, PKCS #8, AEAD.
CREATE TABLE statement_key (
  key_id      uuid PRIMARY KEY,
  public_key  bytea NOT NULL,
  private_key bytea NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  retired_at  timestamptz
);

-- What a tenant used in one month of its time zone: closed once, signed, never changed. `header` is the signed text;
-- the columns repeat what is asked for.
CREATE TABLE statement (
  tenant_id      uuid NOT NULL REFERENCES tenant (tenant_id),
  statement_id   uuid NOT NULL,
  month          date NOT NULL CHECK (extract(day FROM month) = 1),
  time_zone      text NOT NULL,
  lines          integer NOT NULL,
  up_bytes       numeric NOT NULL,
  down_bytes     numeric NOT NULL,
  billable_bytes numeric NOT NULL,
  corrections    integer NOT NULL,
  closed_at      timestamptz NOT NULL,
  key_id         uuid NOT NULL REFERENCES statement_key (key_id),
  header         text NOT NULL,
  signature      bytea NOT NULL,
  digest         bytea NOT NULL,
  PRIMARY KEY (tenant_id, statement_id)
);
CREATE UNIQUE INDEX statement_month ON statement (tenant_id, month);

-- Usage of one subscription over one engine. A line whose month is not its statement's is a correction: usage that
-- arrived, or was released, after that month's own statement. Σ of all lines of a month = its usage.
CREATE TABLE statement_line (
  tenant_id       uuid NOT NULL,
  statement_id    uuid NOT NULL,
  month           date NOT NULL,
  subscription_id uuid NOT NULL,
  engine          smallint NOT NULL,
  up_bytes        bigint NOT NULL,
  down_bytes      bigint NOT NULL,
  billable_bytes  bigint NOT NULL,
  PRIMARY KEY (tenant_id, statement_id, month, subscription_id, engine)
);
CREATE INDEX statement_line_month ON statement_line (tenant_id, month, subscription_id, engine);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON statement
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON statement_line
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

DO $$
DECLARE
  t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['usage_hour', 'usage_hour_default', 'usage_node_hour', 'usage_day', 'usage_rolled',
                           'statement', 'statement_line'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
  END LOOP;
  FOREACH t IN ARRAY ARRAY['usage_hour', 'usage_node_hour', 'usage_day', 'usage_rolled', 'statement',
                           'statement_line'] LOOP
    EXECUTE format('CREATE POLICY tenant_of_transaction ON %I FOR SELECT TO penstock_control_api
      USING (tenant_id = (SELECT app_tenant()))', t);
    EXECUTE format('CREATE POLICY sweep_reader ON %I FOR SELECT TO penstock_reader USING (true)', t);
    EXECUTE format('CREATE POLICY sweep ON %I TO penstock_scheduler USING (true) WITH CHECK (true)', t);
  END LOOP;
  FOREACH t IN ARRAY ARRAY['usage_hour', 'usage_node_hour'] LOOP
    EXECUTE format('CREATE POLICY served_tenants ON %I TO penstock_collector
      USING (tenant_id = ANY ((SELECT app_tenants())::uuid[])) WITH CHECK (tenant_id = ANY ((SELECT app_tenants())::uuid[]))', t);
  END LOOP;
END
$$;
-- The operator's charts over all tenants: sums of nodes only, no subscriptions.
CREATE POLICY platform_reads ON usage_node_hour FOR SELECT TO penstock_control_api
  USING ((SELECT app_is_platform()));
-- The collector asks for the time zone of the tenants that it writes for.
CREATE POLICY served_tenants ON tenant FOR SELECT TO penstock_collector
  USING (tenant_id = ANY ((SELECT app_tenants())::uuid[]));

GRANT SELECT (tenant_id, time_zone) ON tenant TO penstock_collector;
GRANT SELECT, INSERT, UPDATE ON usage_hour, usage_node_hour TO penstock_collector;
GRANT SELECT ON usage_hour, usage_node_hour TO penstock_scheduler;
GRANT SELECT, INSERT, UPDATE ON usage_day, usage_rolled TO penstock_scheduler;
GRANT SELECT, INSERT ON statement, statement_line, statement_key TO penstock_scheduler;
GRANT UPDATE (retired_at) ON statement_key TO penstock_scheduler;
GRANT SELECT ON usage_hour, usage_node_hour, usage_day, statement, statement_line TO penstock_control_api;
GRANT SELECT (key_id, public_key, created_at, retired_at) ON statement_key TO penstock_control_api;
GRANT SELECT ON usage_hour, usage_node_hour, usage_day, usage_rolled, statement, statement_line TO penstock_reader;
GRANT SELECT (key_id, public_key, created_at, retired_at) ON statement_key TO penstock_reader;

-- Windows may be 35 days old.
SELECT make_series_partitions((current_date - interval '2 months')::date, 6);
