// The standing of keys and machine tokens: their maker's place today, and the limits of their own row. Found by a hash
// before a tenant is known (API keys) or by ids that we signed (machine tokens).
import { BlockList, isIPv6 } from 'node:net';
import { AppError } from '@penstock/domain/errors';
import type { AccountId, KeyId, TenantId } from '@penstock/domain/ids';
import type { Role } from '@penstock/domain/terms';
import type { Pool } from '@penstock/db/pool';
import { withTransaction } from '@penstock/db/transaction';
import { run, statement } from '@penstock/db/statement';
import type { Permission } from '../permissions.js';
import type { MachineClaims } from './access-token.js';
import { stronger, type KeyLimits, type Standing } from './standing.js';

const LAST_USE_MS = 60_000;

export interface ApiKeyCredential {
  kind: 'key';
  hash: Buffer;
}

interface MakerRow {
  platform: boolean;
  suspended: boolean;
  role: Role | null;
  platformRole: Role | null;
}

const selectRoute = statement<{ tenantId: TenantId; id: KeyId }>(
  'api_key.route',
  `SELECT tenant_id AS "tenantId", id FROM credential_route WHERE hash = $1 AND kind = 'api_key'`,
);

const selectKey = statement<{
  accountId: AccountId;
  scopes: Permission[];
  cidrs: string[];
  lastUsedAt: Date | null;
}>(
  'api_key.standing',
  `SELECT account_id AS "accountId", scopes, cidrs, last_used_at AS "lastUsedAt" FROM api_key
    WHERE tenant_id = $1 AND key_id = $2 AND revoked_at IS NULL AND expires_at > $3`,
);

// His place in the platform tenant shows only to a transaction that acts for him.
const actFor = statement('standing.act_for', `SELECT set_config('app.account_id', $1, true)`);

const selectMaker = statement<MakerRow>(
  'standing.maker',
  `SELECT t.kind = 'platform' AS platform, t.state = 'suspended' AS suspended,
          (SELECT m.role FROM member m WHERE m.tenant_id = t.tenant_id AND m.account_id = a.account_id) AS role,
          (SELECT m.role FROM member m JOIN platform p ON p.tenant_id = m.tenant_id
            WHERE m.account_id = a.account_id) AS "platformRole"
     FROM account a JOIN tenant t ON t.tenant_id = $2 WHERE a.account_id = $1 AND a.disabled_at IS NULL`,
);

const touchKey = statement(
  'api_key.touch',
  `UPDATE api_key SET last_used_at = $3
    WHERE tenant_id = $1 AND key_id = $2 AND coalesce(last_used_at < $3, true)`,
);

/** Throws unauthenticated for an unknown, revoked or expired key, forbidden when its maker has no role any more. */
export async function readApiKey(pool: Pool, { hash }: ApiKeyCredential, at: Date): Promise<Standing> {
  const [route] = await withTransaction(pool, (client) => run(client, selectRoute, [hash]));
  if (route === undefined) throw new AppError('unauthenticated', 'this API key is not valid');
  const { tenantId, id } = route;
  return withTransaction(
    pool,
    async (client) => {
      const [row] = await run(client, selectKey, [tenantId, id, at]);
      if (row === undefined) throw new AppError('unauthenticated', 'this API key is not valid');
      if (at.getTime() - (row.lastUsedAt?.getTime() ?? 0) >= LAST_USE_MS) {
        await run(client, touchKey, [tenantId, id, at]);
      }
      const { accountId, scopes, cidrs } = row;
      await run(client, actFor, [accountId]);
      const [maker] = await run(client, selectMaker, [accountId, tenantId]);
      const networks = cidrs.length === 0 ? null : blockList(cidrs);
      const limits = { keyId: id, scopes, networks, pathPrefix: null, singleUse: false };
      return standingOf(accountId, tenantId, maker, limits);
    },
    { tenantId },
  );
}

const selectToken = statement<{ scopes: Permission[]; pathPrefix: string; singleUse: boolean }>(
  'machine_token.standing',
  `SELECT k.scopes, k.path_prefix AS "pathPrefix", k.single_use AS "singleUse" FROM machine_token k
    WHERE k.tenant_id = $1 AND k.key_id = $2 AND k.jti_hash = $3 AND k.account_id = $4
      AND k.revoked_at IS NULL AND k.used_at IS NULL AND k.expires_at > $5
      AND NOT EXISTS (SELECT FROM machine_token b WHERE b.tenant_id = k.tenant_id
                         AND b.key_id = ANY (k.ancestors) AND b.revoked_at IS NOT NULL)`,
);

/** The same for a machine token whose signature is good. */
export async function readMachineToken(pool: Pool, claims: MachineClaims, at: Date): Promise<Standing> {
  const { tenantId, keyId, jtiHash, accountId } = claims;
  return withTransaction(
    pool,
    async (client) => {
      const [row] = await run(client, selectToken, [tenantId, keyId, jtiHash, accountId, at]);
      if (row === undefined)
        throw new AppError('unauthenticated', 'this machine token is not valid any more');
      const [maker] = await run(client, selectMaker, [accountId, tenantId]);
      return standingOf(accountId, tenantId, maker, { keyId, networks: null, ...row });
    },
    { tenantId, accountId },
  );
}

const useToken = statement<{ keyId: KeyId }>(
  'machine_token.use',
  `UPDATE machine_token SET used_at = $3 WHERE tenant_id = $1 AND key_id = $2 AND used_at IS NULL
   RETURNING key_id AS "keyId"`,
);

/** Uses up a single-use token; throws unauthenticated when somebody was first. */
export async function useMachineToken(pool: Pool, tenantId: TenantId, keyId: KeyId, at: Date): Promise<void> {
  const used = await withTransaction(pool, (client) => run(client, useToken, [tenantId, keyId, at]), {
    tenantId,
  });
  if (used.length === 0) throw new AppError('unauthenticated', 'this machine token was used before');
}

function standingOf(
  accountId: AccountId,
  tenantId: TenantId,
  maker: MakerRow | undefined,
  limits: Omit<KeyLimits, 'scopes'> & { scopes: readonly Permission[] },
): Standing {
  if (maker === undefined)
    throw new AppError('unauthenticated', 'whoever made this key is not here any more');
  const role = stronger(maker.role, maker.platformRole);
  if (role === null) throw new AppError('forbidden', 'whoever made this key has no role in this tenant');
  const { platform, suspended } = maker;
  const key = { ...limits, scopes: new Set(limits.scopes) };
  return { accountId, tenantId, role, platform, suspended, confined: false, familyId: null, key };
}

function blockList(cidrs: readonly string[]): BlockList {
  const list = new BlockList();
  for (const cidr of cidrs) {
    const [base = '', bits] = cidr.split('/');
    list.addSubnet(base, Number(bits), isIPv6(base) ? 'ipv6' : 'ipv4');
  }
  return list;
}
