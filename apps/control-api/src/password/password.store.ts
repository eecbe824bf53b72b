// Password hashes and one-time links. A link is used up by one statement, so that two who hold it make one change.
import type { AccountId, TenantId } from '@penstock/domain/ids';
import { run, statement, type Runner } from '@penstock/db/statement';

const updatePassword = statement(
  'account.change_password',
  `UPDATE account SET password_hash = $2 WHERE account_id = $1`,
);

export async function changePassword(client: Runner, accountId: AccountId, hash: string): Promise<void> {
  await run(client, updatePassword, [accountId, hash]);
}

const replacePasswordHash = statement<{ changed: boolean }>(
  'account.replace_password',
  `UPDATE account SET password_hash = $3 WHERE account_id = $1 AND password_hash = $2 RETURNING true AS changed`,
);

/** False when the password is not that of the hash `from` any more. */
export async function replacePassword(
  client: Runner,
  accountId: AccountId,
  from: string,
  to: string,
): Promise<boolean> {
  return (await run(client, replacePasswordHash, [accountId, from, to])).length === 1;
}

export interface NewLink {
  hash: Buffer;
  accountId: AccountId;
  removesSecondFactor: boolean;
  /** null: made by the platform. */
  madeIn: TenantId | null;
  createdBy: AccountId | null;
  createdAt: Date;
  expiresAt: Date;
}

const insertLinkRow = statement(
  'one_time_link.insert',
  `INSERT INTO one_time_link (hash, kind, account_id, removes_second_factor, made_in, created_by, created_at, expires_at)
   VALUES ($1, 'password_reset', $2, $3, $4, $5, $6, $7)`,
);

export async function insertLink(client: Runner, link: NewLink): Promise<void> {
  const { hash, accountId, removesSecondFactor, madeIn, createdBy, createdAt, expiresAt } = link;
  await run(client, insertLinkRow, [
    ...[hash, accountId, removesSecondFactor, madeIn, createdBy, createdAt, expiresAt],
  ]);
}

export interface Link {
  accountId: AccountId;
  removesSecondFactor: boolean;
  madeIn: TenantId | null;
  createdBy: AccountId | null;
  expiresAt: Date;
  usedAt: Date | null;
}

const selectLinkRow = statement<Link>(
  'one_time_link.select',
  `SELECT l.account_id AS "accountId", l.removes_second_factor AS "removesSecondFactor", l.made_in AS "madeIn",
          l.created_by AS "createdBy", l.expires_at AS "expiresAt", l.used_at AS "usedAt"
     FROM one_time_link l JOIN account a ON a.account_id = l.account_id AND a.disabled_at IS NULL
    WHERE l.hash = $1 AND l.kind = 'password_reset'`,
);

export async function findLink(client: Runner, hash: Buffer): Promise<Link | null> {
  return (await run(client, selectLinkRow, [hash]))[0] ?? null;
}

const actForRow = statement('password_reset.act_for', `SELECT set_config('app.account_id', $1, true)`);

/** From here the transaction sees what this account sees of itself. */
export async function actFor(client: Runner, accountId: AccountId): Promise<void> {
  await run(client, actForRow, [accountId]);
}

const actInRow = statement('password_reset.act_in', `SELECT set_config('app.tenant_id', $1, true)`);

/** From here the transaction acts in this tenant. */
export async function actIn(client: Runner, tenantId: TenantId): Promise<void> {
  await run(client, actInRow, [tenantId]);
}

const nameKeysOf = statement('password_reset.keys_of', `SELECT set_config('app.keys_of', $1, true)`);
const selectTenantsOfKeys = statement<{ tenantId: TenantId }>(
  'password_reset.tenants_of_keys',
  `SELECT tenant_id AS "tenantId" FROM api_key WHERE account_id = $1 AND revoked_at IS NULL
   UNION SELECT tenant_id FROM machine_token WHERE account_id = $1 AND revoked_at IS NULL ORDER BY 1`,
);

/** Where the account made API keys or machine tokens that are not revoked, member or not; in the order of the ids. */
export async function listTenantsOfKeys(client: Runner, accountId: AccountId): Promise<TenantId[]> {
  await run(client, nameKeysOf, [accountId]);
  return (await run(client, selectTenantsOfKeys, [accountId])).map(({ tenantId }) => tenantId);
}

const useLinkRow = statement<{ used: boolean }>(
  'one_time_link.use',
  `UPDATE one_time_link SET used_at = $2 WHERE hash = $1 AND used_at IS NULL AND expires_at > $2 RETURNING true AS used`,
);

/** False when somebody else was first. */
export async function useLink(client: Runner, hash: Buffer, at: Date): Promise<boolean> {
  return (await run(client, useLinkRow, [hash, at])).length === 1;
}

const voidLinkRows = statement(
  'one_time_link.void',
  `UPDATE one_time_link SET used_at = $2 WHERE account_id = $1 AND used_at IS NULL`,
);

/** The account's open links work no more: its password was set. */
export async function voidLinks(client: Runner, accountId: AccountId, at: Date): Promise<void> {
  await run(client, voidLinkRows, [accountId, at]);
}

const deleteTotpRows = statement('totp.delete_all', `DELETE FROM totp WHERE account_id = $1`);
const deleteCodeRows = statement(
  'recovery_code.delete_all',
  `DELETE FROM recovery_code WHERE account_id = $1`,
);
const deleteIdentityRows = statement(
  'identity_link.delete_all',
  `DELETE FROM identity_link WHERE account_id = $1`,
);
const deletePasskeyRows = statement('passkey.delete_all', `DELETE FROM passkey WHERE account_id = $1`);

/** What else opens the transaction's account: authenticator and recovery codes, passkeys, identities at providers. */
export async function deleteSecondFactors(client: Runner, accountId: AccountId): Promise<void> {
  await run(client, deleteTotpRows, [accountId]);
  await run(client, deleteCodeRows, [accountId]);
  await run(client, deletePasskeyRows, [accountId]);
  await run(client, deleteIdentityRows, [accountId]);
}
