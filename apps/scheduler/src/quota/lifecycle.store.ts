// Carries out the steps of lifecycle.ts as sets, in the transaction of the decision that follows from them. The caller
// holds the subscriptions' advisory locks; the row locks taken here keep control-api's edits apart.
import { run, statement, type Runner } from '@penstock/db/statement';
import type { Keys } from './quota.store.js';
import type { Step } from './lifecycle.js';

const lockRows = statement(
  'lifecycle.lock',
  `SELECT FROM subscription s
   WHERE (s.tenant_id, s.subscription_id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))
   ORDER BY s.tenant_id, s.subscription_id FOR NO KEY UPDATE`,
);

/** Locks the rows in key order; facts read after this stand until the end of the transaction. */
export async function lockSubscriptions(db: Runner, keys: Keys): Promise<void> {
  await run(db, lockRows, [keys.tenantIds, keys.subscriptionIds]);
}

const startHeld = statement(
  'lifecycle.start',
  `WITH started AS (
     UPDATE subscription s SET on_hold = false, activated_at = i.at, hold_deadline = NULL,
            expires_at = coalesce(s.expires_at, i.at + s.duration_days * interval '1 day'), version = s.version + 1
     FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) AS i (tenant_id, subscription_id, at)
     WHERE s.tenant_id = i.tenant_id AND s.subscription_id = i.subscription_id AND s.on_hold
     RETURNING s.tenant_id, s.subscription_id, i.at
   )
   INSERT INTO subscription_act (tenant_id, act_id, subscription_id, kind, requested_at, done_at)
   SELECT tenant_id, gen_random_uuid(), subscription_id, 'start', at, clock_timestamp() FROM started`,
);

// The terms of the plan as they stand now; the plan's own next plan is what follows then.
const applyNextPlan = statement(
  'lifecycle.next_plan',
  `WITH changed AS (
     UPDATE subscription s SET plan_id = p.plan_id, limit_bytes = p.limit_bytes, period = p.period, engines = p.engines,
            device_limit = p.device_limit, duration_days = p.duration_days,
            expires_at = i.from_at + p.duration_days * interval '1 day', next_plan_id = p.next_plan_id,
            next_plan_at = CASE WHEN p.next_plan_id IS NULL THEN NULL ELSE i.from_at END, version = s.version + 1
     FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[]) AS i (tenant_id, subscription_id, plan_id, from_at)
     JOIN plan p ON p.tenant_id = i.tenant_id AND p.plan_id = i.plan_id
     WHERE s.tenant_id = i.tenant_id AND s.subscription_id = i.subscription_id AND s.next_plan_id = i.plan_id
     RETURNING s.tenant_id, s.subscription_id, s.plan_id, i.from_at
   )
   INSERT INTO subscription_act (tenant_id, act_id, subscription_id, kind, plan_id, requested_at, done_at)
   SELECT tenant_id, gen_random_uuid(), subscription_id, 'next_plan', plan_id, from_at, clock_timestamp() FROM changed`,
);

// The current period ends, a new one begins: nothing is set to zero. A period that was opened ahead becomes the new one,
// so that the fresh quota is not given a second time when it would have begun.
const beginPeriods = statement(
  'lifecycle.begin_periods',
  `WITH terms AS (
     SELECT s.tenant_id, s.subscription_id, s.limit_bytes, s.on_hold, ahead.period_id AS ahead,
            CASE WHEN s.on_hold OR s.period = 'none' THEN NULL
                 ELSE (date_trunc(s.period, $3::timestamptz AT TIME ZONE t.time_zone) + ('1 ' || s.period)::interval)
                      AT TIME ZONE t.time_zone END AS ends_at
     FROM unnest($1::uuid[], $2::uuid[]) AS k (tenant_id, subscription_id)
     JOIN subscription s ON s.tenant_id = k.tenant_id AND s.subscription_id = k.subscription_id
     JOIN tenant t ON t.tenant_id = s.tenant_id
     LEFT JOIN LATERAL (
       SELECT u.period_id FROM usage_period u
       WHERE u.tenant_id = s.tenant_id AND u.subscription_id = s.subscription_id AND u.started_at > $3
       ORDER BY u.started_at LIMIT 1) ahead ON true
   ), ended AS (
     UPDATE usage_period p SET ends_at = $3, awaits_use = false
     FROM terms t
     WHERE p.tenant_id = t.tenant_id AND p.subscription_id = t.subscription_id AND p.started_at < $3
       AND (p.ends_at IS NULL OR p.ends_at > $3)
   ), moved AS (
     UPDATE usage_period p SET started_at = $3, ends_at = t.ends_at, limit_bytes = t.limit_bytes, extra_bytes = 0
     FROM terms t
     WHERE p.tenant_id = t.tenant_id AND p.subscription_id = t.subscription_id AND p.period_id = t.ahead
   ), begun AS (
     INSERT INTO usage_period (tenant_id, subscription_id, period_id, started_at, ends_at, limit_bytes, awaits_use)
     SELECT tenant_id, subscription_id, gen_random_uuid(), $3, ends_at, limit_bytes, on_hold FROM terms
     WHERE ahead IS NULL
     ON CONFLICT (tenant_id, subscription_id, started_at) DO NOTHING
   )
   SELECT pg_notify('usage_period', replace(tenant_id::text || subscription_id::text, '-', '')) FROM terms`,
);

const addToPeriods = statement(
  'lifecycle.top_up',
  `WITH added AS (
     UPDATE usage_period p SET extra_bytes = e.extra, limit_bytes = s.limit_bytes + least(e.extra, 9223372036854775807 - s.limit_bytes)
     FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[]) AS i (tenant_id, subscription_id, period_id, bytes)
     JOIN subscription s ON s.tenant_id = i.tenant_id AND s.subscription_id = i.subscription_id
     JOIN usage_period u ON u.tenant_id = i.tenant_id AND u.subscription_id = i.subscription_id AND u.period_id = i.period_id
     CROSS JOIN LATERAL (SELECT u.extra_bytes + least(i.bytes, 9223372036854775807 - u.extra_bytes) AS extra) e
     WHERE p.tenant_id = u.tenant_id AND p.subscription_id = u.subscription_id AND p.period_id = u.period_id
     RETURNING p.tenant_id, p.subscription_id
   )
   SELECT pg_notify('usage_period', replace(tenant_id::text || subscription_id::text, '-', '')) FROM added`,
);

const finishActs = statement(
  'lifecycle.finish_acts',
  `UPDATE subscription_act a SET done_at = clock_timestamp()
   FROM unnest($1::uuid[], $2::uuid[]) AS i (tenant_id, act_id)
   WHERE a.tenant_id = i.tenant_id AND a.act_id = i.act_id AND a.done_at IS NULL`,
);

const ofKind = <K extends Step['kind']>(steps: readonly Step[], kind: K): Extract<Step, { kind: K }>[] =>
  steps.filter((step): step is Extract<Step, { kind: K }> => step.kind === kind);
const tenants = (steps: readonly Step[]): string[] => steps.map((step) => step.tenantId);
const subscriptions = (steps: readonly Step[]): string[] => steps.map((step) => step.subscriptionId);

/** Carries out one step a subscription. `at`: when a new period begins. */
export async function carryOut(db: Runner, steps: readonly Step[], at: Date): Promise<void> {
  const starts = ofKind(steps, 'start');
  if (starts.length > 0)
    await run(db, startHeld, [tenants(starts), subscriptions(starts), starts.map((step) => step.at)]);
  const plans = ofKind(steps, 'next_plan');
  if (plans.length > 0) {
    const [planIds, from] = [plans.map((step) => step.planId), plans.map((step) => step.from)];
    await run(db, applyNextPlan, [tenants(plans), subscriptions(plans), planIds, from]);
  }
  const periods = ofKind(steps, 'period');
  const begin = [...periods, ...plans];
  if (begin.length > 0) await run(db, beginPeriods, [tenants(begin), subscriptions(begin), at]);
  const added = ofKind(steps, 'top_up');
  if (added.length > 0) {
    const [periodIds, bytes] = [
      added.map((step) => step.periodId),
      added.map((step) => step.bytes.toString()),
    ];
    await run(db, addToPeriods, [tenants(added), subscriptions(added), periodIds, bytes]);
  }
  const acts = [...periods, ...added];
  if (acts.length > 0) await run(db, finishActs, [tenants(acts), acts.map((step) => step.actId)]);
}

const leaveChanges = statement(
  'lifecycle.leave_changes',
  `INSERT INTO access_change (tenant_id, change_id, subscription_id, cause)
   SELECT t, gen_random_uuid(), s, 'sweep' FROM unnest($1::uuid[], $2::uuid[]) AS i (t, s)`,
);

/** What is left for the next batch. */
export async function leaveForLater(db: Runner, steps: readonly Step[]): Promise<void> {
  if (steps.length > 0) await run(db, leaveChanges, [tenants(steps), subscriptions(steps)]);
}
