// API keys. The secret is not here: credential_route leads from its hash to the row while the key is good.
import type { AccountId, KeyId } from '@penstock/domain/ids';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';
import type { PageQuery } from '../http/fields.js';

export interface ApiKey {
  keyId: KeyId;
  name: string;
  prefix: string;
  scopes: string[];
  cidrs: string[];
  accountId: AccountId;
  createdAt: Date;
  expiresAt: Date;
  lastUsedAt: Date | null;
  revokedAt: Date | null;
}

const countLiving = statement<{ living: number }>(
  'api_key.count',
  `SELECT count(*)::int AS living FROM api_key WHERE tenant_id = $1 AND revoked_at IS NULL AND expires_at > $2`,
);
const lockTenant = statement(
  'api_key.lock',
  `SELECT pg_advisory_xact_lock(hashtextextended('api keys ' || $1::text, 0))`,
);

/** How many keys of the tenant are good; makers of keys follow each other until the transaction ends. */
export async function countApiKeys({ actor, client, at }: Acting): Promise<number> {
  await run(client, lockTenant, [actor.tenantId]);
  return (await run(client, countLiving, [actor.tenantId, at]))[0]?.living ?? 0;
}

const insertRow = statement(
  'api_key.insert',
  `INSERT INTO api_key (tenant_id, key_id, account_id, name, prefix, scopes, cidrs, created_at, expires_at)
   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
);
const insertRoute = statement(
  'api_key.insert_route',
  `INSERT INTO credential_route (hash, tenant_id, kind, id) VALUES ($1, $2, 'api_key', $3)`,
);

export async function insertApiKey({ actor, client }: Acting, key: ApiKey, hash: Buffer): Promise<void> {
  const { keyId, accountId, name, prefix, scopes, cidrs, createdAt, expiresAt } = key;
  await run(client, insertRow, [
    ...[actor.tenantId, keyId, accountId, name, prefix, scopes, cidrs, createdAt, expiresAt],
  ]);
  await run(client, insertRoute, [hash, actor.tenantId, keyId]);
}

const selectPage = statement<ApiKey>(
  'api_key.page',
  `SELECT key_id AS "keyId", name, prefix, scopes, cidrs, account_id AS "accountId", created_at AS "createdAt",
          expires_at AS "expiresAt", last_used_at AS "lastUsedAt", revoked_at AS "revokedAt"
     FROM api_key WHERE tenant_id = $1 AND ($2::uuid IS NULL OR key_id > $2) ORDER BY key_id LIMIT $3`,
);

/** One row more than a page holds. Revoked and expired ones too. */
export function listApiKeys({ actor, client }: Acting, query: PageQuery): Promise<ApiKey[]> {
  return run(client, selectPage, [actor.tenantId, query.cursor ?? null, query.limit + 1]);
}

const selectOne = statement<ApiKey>(
  'api_key.get',
  `SELECT key_id AS "keyId", name, prefix, scopes, cidrs, account_id AS "accountId", created_at AS "createdAt",
          expires_at AS "expiresAt", last_used_at AS "lastUsedAt", revoked_at AS "revokedAt"
     FROM api_key WHERE tenant_id = $1 AND key_id = $2`,
);

export async function findApiKey({ actor, client }: Acting, keyId: KeyId): Promise<ApiKey | null> {
  return (await run(client, selectOne, [actor.tenantId, keyId]))[0] ?? null;
}

const deleteRoute = statement(
  'api_key.delete_route',
  `DELETE FROM credential_route WHERE tenant_id = $1 AND kind = 'api_key' AND id = $2`,
);

const revokeRowsOf = statement<{ keyId: KeyId }>(
  'api_key.revoke_of_maker',
  `UPDATE api_key SET revoked_at = $3 WHERE tenant_id = $1 AND account_id = $2 AND revoked_at IS NULL
   RETURNING key_id AS "keyId"`,
);

/** All that this person made in the acting tenant; how many there were. */
export async function revokeApiKeysOf({ actor, client, at }: Acting, maker: AccountId): Promise<number> {
  const rows = await run(client, revokeRowsOf, [actor.tenantId, maker, at]);
  for (const { keyId } of rows) await run(client, deleteRoute, [actor.tenantId, keyId]);
  return rows.length;
}

const revokeRow = statement<{ name: string }>(
  'api_key.revoke',
  `UPDATE api_key SET revoked_at = $3 WHERE tenant_id = $1 AND key_id = $2 AND revoked_at IS NULL RETURNING name`,
);

/** The name of the key that was good until now, null when there was none. */
export async function revokeApiKey({ actor, client, at }: Acting, keyId: KeyId): Promise<string | null> {
  const [row] = await run(client, revokeRow, [actor.tenantId, keyId, at]);
  if (row !== undefined) await run(client, deleteRoute, [actor.tenantId, keyId]);
  return row?.name ?? null;
}
