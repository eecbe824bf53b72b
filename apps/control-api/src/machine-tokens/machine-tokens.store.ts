// Rows of machine tokens: what can be revoked or used up. The token itself is not here, only the hash of its jti.
import type { AccountId, KeyId } from '@penstock/domain/ids';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';
import type { PageQuery } from '../http/fields.js';
import type { Permission } from '../permissions.js';

export interface MachineToken {
  keyId: KeyId;
  name: string;
  accountId: AccountId;
  scopes: Permission[];
  audience: string;
  pathPrefix: string;
  singleUse: boolean;
  createdAt: Date;
  expiresAt: Date;
  usedAt: Date | null;
  revokedAt: Date | null;
}

const countLiving = statement<{ living: number }>(
  'machine_token.count',
  `SELECT count(*)::int AS living FROM machine_token
    WHERE tenant_id = $1 AND revoked_at IS NULL AND used_at IS NULL AND expires_at > $2`,
);
const lockTenant = statement(
  'machine_token.lock',
  `SELECT pg_advisory_xact_lock(hashtextextended('machine tokens ' || $1::text, 0))`,
);
const deleteOld = statement(
  'machine_token.delete_old',
  `DELETE FROM machine_token WHERE (tenant_id, key_id) IN (
     SELECT tenant_id, key_id FROM machine_token WHERE tenant_id = $1 AND expires_at < $2::timestamptz - interval '30 days'
      ORDER BY key_id LIMIT 100)`,
);

/** How many are good; makers follow each other until the transaction ends. Some that expired a month ago go. */
export async function countMachineTokens({ actor, client, at }: Acting): Promise<number> {
  await run(client, lockTenant, [actor.tenantId]);
  await run(client, deleteOld, [actor.tenantId, at]);
  return (await run(client, countLiving, [actor.tenantId, at]))[0]?.living ?? 0;
}

const insertRow = statement(
  'machine_token.insert',
  `INSERT INTO machine_token (tenant_id, key_id, account_id, name, jti_hash, ancestors, scopes, audience, path_prefix,
                              single_use, created_at, expires_at)
   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
);

export async function insertMachineToken(
  { actor, client }: Acting,
  token: MachineToken,
  jtiHash: Buffer,
  ancestors: readonly KeyId[],
): Promise<void> {
  const { keyId, accountId, name, scopes, audience, pathPrefix, singleUse, createdAt, expiresAt } = token;
  await run(client, insertRow, [
    ...[actor.tenantId, keyId, accountId, name, jtiHash, ancestors, scopes, audience, pathPrefix],
    ...[singleUse, createdAt, expiresAt],
  ]);
}

const selectParent = statement<MachineToken & { ancestors: KeyId[] }>(
  'machine_token.parent',
  `SELECT key_id AS "keyId", name, account_id AS "accountId", scopes, audience, path_prefix AS "pathPrefix",
          single_use AS "singleUse", created_at AS "createdAt", expires_at AS "expiresAt", used_at AS "usedAt",
          revoked_at AS "revokedAt", ancestors
     FROM machine_token WHERE tenant_id = $1 AND key_id = $2 AND revoked_at IS NULL AND expires_at > $3 FOR SHARE`,
);

/** A good token that another is narrowed from: it is not revoked before that one stands. */
export async function lockMachineToken(
  { actor, client, at }: Acting,
  keyId: KeyId,
): Promise<(MachineToken & { ancestors: KeyId[] }) | null> {
  return (await run(client, selectParent, [actor.tenantId, keyId, at]))[0] ?? null;
}

const selectPage = statement<MachineToken>(
  'machine_token.page',
  `SELECT key_id AS "keyId", name, account_id AS "accountId", scopes, audience, path_prefix AS "pathPrefix",
          single_use AS "singleUse", created_at AS "createdAt", expires_at AS "expiresAt", used_at AS "usedAt",
          revoked_at AS "revokedAt"
     FROM machine_token WHERE tenant_id = $1 AND ($2::uuid IS NULL OR key_id > $2) ORDER BY key_id LIMIT $3`,
);

/** One row more than a page holds. */
export function listMachineTokens({ actor, client }: Acting, query: PageQuery): Promise<MachineToken[]> {
  return run(client, selectPage, [actor.tenantId, query.cursor ?? null, query.limit + 1]);
}

const selectOne = statement<MachineToken>(
  'machine_token.get',
  `SELECT key_id AS "keyId", name, account_id AS "accountId", scopes, audience, path_prefix AS "pathPrefix",
          single_use AS "singleUse", created_at AS "createdAt", expires_at AS "expiresAt", used_at AS "usedAt",
          revoked_at AS "revokedAt"
     FROM machine_token WHERE tenant_id = $1 AND key_id = $2`,
);

export async function findMachineToken(
  { actor, client }: Acting,
  keyId: KeyId,
): Promise<MachineToken | null> {
  return (await run(client, selectOne, [actor.tenantId, keyId]))[0] ?? null;
}

const revokeRow = statement<{ name: string }>(
  'machine_token.revoke',
  `UPDATE machine_token SET revoked_at = $3 WHERE tenant_id = $1 AND key_id = $2 AND revoked_at IS NULL
   RETURNING name`,
);

const revokeRowsOf = statement<{ one: number }>(
  'machine_token.revoke_of_maker',
  `UPDATE machine_token SET revoked_at = $3 WHERE tenant_id = $1 AND account_id = $2 AND revoked_at IS NULL
   RETURNING 1 AS one`,
);

/** All that were made for this person in the acting tenant; how many there were. */
export async function revokeMachineTokensOf(
  { actor, client, at }: Acting,
  maker: AccountId,
): Promise<number> {
  return (await run(client, revokeRowsOf, [actor.tenantId, maker, at])).length;
}

/** The name of the token that was not revoked until now, null when there was none. */
export async function revokeMachineToken(
  { actor, client, at }: Acting,
  keyId: KeyId,
): Promise<string | null> {
  return (await run(client, revokeRow, [actor.tenantId, keyId, at]))[0]?.name ?? null;
}
