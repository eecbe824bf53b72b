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

/** Locks the transaction's tenant: its owners do not change any more. */
export async function lockOwners({ actor, client }: Acting): Promise<void> {
  await run(client, lockTenantRow, [actor.tenantId]);
}
