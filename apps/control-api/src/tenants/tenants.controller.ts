import { Body, Controller, Get, HttpCode, Param, Patch, Post, Query, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import type { TenantId } from '@penstock/domain/ids';
import { ActorOf, type Actor } from '../http/actor.js';
import { IfMatch, setEntityTag } from '../http/entity-tag.js';
import { id, pageQuery, type Page, type PageQuery } from '../http/fields.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './tenants.schema.js';
import { TenantsService } from './tenants.service.js';
import type { Tenant } from './tenants.store.js';

const param = { schema: id<TenantId>() };

@Controller('api/v1/tenants')
export class TenantsController {
  constructor(private readonly tenants: TenantsService) {}

  @Post()
  @Require('tenant.create', { summary: 'Makes a tenant', reply: schema.tenant, errors: ['conflict'] })
  async create(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.newTenant }) body: schema.NewTenant,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Tenant> {
    return tagged(reply, await this.tenants.create(actor, body));
  }

  @Get()
  @Require('tenant.read', { summary: 'Lists tenants', reply: schema.tenantPage })
  list(@ActorOf() actor: Actor, @Query({ schema: pageQuery }) query: PageQuery): Promise<Page<Tenant>> {
    return this.tenants.list(actor, query);
  }

  @Get(':tenantId')
  @Require('tenant.read', { summary: 'One tenant', reply: schema.tenant, errors: ['not_found'] })
  async get(
    @ActorOf() actor: Actor,
    @Param('tenantId', param) tenantId: TenantId,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Tenant> {
    return tagged(reply, await this.tenants.get(actor, tenantId));
  }

  @Patch(':tenantId')
  @Require('tenant.update', {
    summary: 'Changes name, time zone or limits',
    reply: schema.tenant,
    errors: ['not_found', 'conflict', 'failed_precondition'],
  })
  async change(
    @ActorOf() actor: Actor,
    @Param('tenantId', param) tenantId: TenantId,
    @Body({ schema: schema.changedTenant }) body: schema.ChangedTenant,
    @IfMatch() ifMatch: string | undefined,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Tenant> {
    return tagged(reply, await this.tenants.change(actor, tenantId, body, ifMatch));
  }

  @Post(':tenantId/suspend')
  @HttpCode(200)
  @Require('tenant.suspend', {
    summary: 'Cuts all subscriptions of the tenant on all nodes, and lets nobody change anything in it',
    reply: schema.tenant,
    errors: ['not_found', 'failed_precondition'],
    sensitive: true,
  })
  async suspend(
    @ActorOf() actor: Actor,
    @Param('tenantId', param) tenantId: TenantId,
    @Body({ schema: schema.suspension }) body: { reason: string },
    @IfMatch() ifMatch: string | undefined,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Tenant> {
    return tagged(reply, await this.tenants.setState(actor, tenantId, 'suspended', ifMatch, body.reason));
  }

  @Post(':tenantId/resume')
  @HttpCode(200)
  @Require('tenant.suspend', {
    summary: 'Gives the tenant and its subscriptions back what suspension took',
    reply: schema.tenant,
    errors: ['not_found', 'failed_precondition'],
    sensitive: true,
  })
  async resume(
    @ActorOf() actor: Actor,
    @Param('tenantId', param) tenantId: TenantId,
    @IfMatch() ifMatch: string | undefined,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Tenant> {
    return tagged(reply, await this.tenants.setState(actor, tenantId, 'active', ifMatch));
  }
}

/** The tenant of the token, for its own people. */
@Controller('api/v1/tenant')
export class OwnTenantController {
  constructor(private readonly tenants: TenantsService) {}

  @Get()
  @Require('own_tenant.read', { summary: 'The own tenant and its limits', reply: schema.tenant })
  async get(@ActorOf() actor: Actor, @Res({ passthrough: true }) reply: FastifyReply): Promise<Tenant> {
    return tagged(reply, await this.tenants.get(actor, actor.tenantId));
  }

  @Patch()
  @Require('own_tenant.update', {
    summary: 'Changes the own name or time zone',
    reply: schema.tenant,
    errors: ['conflict', 'failed_precondition'],
  })
  async change(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.changedOwnTenant }) body: schema.ChangedTenant,
    @IfMatch() ifMatch: string | undefined,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Tenant> {
    return tagged(reply, await this.tenants.change(actor, actor.tenantId, body, ifMatch));
  }
}

function tagged(reply: FastifyReply, tenant: Tenant): Tenant {
  setEntityTag(reply, tenant.version);
  return tenant;
}
