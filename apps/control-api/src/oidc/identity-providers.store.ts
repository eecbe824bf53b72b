// Identity providers of a tenant. The client secret is sealed here and opened for the provider alone.
import type { TenantId } from '@penstock/domain/ids';
import { run, statement, type Runner } from '@penstock/db/statement';
import type { Acting } from '../database.js';
import type { PageQuery } from '../http/fields.js';

export interface IdentityProvider {
  identityProviderId: string;
  name: string;
  issuer: string;
  clientId: string;
  enabled: boolean;
  version: number;
  createdAt: Date;
}

const countRows = statement<{ count: number }>(
  'identity_provider.count',
  `SELECT count(*)::int AS count FROM identity_provider WHERE tenant_id = $1`,
);
const lockTenant = statement(
  'identity_provider.lock_tenant',
  `SELECT pg_advisory_xact_lock(hashtextextended('identity providers ' || $1::text, 0))`,
);

/** Makers follow each other until the transaction ends. */
export async function countProviders({ actor, client }: Acting): Promise<number> {
  await run(client, lockTenant, [actor.tenantId]);
  return (await run(client, countRows, [actor.tenantId]))[0]?.count ?? 0;
}

const insertRow = statement(
  'identity_provider.insert',
  `INSERT INTO identity_provider (tenant_id, identity_provider_id, name, issuer, client_id, secret_sealed, enabled, created_at)
   VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
);

export async function insertProvider(
  { actor, client }: Acting,
  provider: IdentityProvider,
  secretSealed: Buffer,
): Promise<void> {
  const { identityProviderId, name, issuer, clientId, enabled, createdAt } = provider;
  await run(client, insertRow, [
    ...[actor.tenantId, identityProviderId, name, issuer, clientId, secretSealed, enabled, createdAt],
  ]);
}

const selectPage = statement<IdentityProvider>(
  'identity_provider.page',
  `SELECT identity_provider_id AS "identityProviderId", name, issuer, client_id AS "clientId", enabled, version,
          created_at AS "createdAt"
     FROM identity_provider WHERE tenant_id = $1 AND ($2::uuid IS NULL OR identity_provider_id > $2)
    ORDER BY identity_provider_id LIMIT $3`,
);

/** One row more than a page holds. */
export function listProviders({ actor, client }: Acting, query: PageQuery): Promise<IdentityProvider[]> {
  return run(client, selectPage, [actor.tenantId, query.cursor ?? null, query.limit + 1]);
}

const selectOne = statement<IdentityProvider>(
  'identity_provider.get',
  `SELECT identity_provider_id AS "identityProviderId", name, issuer, client_id AS "clientId", enabled, version,
          created_at AS "createdAt"
     FROM identity_provider WHERE tenant_id = $1 AND identity_provider_id = $2`,
);

export async function findProvider({ actor, client }: Acting, id: string): Promise<IdentityProvider | null> {
  return (await run(client, selectOne, [actor.tenantId, id]))[0] ?? null;
}

const lockRow = statement(
  'identity_provider.lock',
  `SELECT FROM identity_provider WHERE tenant_id = $1 AND identity_provider_id = $2 FOR UPDATE`,
);

export async function lockProvider(acting: Acting, id: string): Promise<IdentityProvider | null> {
  await run(acting.client, lockRow, [acting.actor.tenantId, id]);
  return findProvider(acting, id);
}

const updateRow = statement(
  'identity_provider.update',
  `UPDATE identity_provider SET name = $3, issuer = $4, client_id = $5, enabled = $6,
          secret_sealed = coalesce($7, secret_sealed), version = version + 1
    WHERE tenant_id = $1 AND identity_provider_id = $2`,
);

/** `secretSealed` null: the secret stays. */
export async function updateProvider(
  { actor, client }: Acting,
  provider: IdentityProvider,
  secretSealed: Buffer | null,
): Promise<void> {
  const { identityProviderId, name, issuer, clientId, enabled } = provider;
  await run(client, updateRow, [
    ...[actor.tenantId, identityProviderId, name, issuer, clientId, enabled, secretSealed],
  ]);
}

const deleteRow = statement(
  'identity_provider.delete',
  `DELETE FROM identity_provider WHERE tenant_id = $1 AND identity_provider_id = $2`,
);

/** The links that people made to it go with it. */
export async function deleteProvider({ actor, client }: Acting, id: string): Promise<void> {
  await run(client, deleteRow, [actor.tenantId, id]);
}

export interface SigningInProvider {
  identityProviderId: string;
  tenantId: TenantId;
  issuer: string;
  clientId: string;
  secretSealed: Buffer;
  version: number;
  /** The operator's own: it serves every tenant. */
  platform: boolean;
}

const begin = statement('identity_provider.begin', `SELECT set_config('app.identity_provider_id', $1, true)`);

/** From here the transaction sees this provider and its links, and nothing else of its tenant. */
export async function beginSignIn(client: Runner, identityProviderId: string): Promise<void> {
  await run(client, begin, [identityProviderId]);
}

const selectEnabled = statement<SigningInProvider>(
  'identity_provider.of_sign_in',
  `SELECT p.identity_provider_id AS "identityProviderId", p.tenant_id AS "tenantId", p.issuer,
          p.client_id AS "clientId", p.secret_sealed AS "secretSealed", p.version,
          EXISTS (SELECT FROM platform x WHERE x.tenant_id = p.tenant_id) AS platform
     FROM identity_provider p WHERE p.identity_provider_id = $1 AND p.enabled`,
);

/** Needs beginSignIn. */
export async function findEnabledProvider(client: Runner, id: string): Promise<SigningInProvider | null> {
  return (await run(client, selectEnabled, [id]))[0] ?? null;
}

const selectPublic = statement<{ identityProviderId: string; name: string }>(
  'identity_provider.public',
  `SELECT p.identity_provider_id AS "identityProviderId", p.name
     FROM identity_provider p JOIN platform x ON x.tenant_id = p.tenant_id
    WHERE p.enabled ORDER BY p.name, p.identity_provider_id LIMIT $1`,
);

/** The operator's own, for the sign-in page. Needs the platform tenant in the transaction. */
export function listPublicProviders(
  client: Runner,
  max: number,
): Promise<{ identityProviderId: string; name: string }[]> {
  return run(client, selectPublic, [max]);
}
