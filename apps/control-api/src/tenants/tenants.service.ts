// Tenants as the operator has them, and a tenant as it sees itself. Suspending is one act: one row tells the scheduler,
// which cuts every subscription on every node; nothing of the tenant's own settings is touched, so resuming gives back
// what was there.
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { newId, type TenantId } from '@penstock/domain/ids';
import { appendAudit } from '../audit/audit.store.js';
import { Database } from '../database.js';
import type { Actor } from '../http/actor.js';
import { requireVersion } from '../http/entity-tag.js';
import { pageOf, type Page, type PageQuery } from '../http/fields.js';
import { readSettings } from '../settings/settings.store.js';
import type { ChangedTenant, NewTenant } from './tenants.schema.js';
import * as store from './tenants.store.js';
import type { Tenant } from './tenants.store.js';

@Injectable()
export class TenantsService {
  constructor(private readonly database: Database) {}

  /** Throws conflict naming the name. */
  create(actor: Actor, request: NewTenant): Promise<Tenant> {
    return this.database.transaction(actor, async (acting) => {
      const timeZone = request.timeZone ?? (await readSettings(acting.client)).settings.defaultTimeZone;
      const tenantId = newId<TenantId>();
      const tenant = await store.insertTenant(acting, { ...request, tenantId, timeZone });
      await appendAudit(acting, {
        action: 'tenant.create',
        entity: 'tenant',
        entityId: tenantId,
        after: tenant,
      });
      return tenant;
    });
  }

  async list(actor: Actor, query: PageQuery): Promise<Page<Tenant>> {
    const rows = await this.database.transaction(actor, (acting) => store.listTenants(acting, query));
    return pageOf(rows, query.limit, (tenant) => tenant.tenantId);
  }

  get(actor: Actor, tenantId: TenantId): Promise<Tenant> {
    return this.database.transaction(actor, (acting) => store.getTenant(acting, tenantId));
  }

  /** Throws not_found, conflict naming the name, or failed_precondition. */
  change(
    actor: Actor,
    tenantId: TenantId,
    change: ChangedTenant,
    ifMatch: string | undefined,
  ): Promise<Tenant> {
    return this.database.transaction(actor, async (acting) => {
      const before = await store.lockTenant(acting, tenantId);
      requireVersion(ifMatch, before.version);
      const after = await store.updateTenant(acting, before, change);
      // Periods end at the tenant's midnight, and a pool may have room again.
      const moves = before.timeZone !== after.timeZone || before.limits.poolBytes !== after.limits.poolBytes;
      if (moves) await store.tenantChanged(acting, tenantId);
      await appendAudit(acting, {
        ...{ action: 'tenant.update', entity: 'tenant', entityId: tenantId, before, after },
      });
      return after;
    });
  }

  /** Throws not_found; forbidden for the platform itself. Saying it again changes nothing and is not audited again. */
  setState(
    actor: Actor,
    tenantId: TenantId,
    state: Tenant['state'],
    ifMatch: string | undefined,
    reason = '',
  ): Promise<Tenant> {
    return this.database.transaction(actor, async (acting) => {
      const before = await store.lockTenant(acting, tenantId);
      requireVersion(ifMatch, before.version);
      if (before.kind === 'platform') throw new AppError('forbidden', 'the platform cannot be suspended');
      if (before.state === state) return before;
      const after = await store.setTenantState(acting, tenantId, state);
      await store.tenantChanged(acting, tenantId);
      await appendAudit(acting, {
        action: state === 'suspended' ? 'tenant.suspend' : 'tenant.resume',
        ...{ entity: 'tenant', entityId: tenantId, before: { state: before.state } },
        after: { state: after.state, suspendedAt: after.suspendedAt, ...(reason === '' ? {} : { reason }) },
      });
      return after;
    });
  }
}
