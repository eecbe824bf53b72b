// Accounts, their places in tenants, and sessions: one row a refresh token, one family a sign-in. These are read
// before a tenant is chosen, so the client comes with app.account_id or nothing, and the queries name the account.
import type { AccountId, TenantId } from '@penstock/domain/ids';
import { AppError } from '@penstock/domain/errors';
import { run, statement, type Runner } from '@penstock/db/statement';
import type { Actor, Origin } from '../http/actor.js';

export interface AccountRow {
  accountId: AccountId;
  email: string;
  displayName: string;
  passwordHash: string;
}

const selectAccount = statement<AccountRow>(
  'account.by_email',
  `SELECT account_id AS "accountId", email, display_name AS "displayName", password_hash AS "passwordHash"
     FROM account WHERE email = $1 AND disabled_at IS NULL`,
);

export async function findAccountByEmail(client: Runner, email: string): Promise<AccountRow | null> {
  return (await run(client, selectAccount, [email]))[0] ?? null;
}

const selectAccountById = statement<Omit<AccountRow, 'passwordHash'>>(
  'account.by_id',
  `SELECT account_id AS "accountId", email, display_name AS "displayName"
     FROM account WHERE account_id = $1 AND disabled_at IS NULL`,
);

export async function findAccount(
  client: Runner,
  id: AccountId,
): Promise<Omit<AccountRow, 'passwordHash'> | null> {
  return (await run(client, selectAccountById, [id]))[0] ?? null;
}

const selectWithHash = statement<AccountRow>(
  'account.with_hash',
  `SELECT account_id AS "accountId", email, display_name AS "displayName", password_hash AS "passwordHash"
     FROM account WHERE account_id = $1 AND disabled_at IS NULL`,
);

export async function findAccountWithHash(client: Runner, id: AccountId): Promise<AccountRow | null> {
  return (await run(client, selectWithHash, [id]))[0] ?? null;
}

const updatePasswordHash = statement(
  'account.set_password_hash',
  `UPDATE account SET password_hash = $2 WHERE account_id = $1 AND password_hash = $3`,
);

/** Stores a hash of the same password with today's parameters, unless the password was changed meanwhile. */
export async function replacePasswordHash(
  client: Runner,
  id: AccountId,
  next: string,
  old: string,
): Promise<void> {
  await run(client, updatePasswordHash, [id, next, old]);
}

/** A person's place in one tenant. */
export type Place = Pick<Actor, 'tenantId' | 'role' | 'platform'>;

export interface Membership extends Place {
  name: string;
}

// Needs app.account_id: a person sees the tenants that he is a member of.
const selectMemberships = statement<Membership>(
  'member.of_account',
  `SELECT m.tenant_id AS "tenantId", t.name, t.kind = 'platform' AS platform, m.role
     FROM member m JOIN tenant t ON t.tenant_id = m.tenant_id
    WHERE m.account_id = $1 ORDER BY t.kind DESC, t.name, m.tenant_id LIMIT 1000`,
);

export function listMemberships(client: Runner, id: AccountId): Promise<Membership[]> {
  return run(client, selectMemberships, [id]);
}

const selectHome = statement<Place>(
  'tenant.home',
  `SELECT t.tenant_id AS "tenantId", t.platform, t.role FROM (
     SELECT m.tenant_id, t.kind = 'platform' AS platform, m.role, 0 AS rank, t.kind, t.name
       FROM member m JOIN tenant t ON t.tenant_id = m.tenant_id WHERE m.account_id = $1
     UNION ALL SELECT p.tenant_id, true, 'auditor', 1, '', '' FROM platform p) t
    ORDER BY t.rank, t.kind DESC, t.name, t.tenant_id LIMIT 1`,
);

/**
 * The tenant whose audit log tells of what happened to the account as a whole: the first of its memberships, else the
 * platform's. Needs app.account_id.
 */
export async function findHome(client: Runner, id: AccountId | null): Promise<Place> {
  const [home] = await run(client, selectHome, [id]);
  if (home === undefined) throw new AppError('unavailable', 'the first start has not ended');
  return home;
}

const selectTenant = statement<{ tenantId: TenantId; name: string; platform: boolean }>(
  'tenant.of_transaction',
  `SELECT tenant_id AS "tenantId", name, kind = 'platform' AS platform FROM tenant WHERE tenant_id = $1`,
);

/** The tenant if this transaction may see it. */
export async function findTenant(
  client: Runner,
  id: TenantId,
): Promise<{ tenantId: TenantId; name: string; platform: boolean } | null> {
  return (await run(client, selectTenant, [id]))[0] ?? null;
}

export interface NewSession {
  sessionId: string;
  accountId: AccountId;
  familyId: string;
  refreshHash: Buffer;
  parentId: string | null;
  createdAt: Date;
  expiresAt: Date;
  /** The only tenant that it reaches; null: all of the person's. Children of the session inherit it. */
  onlyTenantId: TenantId | null;
}

const insertSessionRow = statement(
  'session.insert',
  `INSERT INTO session (session_id, account_id, family_id, refresh_hash, parent_id, created_at, expires_at, ip, user_agent,
                        only_tenant_id)
   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
);

export async function insertSession(client: Runner, session: NewSession, origin: Origin): Promise<void> {
  const { sessionId, accountId, familyId, refreshHash, parentId, createdAt, expiresAt } = session;
  await run(client, insertSessionRow, [
    ...[
      sessionId,
      accountId,
      familyId,
      refreshHash,
      parentId,
      createdAt,
      expiresAt,
      origin.ip,
      origin.userAgent,
      session.onlyTenantId,
    ],
  ]);
}

export interface SessionRow {
  sessionId: string;
  accountId: AccountId;
  familyId: string;
  expiresAt: Date;
  rotatedAt: Date | null;
  revokedAt: Date | null;
  onlyTenantId: TenantId | null;
  /** The child was itself rotated: whoever shows this token now does not hold the newest. */
  childUsed: boolean;
}

// Sessions begin under a share of the account's row and end under a lock of it (also taken by a new password and by
// disabling): whoever ends sessions sees all that were begun, and nobody begins one on what no longer holds.
const shareAccountRow = statement<{ one: number }>(
  'account.share',
  `SELECT 1 AS one FROM account WHERE account_id = $1 AND disabled_at IS NULL FOR SHARE`,
);

/** Before a session begins. False for an account that is closed. What is read after it stays true until the end. */
export async function shareAccount(client: Runner, id: AccountId): Promise<boolean> {
  return (await run(client, shareAccountRow, [id])).length > 0;
}

const lockAccountRow = statement<{ one: number }>(
  'account.lock_sessions',
  `SELECT 1 AS one FROM account WHERE account_id = $1 FOR NO KEY UPDATE`,
);

/** Before sessions of the account are ended, in a statement of its own: the next one sees what was begun meanwhile. */
export async function lockSessionsOf(client: Runner, id: AccountId): Promise<void> {
  await run(client, lockAccountRow, [id]);
}

const selectHash = statement<{ one: number }>(
  'account.has_password_hash',
  `SELECT 1 AS one FROM account WHERE account_id = $1 AND password_hash = $2`,
);

/** False when the password was changed since `hash` was read. */
export async function hasPasswordHash(client: Runner, id: AccountId, hash: string): Promise<boolean> {
  return (await run(client, selectHash, [id, hash])).length > 0;
}

const shareOfSession = statement<{ one: number }>(
  'account.share_of_session',
  `SELECT 1 AS one FROM account
    WHERE account_id = (SELECT s.account_id FROM session s WHERE s.refresh_hash = $1) FOR SHARE`,
);

const lockSessionRow = statement<SessionRow>(
  'session.lock',
  `SELECT s.session_id AS "sessionId", s.account_id AS "accountId", s.family_id AS "familyId",
          s.expires_at AS "expiresAt", s.rotated_at AS "rotatedAt", s.revoked_at AS "revokedAt",
          s.only_tenant_id AS "onlyTenantId",
          EXISTS (SELECT FROM session c WHERE c.family_id = s.family_id AND c.parent_id = s.session_id
                    AND c.rotated_at IS NOT NULL) AS "childUsed"
     FROM session s JOIN account a ON a.account_id = s.account_id AND a.disabled_at IS NULL
    WHERE s.refresh_hash = $1 FOR UPDATE OF s`,
);

/** The session of a refresh token, locked: rotations of one token follow each other, and no revocation comes between. */
export async function lockSession(client: Runner, refreshHash: Buffer): Promise<SessionRow | null> {
  // The account first, as those who end sessions do.
  await run(client, shareOfSession, [refreshHash]);
  return (await run(client, lockSessionRow, [refreshHash]))[0] ?? null;
}

const markRotated = statement('session.rotate', `UPDATE session SET rotated_at = $2 WHERE session_id = $1`);

export async function markSessionRotated(client: Runner, sessionId: string, at: Date): Promise<void> {
  await run(client, markRotated, [sessionId, at]);
}

const revokeFamilyRows = statement(
  'session.revoke_family',
  `UPDATE session SET revoked_at = $2 WHERE family_id = $1 AND revoked_at IS NULL`,
);

/** Ends a sign-in: every refresh token of the family, and with it every access token. */
export async function revokeFamily(
  client: Runner,
  accountId: AccountId,
  familyId: string,
  at: Date,
): Promise<void> {
  await lockSessionsOf(client, accountId);
  await run(client, revokeFamilyRows, [familyId, at]);
}
