// Removes events that nobody can ask for any more (control-api's readers begin again after two days).
import { run, statement, type Runner } from '@penstock/db/statement';
import type { Clock } from '@penstock/domain/clock';
import type { Task } from './driver.js';

export const EVENTS_INTERVAL_MS = 600_000;
export const EVENTS_KEPT_MS = 48 * 3_600_000;
const BATCH_ROWS = 10_000;
/** One run at most; the next goes on. */
const BATCHES_MAX = 200;

const removeBatch = statement<{ removed: number }>(
  'event.remove',
  `WITH old AS (SELECT ctid FROM event WHERE at < $1 ORDER BY at LIMIT $2),
        gone AS (DELETE FROM event e USING old WHERE e.ctid = old.ctid RETURNING 1)
   SELECT count(*)::int AS removed FROM gone`,
);

/** Returns how many events were removed. */
export async function removeOldEvents(db: Runner, clock: Clock): Promise<number> {
  const before = new Date(clock.now() - EVENTS_KEPT_MS);
  let removed = 0;
  for (let batch = 0; batch < BATCHES_MAX; batch++) {
    const [row] = await run(db, removeBatch, [before, BATCH_ROWS]);
    removed += row?.removed ?? 0;
    if ((row?.removed ?? 0) < BATCH_ROWS) break;
  }
  return removed;
}

export function eventKeeper(clock: Clock): Task {
  return {
    name: 'event-keeper',
    intervalMs: EVENTS_INTERVAL_MS,
    async run(db) {
      await removeOldEvents(db, clock);
    },
  };
}
