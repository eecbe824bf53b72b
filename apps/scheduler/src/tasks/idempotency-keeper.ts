// Forgets answers by Idempotency-Key a day after they were given. Row security shows this process no younger ones.
import { run, statement, type Runner } from '@penstock/db/statement';
import type { Task } from './driver.js';

export const IDEMPOTENCY_INTERVAL_MS = 15 * 60_000;
const BATCH_ROWS = 5_000;
/** In one run at most; the next goes on. */
const BATCHES_MAX = 200;

const removeAnswers = statement<{ removed: number }>(
  'idempotency.remove',
  `WITH old AS (SELECT tenant_id, actor_id, key_hash FROM idempotency_key ORDER BY created_at LIMIT $1),
        gone AS (DELETE FROM idempotency_key k USING old
                  WHERE k.tenant_id = old.tenant_id AND k.actor_id = old.actor_id AND k.key_hash = old.key_hash
                  RETURNING 1)
   SELECT count(*)::int AS removed FROM gone`,
);

/** Returns how many answers were forgotten. */
export async function removeOldAnswers(db: Runner): Promise<number> {
  let removed = 0;
  for (let batch = 0; batch < BATCHES_MAX; batch++) {
    const [row] = await run(db, removeAnswers, [BATCH_ROWS]);
    removed += row?.removed ?? 0;
    if ((row?.removed ?? 0) < BATCH_ROWS) break;
  }
  return removed;
}

export function idempotencyKeeper(): Task {
  return {
    name: 'idempotency-keeper',
    intervalMs: IDEMPOTENCY_INTERVAL_MS,
    async run(db) {
      await removeOldAnswers(db);
    },
  };
}
