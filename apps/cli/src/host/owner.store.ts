// Gives the platform an owner from the host, with control-api's login in the platform's transaction.
import { run, statement, type Runner } from '@penstock/db/statement';
import type { AccountId, TenantId } from '@penstock/domain/ids';
import { nameKey } from '@penstock/domain/name-key';

const lockTenant = statement(
  'host.lock_tenant',
  `SELECT tenant_id FROM tenant WHERE tenant_id = $1 FOR NO KEY UPDATE`,
);

/** Changes of the tenant's people follow each other, as in control-api. */
export async function lockPlatform(runner: Runner, tenantId: TenantId): Promise<void> {
  await run(runner, lockTenant, [tenantId]);
}

export interface FoundAccount {
  accountId: AccountId;
  email: string;
  disabled: boolean;
}

const selectAccount = statement<FoundAccount>(
  'host.find_account',
  `SELECT account_id AS "accountId", email, disabled_at IS NOT NULL AS disabled
     FROM account WHERE email = $1 OR email_key = $2 ORDER BY email <> $1 LIMIT 1 FOR UPDATE`,
);
const insertAccountRow = statement(
  'host.insert_account',
  `INSERT INTO account (account_id, email, email_key, display_name, password_hash, created_at)
   VALUES ($1, $2, $3, $2, 'none', $4)`,
);
const enableRow = statement(
  'host.enable_account',
  `UPDATE account SET disabled_at = NULL WHERE account_id = $1`,
);

export async function findAccount(runner: Runner, email: string): Promise<FoundAccount | null> {
  return (await run(runner, selectAccount, [email, nameKey(email)]))[0] ?? null;
}

/** An account without a password: nothing signs in to it before its link was used. */
export async function insertAccount(
  runner: Runner,
  accountId: AccountId,
  email: string,
  at: Date,
): Promise<void> {
  await run(runner, insertAccountRow, [accountId, email, nameKey(email), at]);
}

export async function enableAccount(runner: Runner, accountId: AccountId): Promise<void> {
  await run(runner, enableRow, [accountId]);
}

const selectRole = statement<{ role: string }>(
  'host.role_of',
  `SELECT role FROM member WHERE tenant_id = $1 AND account_id = $2`,
);
const upsertOwner = statement(
  'host.make_owner',
  `INSERT INTO member AS m (tenant_id, account_id, role, created_at) VALUES ($1, $2, 'owner', $3)
   ON CONFLICT (tenant_id, account_id) DO UPDATE SET role = 'owner', version = m.version + 1 WHERE m.role <> 'owner'`,
);

/** Makes the account an owner; the role that it had, null for none. */
export async function makeOwner(
  runner: Runner,
  tenantId: TenantId,
  accountId: AccountId,
  at: Date,
): Promise<string | null> {
  const [before] = await run(runner, selectRole, [tenantId, accountId]);
  await run(runner, upsertOwner, [tenantId, accountId, at]);
  return before?.role ?? null;
}

const voidLinks = statement(
  'host.void_links',
  `UPDATE one_time_link SET used_at = $2 WHERE account_id = $1 AND used_at IS NULL`,
);
const insertLink = statement(
  'host.insert_link',
  `INSERT INTO one_time_link (hash, kind, account_id, removes_second_factor, created_at, expires_at)
   VALUES ($1, 'password_reset', $2, $3, $4, $5)`,
);

/** Keeps the hash of a new link; those before it stop working. */
export async function keepLink(
  runner: Runner,
  link: { hash: Buffer; accountId: AccountId; removesSecondFactor: boolean; at: Date; expiresAt: Date },
): Promise<void> {
  const { hash, accountId, removesSecondFactor, at, expiresAt } = link;
  await run(runner, voidLinks, [accountId, at]);
  await run(runner, insertLink, [hash, accountId, removesSecondFactor, at, expiresAt]);
}
