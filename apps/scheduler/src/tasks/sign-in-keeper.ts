// Removes what signing in leaves behind: refresh tokens, one-time links and answered passkey challenges that expired.
// Kept for a week, so that whoever shows an old token hears that it expired and not that it never was.
import { run, statement, type Runner, type Statement } from '@penstock/db/statement';
import type { Clock } from '@penstock/domain/clock';
import type { Task } from './driver.js';

export const SIGN_IN_INTERVAL_MS = 3_600_000;
export const SIGN_IN_KEPT_MS = 7 * 86_400_000;
const BATCH_ROWS = 5_000;
/** Of each kind in one run at most; the next goes on. */
const BATCHES_MAX = 100;

type Removal = Statement<{ removed: number }>;

// With the last token of a session goes the note of the tenants that it acted in.
const removeSessions: Removal = statement(
  'session.remove',
  `WITH old AS (SELECT session_id, family_id FROM session WHERE expires_at < $1 ORDER BY expires_at LIMIT $2),
        notes AS (DELETE FROM session_tenant t USING (SELECT DISTINCT family_id FROM old) f
                   WHERE t.family_id = f.family_id
                     AND NOT EXISTS (SELECT FROM session s WHERE s.family_id = t.family_id AND s.expires_at >= $1)),
        gone AS (DELETE FROM session s USING old WHERE s.session_id = old.session_id RETURNING 1)
   SELECT count(*)::int AS removed FROM gone`,
);

const removeLinks: Removal = statement(
  'one_time_link.remove',
  `WITH old AS (SELECT hash FROM one_time_link WHERE expires_at < $1 ORDER BY expires_at LIMIT $2),
        gone AS (DELETE FROM one_time_link l USING old WHERE l.hash = old.hash RETURNING 1)
   SELECT count(*)::int AS removed FROM gone`,
);

const removeChallenges: Removal = statement(
  'passkey_challenge.remove',
  `WITH old AS (SELECT hash FROM passkey_challenge WHERE expires_at < $1 ORDER BY expires_at LIMIT $2),
        gone AS (DELETE FROM passkey_challenge c USING old WHERE c.hash = old.hash RETURNING 1)
   SELECT count(*)::int AS removed FROM gone`,
);

/** Returns how many rows were removed. */
export async function removeExpired(db: Runner, clock: Clock): Promise<number> {
  const before = new Date(clock.now() - SIGN_IN_KEPT_MS);
  let removed = 0;
  for (const removal of [removeSessions, removeLinks, removeChallenges]) {
    for (let batch = 0; batch < BATCHES_MAX; batch++) {
      const [row] = await run(db, removal, [before, BATCH_ROWS]);
      removed += row?.removed ?? 0;
      if ((row?.removed ?? 0) < BATCH_ROWS) break;
    }
  }
  return removed;
}

export function signInKeeper(clock: Clock): Task {
  return {
    name: 'sign-in-keeper',
    intervalMs: SIGN_IN_INTERVAL_MS,
    async run(db) {
      await removeExpired(db, clock);
    },
  };
}
