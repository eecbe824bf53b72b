// Finds subscriptions whose time is over and leaves an access_change row for each; what follows from it is decided
// where everything is decided (changes/consumer.ts). Once decided they are `expired` and not found again.
import { run, statement, type Runner } from '@penstock/db/statement';
import type { Task } from './driver.js';

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
     WHERE s.expires_at <= statement_timestamp() AND s.admin_state = 'active'
       AND st.effective_state IN ('active', 'limited', 'on_hold')
       AND NOT EXISTS (SELECT FROM access_change c
                       WHERE c.tenant_id = s.tenant_id AND c.subscription_id = s.subscription_id AND c.cause = 'expiry')
     LIMIT $1 RETURNING 1
   ) SELECT count(*) AS count FROM inserted`,
);

/** Leaves rows for expired subscriptions; returns how many. */
export async function sweepExpired(db: Runner): Promise<number> {
  const [row] = await run(db, insertExpired, [SWEEP_ROWS_MAX]);
  return Number(row?.count ?? 0n);
}

export const expirySweep: Task = {
  name: 'expiry-sweep',
  intervalMs: EXPIRY_INTERVAL_MS,
  async run(db) {
    while ((await sweepExpired(db)) === SWEEP_ROWS_MAX);
  },
};
