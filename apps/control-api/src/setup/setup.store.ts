// The platform tenant and its first owner. The link's hash is the only trace of it; it is used up by the transaction
// that makes the owner.
import type { AccountId, TenantId } from '@penstock/domain/ids';
import { nameKey } from '@penstock/domain/name-key';
import { run, statement, type Runner } from '@penstock/db/statement';

const lockPlatform = statement(
  'platform.lock',
  `SELECT pg_advisory_xact_lock(hashtextextended('platform', 0))`,
);
const selectPlatform = statement<{ tenantId: TenantId }>(
  'platform.select',
  `SELECT tenant_id AS "tenantId" FROM platform`,
);
const insertPlatformTenant = statement(
  'platform.insert_tenant',
  `INSERT INTO tenant (tenant_id, name, name_key, kind) VALUES ($1, $2, $3, 'platform')`,
);
const insertPlatform = statement('platform.insert', `INSERT INTO platform (tenant_id) VALUES ($1)`);

/** One at a time, over all processes, until the transaction ends. */
export async function lockFirstStart(client: Runner): Promise<void> {
  await run(client, lockPlatform);
}

export async function findPlatform(client: Runner): Promise<TenantId | null> {
  return (await run(client, selectPlatform))[0]?.tenantId ?? null;
}

export async function insertPlatformRows(client: Runner, tenantId: TenantId, name: string): Promise<void> {
  await run(client, insertPlatformTenant, [tenantId, name, nameKey(name)]);
  await run(client, insertPlatform, [tenantId]);
}

const hasOwner = statement<{ exists: boolean }>(
  'platform.has_owner',
  `SELECT EXISTS (SELECT FROM member m JOIN platform p ON p.tenant_id = m.tenant_id WHERE m.role = 'owner') AS exists`,
);

/** Needs the platform tenant in the transaction. */
export async function platformHasOwner(client: Runner): Promise<boolean> {
  return (await run(client, hasOwner))[0]?.exists ?? false;
}

const insertLink = statement(
  'setup_link.insert',
  `INSERT INTO setup_link (hash, created_at) VALUES ($1, $2) ON CONFLICT (hash) DO NOTHING`,
);

export async function insertSetupLink(client: Runner, hash: Buffer, at: Date): Promise<void> {
  await run(client, insertLink, [hash, at]);
}

const selectLink = statement<{ usedAt: Date | null }>(
  'setup_link.select',
  `SELECT used_at AS "usedAt" FROM setup_link WHERE hash = $1`,
);

export async function findSetupLink(client: Runner, hash: Buffer): Promise<{ usedAt: Date | null } | null> {
  return (await run(client, selectLink, [hash]))[0] ?? null;
}

const useLink = statement<{ used: boolean }>(
  'setup_link.use',
  `UPDATE setup_link SET used_at = $2 WHERE hash = $1 AND used_at IS NULL RETURNING true AS used`,
);

/** False when somebody else was first. */
export async function useSetupLink(client: Runner, hash: Buffer, at: Date): Promise<boolean> {
  return (await run(client, useLink, [hash, at])).length === 1;
}

const insertAccountRow = statement(
  'account.insert',
  `INSERT INTO account (account_id, email, email_key, display_name, password_hash, created_at)
   VALUES ($1, $2, $3, $4, $5, $6)`,
);
const insertOwnerRow = statement(
  'member.insert_owner',
  `INSERT INTO member (tenant_id, account_id, role, created_at) VALUES ($1, $2, 'owner', $3)`,
);
const renameTenantRow = statement(
  'tenant.rename',
  `UPDATE tenant SET name = $2, name_key = $3, version = version + 1 WHERE tenant_id = $1`,
);

export interface NewOwner {
  accountId: AccountId;
  email: string;
  displayName: string;
  passwordHash: string;
}

export async function insertOwner(
  client: Runner,
  tenantId: TenantId,
  owner: NewOwner,
  at: Date,
): Promise<void> {
  const { accountId, email, displayName, passwordHash } = owner;
  await run(client, insertAccountRow, [accountId, email, nameKey(email), displayName, passwordHash, at]);
  await run(client, insertOwnerRow, [tenantId, accountId, at]);
}

export async function renameTenant(client: Runner, tenantId: TenantId, name: string): Promise<void> {
  await run(client, renameTenantRow, [tenantId, name, nameKey(name)]);
}
