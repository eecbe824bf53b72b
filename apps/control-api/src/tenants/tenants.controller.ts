import { Body, Controller, Get, Param, Post, Query } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { newId, type TenantId } from '@penstock/domain/ids';
import { appendAudit } from '../audit/audit.store.js';
import { Database } from '../database.js';
import { ActorOf, type Actor } from '../http/actor.js';
import { id, pageOf, pageQuery, type Page, type PageQuery } from '../http/fields.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './tenants.schema.js';
import { findTenant, insertTenant, listTenants, type Tenant } from './tenants.store.js';

@Controller('api/v1/tenants')
export class TenantsController {
  constructor(private readonly database: Database) {}

  @Post()
  @Require('tenant.create', { summary: 'Makes a tenant', reply: schema.tenant })
  create(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.newTenant }) body: schema.NewTenant,
  ): Promise<Tenant> {
    return this.database.transaction(actor, async (acting) => {
      const tenant = await insertTenant(acting, newId(), body.name, body.timeZone);
      const entry = { action: 'tenant.create', entity: 'tenant', entityId: tenant.tenantId, after: tenant };
      await appendAudit(acting, entry);
      return tenant;
    });
  }

  @Get()
  @Require('tenant.read', { summary: 'Lists tenants', reply: schema.tenantPage })
  async list(@ActorOf() actor: Actor, @Query({ schema: pageQuery }) query: PageQuery): Promise<Page<Tenant>> {
    const rows = await this.database.transaction(actor, (acting) => listTenants(acting, query));
    return pageOf(rows, query.limit, (tenant) => tenant.tenantId);
  }

  @Get(':tenantId')
  @Require('tenant.read', { summary: 'One tenant', reply: schema.tenant, errors: ['not_found'] })
  async get(
    @ActorOf() actor: Actor,
    @Param('tenantId', { schema: id<TenantId>() }) tenantId: TenantId,
  ): Promise<Tenant> {
    const tenant = await this.database.transaction(actor, (acting) => findTenant(acting, tenantId));
    if (tenant === null) throw new AppError('not_found', 'there is no such tenant');
    return tenant;
  }
}
