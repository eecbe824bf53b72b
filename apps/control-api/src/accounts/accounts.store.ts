// Accounts as wholes: what a person calls himself, and whether the platform lets him in at all.
import type { AccountId, TenantId } from '@penstock/domain/ids';
import { run, statement, type Runner } from '@penstock/db/statement';
import type { Acting } from '../database.js';

export interface Account {
  accountId: AccountId;
  email: string;
  displayName: string;
  disabledAt: Date | null;
}

const COLUMNS = `account_id AS "accountId", email, display_name AS "displayName", disabled_at AS "disabledAt"`;

const lockRow = statement<Account>(
  'account.lock',
  `SELECT ${COLUMNS} FROM account WHERE account_id = $1 FOR NO KEY UPDATE`,
);

export async function lockAccount(client: Runner, accountId: AccountId): Promise<Account | null> {
  return (await run(client, lockRow, [accountId]))[0] ?? null;
}

const renameRow = statement('account.rename', `UPDATE account SET display_name = $2 WHERE account_id = $1`);

export async function renameAccount(client: Runner, accountId: AccountId, name: string): Promise<void> {
  await run(client, renameRow, [accountId, name]);
}

const disableRow = statement(
  'account.set_disabled',
  `UPDATE account SET disabled_at = $2 WHERE account_id = $1`,
);

/** null: let in again. */
export async function setDisabled(client: Runner, accountId: AccountId, at: Date | null): Promise<void> {
  await run(client, disableRow, [accountId, at]);
}

const lockTenantRow = statement<{ tenantId: TenantId }>(
  'tenant.lock_for_owners',
  `SELECT tenant_id AS "tenantId" FROM tenant WHERE tenant_id = $1 FOR NO KEY UPDATE`,
);
const countOwners = statement<{ owners: number }>(
  'member.count_other_owners',
  `SELECT count(*)::int AS owners FROM member m JOIN account a ON a.account_id = m.account_id AND a.disabled_at IS NULL
    WHERE m.tenant_id = $1 AND m.role = 'owner' AND m.account_id <> $2`,
);

/** Owners of the transaction's tenant who can sign in, without this account. Locks the tenant: owners do not change. */
export async function lockOtherOwners({ actor, client }: Acting, accountId: AccountId): Promise<number> {
  await run(client, lockTenantRow, [actor.tenantId]);
  return (await run(client, countOwners, [actor.tenantId, accountId]))[0]?.owners ?? 0;
}
