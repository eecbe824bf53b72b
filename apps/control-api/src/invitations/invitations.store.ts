// Invitations of the acting tenant, and the account that one leads to. A link's hash leads to its tenant and its id
// before any tenant is known (credential_route); everything else is behind row security.
import { AppError } from '@penstock/domain/errors';
import type { AccountId, TenantId } from '@penstock/domain/ids';
import { nameKey } from '@penstock/domain/name-key';
import type { Role } from '@penstock/domain/terms';
import { run, statement, type Runner } from '@penstock/db/statement';
import type { Acting } from '../database.js';
import type { PageQuery } from '../http/fields.js';

export interface Invitation {
  invitationId: string;
  email: string;
  role: Role;
  state: 'open' | 'accepted' | 'revoked' | 'expired';
  createdBy: AccountId | null;
  createdAt: Date;
  expiresAt: Date;
  acceptedBy: AccountId | null;
}

// $2 is the time of the request, by which an open one is expired.
const COLUMNS = `i.invitation_id AS "invitationId", i.email, i.role,
  CASE WHEN i.accepted_at IS NOT NULL THEN 'accepted' WHEN i.revoked_at IS NOT NULL THEN 'revoked'
       WHEN i.expires_at <= $2::timestamptz THEN 'expired' ELSE 'open' END AS state,
  i.created_by AS "createdBy", i.created_at AS "createdAt", i.expires_at AS "expiresAt",
  i.accepted_by AS "acceptedBy"`;

// An expired one makes place for the next of the same address.
const clearExpired = statement(
  'invitation.clear_expired',
  `UPDATE invitation SET revoked_at = $3
    WHERE tenant_id = $1 AND email_key = $2 AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at <= $3`,
);
const insertRow = statement(
  'invitation.insert',
  `INSERT INTO invitation (tenant_id, invitation_id, email, email_key, role, hash, created_by, created_at, expires_at)
   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
);
const insertRoute = statement(
  'invitation.insert_route',
  `INSERT INTO credential_route (hash, tenant_id, kind, id) VALUES ($1, $2, 'invitation', $3)`,
);

export interface NewInvitationRow {
  invitationId: string;
  email: string;
  role: Role;
  hash: Buffer;
  expiresAt: Date;
}

/** Throws conflict naming the email when an open one exists for it. */
export async function insertInvitation({ actor, client, at }: Acting, row: NewInvitationRow): Promise<void> {
  const { invitationId, email, role, hash, expiresAt } = row;
  const key = nameKey(email);
  await run(client, clearExpired, [actor.tenantId, key, at]);
  await run(client, insertRow, [
    ...[actor.tenantId, invitationId, email, key, role, hash, actor.accountId, at, expiresAt],
  ]).catch((error: unknown) => {
    if (!(error instanceof AppError) || error.code !== 'conflict') throw error;
    throw new AppError('conflict', 'email: this address has an open invitation; take it back first', {
      field: 'email',
      cause: error,
    });
  });
  await run(client, insertRoute, [hash, actor.tenantId, invitationId]);
}

const selectPage = statement<Invitation>(
  'invitation.page',
  `SELECT ${COLUMNS} FROM invitation i
    WHERE i.tenant_id = $1 AND ($3::uuid IS NULL OR i.invitation_id > $3) ORDER BY i.invitation_id LIMIT $4`,
);

/** One row more than a page holds. */
export function listInvitations({ actor, client, at }: Acting, query: PageQuery): Promise<Invitation[]> {
  return run(client, selectPage, [actor.tenantId, at, query.cursor ?? null, query.limit + 1]);
}

const lockOne = statement<Invitation>(
  'invitation.lock',
  `SELECT ${COLUMNS} FROM invitation i WHERE i.tenant_id = $1 AND i.invitation_id = $3 FOR UPDATE OF i`,
);

/** The invitation, locked. Throws not_found. */
export async function lockInvitation({ actor, client, at }: Acting, id: string): Promise<Invitation> {
  const [row] = await run(client, lockOne, [actor.tenantId, at, id]);
  if (row === undefined) throw new AppError('not_found', 'there is no such invitation');
  return row;
}

const revokeRow = statement(
  'invitation.revoke',
  `UPDATE invitation SET revoked_at = $3 WHERE tenant_id = $1 AND invitation_id = $2`,
);
const acceptRow = statement(
  'invitation.accept',
  `UPDATE invitation SET accepted_at = $3, accepted_by = $4 WHERE tenant_id = $1 AND invitation_id = $2`,
);

export async function revokeInvitation({ actor, client, at }: Acting, id: string): Promise<void> {
  await run(client, revokeRow, [actor.tenantId, id, at]);
}

export async function useInvitation(
  { actor, client, at }: Acting,
  id: string,
  accountId: AccountId,
): Promise<void> {
  await run(client, acceptRow, [actor.tenantId, id, at, accountId]);
}

const selectRoute = statement<{ tenantId: TenantId; invitationId: string }>(
  'invitation.route',
  `SELECT tenant_id AS "tenantId", id AS "invitationId" FROM credential_route WHERE hash = $1 AND kind = 'invitation'`,
);

/** Where a link leads; needs no tenant. */
export async function findRoute(
  client: Runner,
  hash: Buffer,
): Promise<{ tenantId: TenantId; invitationId: string } | null> {
  return (await run(client, selectRoute, [hash]))[0] ?? null;
}

export interface InvitedAccount {
  accountId: AccountId;
  email: string;
  passwordHash: string;
  disabled: boolean;
}

const selectAccount = statement<InvitedAccount>(
  'account.invited',
  `SELECT account_id AS "accountId", email, password_hash AS "passwordHash", disabled_at IS NOT NULL AS disabled
     FROM account WHERE email = $1 OR email_key = $2 ORDER BY email <> $1 LIMIT 1`,
);

/** The account with this address, or with one that people take for the same. */
export async function findInvitedAccount(client: Runner, email: string): Promise<InvitedAccount | null> {
  return (await run(client, selectAccount, [email, nameKey(email)]))[0] ?? null;
}

const insertAccountRow = statement(
  'account.insert_invited',
  `INSERT INTO account (account_id, email, email_key, display_name, password_hash, created_at)
   VALUES ($1, $2, $3, $4, $5, $6)`,
);

export interface NewAccount {
  accountId: AccountId;
  email: string;
  displayName: string;
  passwordHash: string;
}

/** Throws conflict when the address was taken meanwhile. */
export async function insertAccount({ client, at }: Acting, account: NewAccount): Promise<void> {
  const { accountId, email, displayName, passwordHash } = account;
  await run(client, insertAccountRow, [accountId, email, nameKey(email), displayName, passwordHash, at]);
}
