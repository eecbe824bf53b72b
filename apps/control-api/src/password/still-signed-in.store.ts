// The other half of ending sessions: what lasts longer than a session (a key, a token, a passkey, an identity, codes) is
// made only while the session that makes it lives. Whoever ends sessions locks the account first, and so does whoever
// makes such a thing, from here to its commit: either it is seen and ended, or it is refused. Not a share of the
// account: a row of overlapping sharers keeps whoever wants to end them waiting as long as they like. Called by the
// services of these things as the first statement of the transaction, before they lock anything else.
import { AppError } from '@penstock/domain/errors';
import { run, statement } from '@penstock/db/statement';
import { personOf } from '../auth/person.js';
import { lockSessionsOf } from '../auth/session.store.js';
import type { Acting } from '../database.js';

// In a statement of its own: it sees what was ended while the lock was waited for.
const selectLiving = statement<{ one: number }>(
  'session.still_living',
  `SELECT 1 AS one FROM session s JOIN account a ON a.account_id = s.account_id AND a.disabled_at IS NULL
    WHERE s.account_id = $1 AND s.family_id = $2 AND s.revoked_at IS NULL LIMIT 1`,
);

/** Throws unauthenticated when the actor's session has ended since the request was let in, forbidden for a key. */
export async function requireStillSignedIn({ actor, client }: Acting): Promise<void> {
  const { accountId, familyId } = personOf(actor);
  await lockSessionsOf(client, accountId);
  if ((await run(client, selectLiving, [accountId, familyId])).length === 0) {
    throw new AppError('unauthenticated', 'this session has ended, sign in again');
  }
}
