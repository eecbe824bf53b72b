// Opens the next usage periods ahead of time, exactly once (the unique key on the start) also after a downtime, and
// lets those back in who were limited in a period that is over: by an access_change row, decided like any other.
import { run, statement, type Runner } from '@penstock/db/statement';
import type { SubscriptionId, TenantId } from '@penstock/domain/ids';
import { alignPeriods, PERIOD_AHEAD_MS } from '../quota/quota.store.js';
import { SWEEP_ROWS_MAX } from './expiry-sweep.js';
import type { Clock } from '@penstock/domain/clock';
import type { Task } from './driver.js';
import { Lookback } from './lookback.js';

export const PERIOD_INTERVAL_MS = 2_000;

const findEnding = statement<{ tenantId: TenantId; subscriptionId: SubscriptionId; at: Date }>(
  'period.ending',
  `SELECT u.tenant_id AS "tenantId", u.subscription_id AS "subscriptionId", statement_timestamp() AS at
   FROM usage_period u
   JOIN subscription_state st ON st.tenant_id = u.tenant_id AND st.subscription_id = u.subscription_id
     AND st.effective_state IN ('active', 'limited', 'on_hold')
   JOIN subscription s ON s.tenant_id = u.tenant_id AND s.subscription_id = u.subscription_id AND s.admin_state <> 'deleted'
   WHERE u.ends_at <= statement_timestamp() + $2::bigint * interval '1 ms'
     AND u.ends_at > statement_timestamp() - $3::bigint * interval '1 ms'
     AND NOT EXISTS (SELECT FROM usage_period n WHERE n.tenant_id = u.tenant_id AND n.subscription_id = u.subscription_id
                       AND n.started_at > u.started_at)
   LIMIT $1`,
);

const insertRolled = statement<{ count: bigint }>(
  'period.insert_changes',
  `WITH inserted AS (
     INSERT INTO access_change (tenant_id, change_id, subscription_id, cause)
     SELECT st.tenant_id, gen_random_uuid(), st.subscription_id, 'period'
     FROM subscription_state st
     WHERE st.effective_state = 'limited'
       AND EXISTS (SELECT FROM usage_period u WHERE u.tenant_id = st.tenant_id AND u.subscription_id = st.subscription_id
                     AND u.started_at > st.since AND u.started_at <= statement_timestamp())
       AND NOT EXISTS (SELECT FROM access_change c WHERE c.tenant_id = st.tenant_id
                         AND c.subscription_id = st.subscription_id AND c.cause = 'period')
     LIMIT $1 RETURNING 1
   ) SELECT count(*) AS count FROM inserted`,
);

/** Opens what is due after periods that ended within `lookbackMs` or end soon; returns how many were looked after. */
export async function openNextPeriods(db: Runner, lookbackMs: number): Promise<number> {
  const ending = await run(db, findEnding, [SWEEP_ROWS_MAX, PERIOD_AHEAD_MS, lookbackMs]);
  const at = ending[0]?.at;
  if (at === undefined) return 0;
  const keys = {
    tenantIds: ending.map((e) => e.tenantId),
    subscriptionIds: ending.map((e) => e.subscriptionId),
  };
  await alignPeriods(db, keys, at);
  return ending.length;
}

/** Leaves rows for those limited in a period that is over; returns how many. */
export async function sweepRolled(db: Runner): Promise<number> {
  const [row] = await run(db, insertRolled, [SWEEP_ROWS_MAX]);
  return Number(row?.count ?? 0n);
}

export function periodRoll(clock: Clock): Task {
  const lookback = new Lookback(clock);
  return {
    name: 'period-roll',
    intervalMs: PERIOD_INTERVAL_MS,
    async run(db) {
      const lookbackMs = lookback.next();
      while ((await openNextPeriods(db, lookbackMs)) === SWEEP_ROWS_MAX);
      lookback.done(lookbackMs);
      while ((await sweepRolled(db)) === SWEEP_ROWS_MAX);
    },
  };
}
