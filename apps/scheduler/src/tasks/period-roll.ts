// Sees to it that the next usage periods are opened ahead of time, also after a downtime, and that those who were
// limited in a period that is over are looked at again. Both leave access_change rows: periods are made where everything
// is decided, under the subscription's lock, and exactly once by the unique key on their start.
import { run, statement, type Runner } from '@penstock/db/statement';
import { PERIOD_AHEAD_MS } from '../quota/quota.store.js';
import { SWEEP_ROWS_MAX } from './expiry-sweep.js';
import type { Clock } from '@penstock/domain/clock';
import type { Task } from './driver.js';
import { Lookback } from './lookback.js';

export const PERIOD_INTERVAL_MS = 2_000;

const insertEnding = statement<{ count: bigint }>(
  'period.insert_ending',
  `WITH inserted AS (
     INSERT INTO access_change (tenant_id, change_id, subscription_id, cause)
     SELECT u.tenant_id, gen_random_uuid(), u.subscription_id, 'period'
     FROM usage_period u
     JOIN subscription_state st ON st.tenant_id = u.tenant_id AND st.subscription_id = u.subscription_id
       AND st.effective_state IN ('active', 'limited', 'on_hold')
     JOIN subscription s ON s.tenant_id = u.tenant_id AND s.subscription_id = u.subscription_id
       AND s.admin_state <> 'deleted'
     WHERE u.ends_at <= statement_timestamp() + $2::bigint * interval '1 ms'
       AND u.ends_at > statement_timestamp() - $3::bigint * interval '1 ms'
       AND NOT EXISTS (SELECT FROM usage_period n WHERE n.tenant_id = u.tenant_id
                         AND n.subscription_id = u.subscription_id AND n.started_at > u.started_at)
       AND NOT EXISTS (SELECT FROM access_change c WHERE c.tenant_id = u.tenant_id
                         AND c.subscription_id = u.subscription_id AND c.cause = 'period')
     LIMIT $1 RETURNING 1
   ) SELECT count(*) AS count FROM inserted`,
);

const insertRolled = statement<{ count: bigint }>(
  'period.insert_changes',
  `WITH inserted AS (
     INSERT INTO access_change (tenant_id, change_id, subscription_id, cause)
     SELECT st.tenant_id, gen_random_uuid(), st.subscription_id, 'period'
     FROM subscription_state st
     WHERE st.effective_state = 'limited' AND st.reason <> 'pool'
       AND EXISTS (SELECT FROM usage_period u WHERE u.tenant_id = st.tenant_id AND u.subscription_id = st.subscription_id
                     AND u.started_at > st.since AND u.started_at <= statement_timestamp())
       AND NOT EXISTS (SELECT FROM access_change c WHERE c.tenant_id = st.tenant_id
                         AND c.subscription_id = st.subscription_id AND c.cause = 'period')
     LIMIT $1 RETURNING 1
   ) SELECT count(*) AS count FROM inserted`,
);

/** Leaves rows for those whose newest period ended within `lookbackMs` or ends soon; returns how many. */
export async function sweepEnding(db: Runner, lookbackMs: number): Promise<number> {
  const [row] = await run(db, insertEnding, [SWEEP_ROWS_MAX, PERIOD_AHEAD_MS, lookbackMs]);
  return Number(row?.count ?? 0n);
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
      while ((await sweepEnding(db, lookbackMs)) === SWEEP_ROWS_MAX);
      lookback.done(lookbackMs);
      while ((await sweepRolled(db)) === SWEEP_ROWS_MAX);
    },
  };
}
