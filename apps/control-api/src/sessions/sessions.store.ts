// Sessions as people see them: one a sign-in (a family of refresh tokens). Ending one ends its refresh tokens at once
// and its access tokens with the next look at its standing.
import type { AccountId } from '@penstock/domain/ids';
import { run, statement, type Runner } from '@penstock/db/statement';
import { lockSessionsOf } from '../auth/session.store.js';
import type { Acting } from '../database.js';

/** A person who has more sessions than this sees the newest. */
export const SESSIONS_SHOWN_MAX = 200;

export interface Session {
  sessionId: string;
  /** Of the last refresh. */
  ip: string | null;
  userAgent: string | null;
  createdAt: Date;
  lastSeenAt: Date;
  expiresAt: Date;
  current: boolean;
}

const selectSessions = statement<Session>(
  'session.list',
  `SELECT family_id AS "sessionId", (array_agg(host(ip) ORDER BY created_at DESC))[1] AS ip,
          (array_agg(user_agent ORDER BY created_at DESC))[1] AS "userAgent", min(created_at) AS "createdAt",
          max(created_at) AS "lastSeenAt", max(expires_at) AS "expiresAt", family_id = $2 AS current
     FROM session WHERE account_id = $1 AND revoked_at IS NULL
    GROUP BY family_id HAVING max(expires_at) > $3
    ORDER BY max(created_at) DESC, family_id LIMIT ${SESSIONS_SHOWN_MAX}`,
);

export function listSessions(
  { client, at }: Acting,
  accountId: AccountId,
  familyId: string,
): Promise<Session[]> {
  return run(client, selectSessions, [accountId, familyId, at]);
}

const endFamily = statement<{ one: number }>(
  'session.end_family',
  `UPDATE session SET revoked_at = $3 WHERE account_id = $1 AND family_id = $2 AND revoked_at IS NULL RETURNING 1 AS one`,
);

/** False when the account has no such living session. */
export async function endSession(
  { client, at }: Acting,
  accountId: AccountId,
  family: string,
): Promise<boolean> {
  await lockSessionsOf(client, accountId);
  return (await run(client, endFamily, [accountId, family, at])).length > 0;
}

const endOthers = statement<{ ended: number }>(
  'session.end_others',
  `WITH ended AS (UPDATE session SET revoked_at = $3 WHERE account_id = $1 AND family_id <> $2 AND revoked_at IS NULL
                  RETURNING family_id)
   SELECT count(DISTINCT family_id)::int AS ended FROM ended`,
);

/** Ends all sessions of the account but one; how many there were. */
export async function endOtherSessions(
  client: Runner,
  accountId: AccountId,
  keep: string,
  at: Date,
): Promise<number> {
  await lockSessionsOf(client, accountId);
  return (await run(client, endOthers, [accountId, keep, at]))[0]?.ended ?? 0;
}

const endAll = statement<{ ended: number }>(
  'session.end_account',
  `WITH ended AS (UPDATE session SET revoked_at = $2 WHERE account_id = $1 AND revoked_at IS NULL RETURNING family_id)
   SELECT count(DISTINCT family_id)::int AS ended FROM ended`,
);

/** Ends all sessions of the account; how many there were. */
export async function endSessionsOfAccount(client: Runner, accountId: AccountId, at: Date): Promise<number> {
  await lockSessionsOf(client, accountId);
  return (await run(client, endAll, [accountId, at]))[0]?.ended ?? 0;
}

const endInTenant = statement<{ ended: number }>(
  'session.end_in_tenant',
  `WITH ended AS (UPDATE session s SET revoked_at = $3
                   WHERE s.account_id = $2 AND s.revoked_at IS NULL
                     AND EXISTS (SELECT FROM session_tenant t WHERE t.tenant_id = $1 AND t.account_id = $2
                                   AND t.family_id = s.family_id)
                  RETURNING s.family_id)
   SELECT count(DISTINCT family_id)::int AS ended FROM ended`,
);

/** Ends the account's sessions that acted in the tenant of this transaction; how many there were. */
export async function endSessionsInTenant(
  { actor, client, at }: Acting,
  accountId: AccountId,
): Promise<number> {
  await lockSessionsOf(client, accountId);
  return (await run(client, endInTenant, [actor.tenantId, accountId, at]))[0]?.ended ?? 0;
}

const noteTenant = statement(
  'session_tenant.insert',
  `INSERT INTO session_tenant (tenant_id, family_id, account_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
);

/** The session gets an access token for the tenant of this transaction. */
export async function noteSessionTenant(
  client: Runner,
  tenantId: string,
  familyId: string,
  accountId: AccountId,
): Promise<void> {
  await run(client, noteTenant, [tenantId, familyId, accountId]);
}
