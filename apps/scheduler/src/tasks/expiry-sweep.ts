// Finds subscriptions whose time is over, and those on hold whose time begins, and leaves an access_change row for each; what follows from it is decided
// where everything is decided (changes/consumer.ts). Once decided they are `expired` and not found again.
import { run, statement, type Runner } from '@penstock/db/statement';
import type { Clock } from '@penstock/domain/clock';
import type { Task } from './driver.js';
import { Lookback } from './lookback.js';

export const EXPIRY_INTERVAL_MS = 1_000;
/** Rows of one run; the next run takes more. */
export const SWEEP_ROWS_MAX = 5_000;

const insertExpired = statement<{ count: bigint }>(
  'expiry.insert_changes',
  `WITH inserted AS (
     INSERT INTO access_change (tenant_id, change_id, subscription_id, cause)
     SELECT s.tenant_id, gen_random_uuid(), s.subscription_id, 'expiry'
     FROM subscription s
     JOIN subscription_state st ON st.tenant_id = s.tenant_id AND st.subscription_id = s.subscription_id
     WHERE s.expires_at <= statement_timestamp() AND s.expires_at > statement_timestamp() - $2::bigint * interval '1 ms'
       AND s.admin_state = 'active'
       AND st.effective_state IN ('active', 'limited', 'on_hold')
       AND NOT EXISTS (SELECT FROM access_change c
                       WHERE c.tenant_id = s.tenant_id AND c.subscription_id = s.subscription_id AND c.cause = 'expiry')
     LIMIT $1 RETURNING 1
   ) SELECT count(*) AS count FROM inserted`,
);

// Few wait for a deadline, and one that has come is on hold no more: no look back is needed.
const insertDue = statement<{ count: bigint }>(
  'expiry.insert_starts',
  `WITH inserted AS (
     INSERT INTO access_change (tenant_id, change_id, subscription_id, cause)
     SELECT s.tenant_id, gen_random_uuid(), s.subscription_id, 'expiry'
     FROM subscription s
     WHERE s.on_hold AND s.hold_deadline <= statement_timestamp() AND s.admin_state <> 'deleted'
       AND NOT EXISTS (SELECT FROM access_change c
                       WHERE c.tenant_id = s.tenant_id AND c.subscription_id = s.subscription_id AND c.cause = 'expiry')
     LIMIT $1 RETURNING 1
   ) SELECT count(*) AS count FROM inserted`,
);

/** Leaves rows for those on hold whose deadline has come; returns how many. */
export async function sweepStarts(db: Runner): Promise<number> {
  const [row] = await run(db, insertDue, [SWEEP_ROWS_MAX]);
  return Number(row?.count ?? 0n);
}

/** Leaves rows for subscriptions that expired within `lookbackMs`; returns how many. */
export async function sweepExpired(db: Runner, lookbackMs: number): Promise<number> {
  const [row] = await run(db, insertExpired, [SWEEP_ROWS_MAX, lookbackMs]);
  return Number(row?.count ?? 0n);
}

export function expirySweep(clock: Clock): Task {
  const lookback = new Lookback(clock);
  return {
    name: 'expiry-sweep',
    intervalMs: EXPIRY_INTERVAL_MS,
    async run(db) {
      const lookbackMs = lookback.next();
      while ((await sweepStarts(db)) === SWEEP_ROWS_MAX);
      while ((await sweepExpired(db, lookbackMs)) === SWEEP_ROWS_MAX);
      lookback.done(lookbackMs);
    },
  };
}
