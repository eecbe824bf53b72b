// The audit chains as the host reads them, with control-api's login: no other role may see what people did. Each tenant
// is read in its own transaction, behind row security.
import type { AuditHead } from '@penstock/db/audit-chain';
import { run, statement, type Runner } from '@penstock/db/statement';
import type { TenantId } from '@penstock/domain/ids';

const TENANTS_A_PAGE = 500;

const selectPlatform = statement<{ tenantId: TenantId }>(
  'host.platform',
  `SELECT tenant_id AS "tenantId" FROM platform`,
);
const selectTenants = statement<{ tenantId: TenantId; name: string }>(
  'host.tenants',
  `SELECT tenant_id AS "tenantId", name FROM tenant WHERE ($1::uuid IS NULL OR tenant_id > $1)
   ORDER BY tenant_id LIMIT ${TENANTS_A_PAGE}`,
);
const selectHeads = statement<AuditHead>(
  'host.audit_heads',
  `SELECT seq, hash FROM audit_head WHERE tenant_id = $1 ORDER BY seq`,
);
const selectEnd = statement<AuditHead>(
  'host.audit_end',
  `SELECT seq, hash FROM audit_log WHERE tenant_id = $1 ORDER BY seq DESC LIMIT 1`,
);

/** The operator's own tenant; null before the first start. */
export async function findPlatform(runner: Runner): Promise<TenantId | null> {
  return (await run(runner, selectPlatform))[0]?.tenantId ?? null;
}

/** A page of tenants after this one. Needs the platform's transaction. */
export function listTenants(
  runner: Runner,
  after: TenantId | null,
): Promise<{ tenantId: TenantId; name: string }[]> {
  return run(runner, selectTenants, [after]);
}

/** The ends that the scheduler kept in the database. */
export function listKeptHeads(runner: Runner, tenantId: TenantId): Promise<AuditHead[]> {
  return run(runner, selectHeads, [tenantId]);
}

/** The end of a chain now; null for an empty one. */
export async function findEnd(runner: Runner, tenantId: TenantId): Promise<AuditHead | null> {
  return (await run(runner, selectEnd, [tenantId]))[0] ?? null;
}
