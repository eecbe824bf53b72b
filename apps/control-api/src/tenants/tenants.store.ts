// Tenants: row security shows the list to the operator only; a tenant sees itself.
import { AppError } from '@penstock/domain/errors';
import { newId, type TenantId } from '@penstock/domain/ids';
import { nameKey } from '@penstock/domain/name-key';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';
import type { PageQuery } from '../http/fields.js';
import type { ChangedTenant, Limits } from './tenants.schema.js';

export interface Tenant {
  tenantId: TenantId;
  name: string;
  kind: 'platform' | 'customer';
  state: 'active' | 'suspended';
  suspendedAt: Date | null;
  timeZone: string;
  limits: {
    subscriptions: number | null;
    nodes: number | null;
    poolBytes: bigint | null;
    apiPerMinute: number | null;
  };
  version: number;
  createdAt: Date;
}

type TenantRow = Omit<Tenant, 'limits'> & Tenant['limits'];

const COLUMNS = `tenant_id AS "tenantId", name, kind, state, suspended_at AS "suspendedAt", time_zone AS "timeZone",
  limit_subscriptions AS subscriptions, limit_nodes AS nodes, limit_pool_bytes AS "poolBytes",
  limit_api_per_minute AS "apiPerMinute", version, created_at AS "createdAt"`;

function viewOf({ subscriptions, nodes, poolBytes, apiPerMinute, ...row }: TenantRow): Tenant {
  return { ...row, limits: { subscriptions, nodes, poolBytes, apiPerMinute } };
}

// One transaction at a time asks for a name, so that two who come at once are told apart by the name and not by luck.
const selectSameName = statement<{ tenantId: TenantId }>(
  'tenant.same_name',
  `SELECT tenant_id AS "tenantId" FROM tenant WHERE name_key = $1 AND tenant_id <> $2`,
);

/** The unique index is the rule; row security may hide the other tenant, so its refusal is translated too. */
async function namingThe<T>(write: Promise<T>): Promise<T> {
  return write.catch((error: unknown) => {
    if (error instanceof AppError && error.code === 'conflict') throw nameTaken(error);
    throw error;
  });
}

function nameTaken(cause?: unknown): AppError {
  return new AppError('conflict', 'name: another tenant has this name or one that looks like it', {
    field: 'name',
    cause,
  });
}

const insertRow = statement<TenantRow>(
  'tenant.insert',
  `INSERT INTO tenant (tenant_id, name, name_key, kind, time_zone, limit_subscriptions, limit_nodes, limit_pool_bytes,
                       limit_api_per_minute, created_at)
   VALUES ($1, $2, $3, 'customer', $4, $5, $6, $7, $8, $9) RETURNING ${COLUMNS}`,
);

export interface NewTenantRow {
  tenantId: TenantId;
  name: string;
  timeZone: string;
  limits: Limits;
}

/** Throws conflict naming the name. */
export async function insertTenant({ client, at }: Acting, tenant: NewTenantRow): Promise<Tenant> {
  const { tenantId, name, timeZone, limits } = tenant;
  const key = nameKey(name);
  if ((await run(client, selectSameName, [key, tenantId])).length > 0) throw nameTaken();
  const { subscriptions = null, nodes = null, poolBytes = null, apiPerMinute = null } = limits;
  const [row] = await namingThe(
    run(client, insertRow, [
      ...[tenantId, name, key, timeZone, subscriptions, nodes, poolBytes, apiPerMinute, at],
    ]),
  );
  return viewOf(row as TenantRow);
}

const selectPage = statement<TenantRow>(
  'tenant.page',
  `SELECT ${COLUMNS} FROM tenant WHERE ($1::uuid IS NULL OR tenant_id > $1) ORDER BY tenant_id LIMIT $2`,
);

/** One row more than a page holds. */
export async function listTenants({ client }: Acting, query: PageQuery): Promise<Tenant[]> {
  return (await run(client, selectPage, [query.cursor ?? null, query.limit + 1])).map(viewOf);
}

const selectOne = statement<TenantRow>('tenant.get', `SELECT ${COLUMNS} FROM tenant WHERE tenant_id = $1`);

/** Throws not_found. */
export async function getTenant({ client }: Acting, id: TenantId): Promise<Tenant> {
  const [row] = await run(client, selectOne, [id]);
  if (row === undefined) throw new AppError('not_found', 'there is no such tenant');
  return viewOf(row);
}

const lockRow = statement<TenantRow>(
  'tenant.lock',
  `SELECT ${COLUMNS} FROM tenant WHERE tenant_id = $1 FOR NO KEY UPDATE`,
);

/** The tenant, locked: changes of it, of its people and of what it has limits for follow each other. Throws not_found. */
export async function lockTenant({ client }: Acting, id: TenantId): Promise<Tenant> {
  const [row] = await run(client, lockRow, [id]);
  if (row === undefined) throw new AppError('not_found', 'there is no such tenant');
  return viewOf(row);
}

const updateRow = statement<TenantRow>(
  'tenant.update',
  `UPDATE tenant SET name = $2, name_key = $3, time_zone = $4, limit_subscriptions = $5, limit_nodes = $6,
          limit_pool_bytes = $7, limit_api_per_minute = $8, version = version + 1
    WHERE tenant_id = $1 RETURNING ${COLUMNS}`,
);

/** Writes what changes over `before`. Throws conflict naming the name. */
export async function updateTenant(
  { client }: Acting,
  before: Tenant,
  change: ChangedTenant,
): Promise<Tenant> {
  const name = change.name ?? before.name;
  const key = nameKey(name);
  const limits = { ...before.limits, ...change.limits };
  const { subscriptions, nodes, poolBytes, apiPerMinute } = limits;
  if ((await run(client, selectSameName, [key, before.tenantId])).length > 0) throw nameTaken();
  const [row] = await namingThe(
    run(client, updateRow, [
      ...[before.tenantId, name, key, change.timeZone ?? before.timeZone],
      ...[subscriptions, nodes, poolBytes, apiPerMinute],
    ]),
  );
  return viewOf(row as TenantRow);
}

const updateState = statement<TenantRow>(
  'tenant.set_state',
  `UPDATE tenant SET state = $2, suspended_at = $3, version = version + 1 WHERE tenant_id = $1 RETURNING ${COLUMNS}`,
);

export async function setTenantState(
  { client, at }: Acting,
  id: TenantId,
  state: Tenant['state'],
): Promise<Tenant> {
  const [row] = await run(client, updateState, [id, state, state === 'suspended' ? at : null]);
  return viewOf(row as TenantRow);
}

const insertChange = statement(
  'tenant.access_change',
  `INSERT INTO access_change (tenant_id, change_id, cause) VALUES ($1, $2, 'tenant')`,
);

/** Everything of the tenant is looked at: one row, which the scheduler turns into one for each subscription. */
export async function tenantChanged({ client }: Acting, id: TenantId): Promise<void> {
  await run(client, insertChange, [id, newId()]);
}
