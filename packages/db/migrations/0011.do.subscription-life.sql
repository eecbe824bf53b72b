-- The life of a subscription: it may start at its first use, goes on in a next plan, is topped up, reset and renewed,
-- and its tenant may have a pool. control-api writes the contract and what was asked for (subscription_act); the
-- scheduler carries it out, each act exactly once.
ALTER TABLE plan
  -- What the name is compared by (packages/domain/src/name-key.ts); NULL: older than the comparison.
  ADD COLUMN name_key            text,
  ADD COLUMN starts_on_first_use boolean NOT NULL DEFAULT false,
  -- What a subscription goes on with when its own term or quota is over.
  ADD COLUMN next_plan_id        uuid,
  ADD FOREIGN KEY (tenant_id, next_plan_id) REFERENCES plan (tenant_id, plan_id);
CREATE UNIQUE INDEX plan_name ON plan (tenant_id, name_key) WHERE archived_at IS NULL;

ALTER TABLE subscription
  -- Its time has not begun: it may connect, and its first use begins it, or hold_deadline does.
  ADD COLUMN on_hold       boolean NOT NULL DEFAULT false,
  ADD COLUMN hold_deadline timestamptz,
  -- Days from its start; NULL: expires_at stands by itself.
  ADD COLUMN duration_days integer CHECK (duration_days BETWEEN 1 AND 36500),
  -- NULL when on hold, and for those made before there was a hold.
  ADD COLUMN activated_at  timestamptz,
  ADD COLUMN next_plan_id  uuid,
  -- The next plan goes on from the later of this and the end of the term.
  ADD COLUMN next_plan_at  timestamptz,
  ADD COLUMN erased_at     timestamptz,
  -- What lists sort and search by. Columns, because an index on an expression is no use under row security: lower() is
  -- not leakproof.
  ADD COLUMN name_fold     text COLLATE "C" GENERATED ALWAYS AS (lower(name)) STORED,
  ADD COLUMN ref_fold      text COLLATE "C" GENERATED ALWAYS AS (lower(external_ref)) STORED,
  ADD FOREIGN KEY (tenant_id, next_plan_id) REFERENCES plan (tenant_id, plan_id);

ALTER TABLE usage_period
  -- What was added to this period alone. limit_bytes includes it.
  ADD COLUMN extra_bytes bigint NOT NULL DEFAULT 0 CHECK (extra_bytes >= 0),
  -- A collector that bills the first real use in it says so.
  ADD COLUMN awaits_use  boolean NOT NULL DEFAULT false;

-- What was asked of a subscription or happened to it. done_at is set in the transaction that carries it out.
CREATE TABLE subscription_act (
  tenant_id       uuid NOT NULL,
  act_id          uuid NOT NULL,
  subscription_id uuid NOT NULL,
  kind            text NOT NULL CHECK (kind IN ('reset', 'renew', 'top_up', 'start', 'next_plan')),
  bytes           bigint CHECK (bytes > 0),
  plan_id         uuid,
  requested_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  done_at         timestamptz,
  PRIMARY KEY (tenant_id, act_id),
  FOREIGN KEY (tenant_id, subscription_id) REFERENCES subscription (tenant_id, subscription_id)
);
CREATE INDEX subscription_act_subscription ON subscription_act (tenant_id, subscription_id, act_id);
CREATE INDEX subscription_act_open ON subscription_act (tenant_id, subscription_id, requested_at) WHERE done_at IS NULL;

-- Billable bytes of a tenant in a calendar month of its time zone, by the moment they were counted. The collector
-- writes it in the transaction of the flush.
CREATE TABLE tenant_month (
  tenant_id      uuid NOT NULL REFERENCES tenant (tenant_id),
  month          date NOT NULL,
  billable_bytes bigint NOT NULL,
  PRIMARY KEY (tenant_id, month)
) WITH (fillfactor = 60);

-- The first day of the month at a moment in a zone. A zone that this server does not know counts as UTC: one tenant's
-- setting must not stop everybody's flush.
CREATE FUNCTION month_of(at timestamptz, zone text) RETURNS date LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN date_trunc('month', at AT TIME ZONE zone)::date;
EXCEPTION WHEN invalid_parameter_value THEN
  RETURN date_trunc('month', at AT TIME ZONE 'UTC')::date;
END
$$;

-- Whether the month's pool is used up, as the scheduler last decided it.
CREATE TABLE tenant_pool (
  tenant_id uuid PRIMARY KEY REFERENCES tenant (tenant_id),
  exceeded  boolean NOT NULL,
  since     timestamptz NOT NULL
);

ALTER TABLE access_change DROP CONSTRAINT access_change_cause_check;
ALTER TABLE access_change ADD CONSTRAINT access_change_cause_check
  CHECK (cause IN ('edit', 'crossing', 'expiry', 'period', 'node', 'sweep', 'tenant', 'first_use'));

-- Lists: the first page costs the same at a million rows, in every order and for every single filter.
CREATE INDEX subscription_living ON subscription (tenant_id, subscription_id) WHERE deleted_at IS NULL;
CREATE INDEX subscription_plan ON subscription (tenant_id, plan_id, subscription_id) WHERE deleted_at IS NULL;
CREATE INDEX subscription_admin_state ON subscription (tenant_id, admin_state, subscription_id) WHERE deleted_at IS NULL;
CREATE INDEX subscription_name ON subscription (tenant_id, name_fold, subscription_id)
  WHERE deleted_at IS NULL;
CREATE INDEX subscription_ref ON subscription (tenant_id, ref_fold, subscription_id)
  WHERE deleted_at IS NULL AND ref_fold IS NOT NULL;
CREATE INDEX subscription_end ON subscription (tenant_id, coalesce(expires_at, 'infinity'), subscription_id)
  WHERE deleted_at IS NULL;
CREATE INDEX subscription_state_list ON subscription_state (tenant_id, effective_state, subscription_id);
-- Sweeps.
CREATE INDEX subscription_hold ON subscription (hold_deadline) WHERE on_hold AND hold_deadline IS NOT NULL;

DO $$
DECLARE
  t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['subscription_act', 'tenant_month', 'tenant_pool'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY tenant_of_transaction ON %I TO penstock_control_api
      USING (tenant_id = (SELECT app_tenant())) WITH CHECK (tenant_id = (SELECT app_tenant()))', t);
    EXECUTE format('CREATE POLICY sweep ON %I TO penstock_scheduler USING (true) WITH CHECK (true)', t);
  END LOOP;
END
$$;
CREATE POLICY served_tenants ON tenant_month TO penstock_collector
  USING (tenant_id = ANY ((SELECT app_tenants())::uuid[])) WITH CHECK (tenant_id = ANY ((SELECT app_tenants())::uuid[]));
-- The collector needs a tenant's time zone to know its month.
CREATE POLICY served_tenants_month ON tenant FOR SELECT TO penstock_collector
  USING (tenant_id = ANY ((SELECT app_tenants())::uuid[]));

GRANT SELECT, INSERT ON subscription_act TO penstock_control_api;
GRANT SELECT, INSERT, UPDATE ON subscription_act, tenant_pool TO penstock_scheduler;
GRANT SELECT ON tenant_month, tenant_pool TO penstock_control_api;
GRANT SELECT ON tenant_month TO penstock_scheduler;
GRANT SELECT, INSERT, UPDATE ON tenant_month TO penstock_collector;
GRANT SELECT (tenant_id, time_zone) ON tenant TO penstock_collector;
-- The scheduler carries out what is due of a contract: its start and its next plan. Under the row's lock, like
-- control-api's edits.
GRANT UPDATE (plan_id, limit_bytes, period, engines, device_limit, duration_days, expires_at, on_hold, hold_deadline,
  activated_at, next_plan_id, next_plan_at, version) ON subscription TO penstock_scheduler;
