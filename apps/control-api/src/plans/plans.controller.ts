import { Body, Controller, Get, Param, Post, Query } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { newId, type PlanId } from '@penstock/domain/ids';
import { appendAudit } from '../audit/audit.store.js';
import { Database } from '../database.js';
import { ActorOf, type Actor } from '../http/actor.js';
import { id, pageOf, pageQuery, type Page, type PageQuery } from '../http/fields.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './plans.schema.js';
import { findPlan, insertPlan, listPlans, type Plan } from './plans.store.js';

@Controller('api/v1/plans')
export class PlansController {
  constructor(private readonly database: Database) {}

  @Post()
  @Require('plan.create', { summary: 'Makes a plan', reply: schema.plan, errors: ['not_found'] })
  create(@ActorOf() actor: Actor, @Body({ schema: schema.newPlan }) body: schema.NewPlan): Promise<Plan> {
    return this.database.transaction(actor, async (acting) => {
      const planId = newId<PlanId>();
      const found = await insertPlan(acting, planId, body);
      if (found.length !== body.nodeGroupIds.length) {
        throw new AppError('not_found', 'nodeGroupIds: there is no such node group', {
          field: 'nodeGroupIds',
        });
      }
      const plan = await findPlan(acting, planId);
      if (plan === null) throw new AppError('internal', 'a plan vanished while it was made');
      await appendAudit(acting, { action: 'plan.create', entity: 'plan', entityId: planId, after: plan });
      return plan;
    });
  }

  @Get()
  @Require('plan.read', { summary: 'Lists plans', reply: schema.planPage })
  async list(@ActorOf() actor: Actor, @Query({ schema: pageQuery }) query: PageQuery): Promise<Page<Plan>> {
    const rows = await this.database.transaction(actor, (acting) => listPlans(acting, query));
    return pageOf(rows, query.limit, (plan) => plan.planId);
  }

  @Get(':planId')
  @Require('plan.read', { summary: 'One plan', reply: schema.plan, errors: ['not_found'] })
  async get(
    @ActorOf() actor: Actor,
    @Param('planId', { schema: id<PlanId>() }) planId: PlanId,
  ): Promise<Plan> {
    const plan = await this.database.transaction(actor, (acting) => findPlan(acting, planId));
    if (plan === null) throw new AppError('not_found', 'there is no such plan');
    return plan;
  }
}
