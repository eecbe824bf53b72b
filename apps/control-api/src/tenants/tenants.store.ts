// The list of tenants: row security shows it to the operator only; a tenant sees itself.
import type { TenantId } from '@penstock/domain/ids';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';
import type { PageQuery } from '../http/fields.js';

export interface Tenant {
  tenantId: TenantId;
  name: string;
  kind: 'platform' | 'customer';
  state: 'active' | 'suspended';
  timeZone: string;
  version: number;
  createdAt: Date;
}

const insertRow = statement<Tenant>(
  'tenant.insert',
  `INSERT INTO tenant (tenant_id, name, kind, time_zone, created_at) VALUES ($1, $2, 'customer', $3, $4)
   RETURNING tenant_id AS "tenantId", name, kind, state, time_zone AS "timeZone", version, created_at AS "createdAt"`,
);

export async function insertTenant(
  { client, at }: Acting,
  id: TenantId,
  name: string,
  zone: string,
): Promise<Tenant> {
  const [row] = await run(client, insertRow, [id, name, zone, at]);
  return row as Tenant;
}

const selectPage = statement<Tenant>(
  'tenant.page',
  `SELECT tenant_id AS "tenantId", name, kind, state, time_zone AS "timeZone", version, created_at AS "createdAt"
     FROM tenant WHERE ($1::uuid IS NULL OR tenant_id > $1) ORDER BY tenant_id LIMIT $2`,
);

/** One row more than a page holds. */
export function listTenants({ client }: Acting, query: PageQuery): Promise<Tenant[]> {
  return run(client, selectPage, [query.cursor ?? null, query.limit + 1]);
}

const selectOne = statement<Tenant>(
  'tenant.get',
  `SELECT tenant_id AS "tenantId", name, kind, state, time_zone AS "timeZone", version, created_at AS "createdAt"
     FROM tenant WHERE tenant_id = $1`,
);

export async function findTenant({ client }: Acting, id: TenantId): Promise<Tenant | null> {
  return (await run(client, selectOne, [id]))[0] ?? null;
}
