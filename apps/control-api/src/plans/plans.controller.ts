import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Query, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import type { PlanId } from '@penstock/domain/ids';
import { ActorOf, type Actor } from '../http/actor.js';
import { IfMatch, setEntityTag } from '../http/entity-tag.js';
import { id, pageQuery, type Page, type PageQuery } from '../http/fields.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './plans.schema.js';
import { PlansService } from './plans.service.js';
import type { Plan } from './plans.store.js';

const planParameter = { schema: id<PlanId>() };

@Controller('api/v1/plans')
export class PlansController {
  constructor(private readonly plans: PlansService) {}

  @Post()
  @Require('plan.create', { summary: 'Makes a plan', reply: schema.plan, errors: ['not_found', 'conflict'] })
  create(@ActorOf() actor: Actor, @Body({ schema: schema.newPlan }) body: schema.NewPlan): Promise<Plan> {
    return this.plans.create(actor, body);
  }

  @Get()
  @Require('plan.read', { summary: 'Lists plans', reply: schema.planPage })
  list(@ActorOf() actor: Actor, @Query({ schema: pageQuery }) query: PageQuery): Promise<Page<Plan>> {
    return this.plans.list(actor, query);
  }

  @Get(':planId')
  @Require('plan.read', { summary: 'One plan', reply: schema.plan, errors: ['not_found'] })
  async get(
    @ActorOf() actor: Actor,
    @Param('planId', planParameter) planId: PlanId,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Plan> {
    const plan = await this.plans.get(actor, planId);
    setEntityTag(reply, plan.version);
    return plan;
  }

  @Patch(':planId')
  @Require('plan.update', {
    summary: 'Changes a plan; terms hold for later subscriptions, node groups for all at once',
    reply: schema.plan,
    errors: ['not_found', 'conflict', 'failed_precondition'],
  })
  async change(
    @ActorOf() actor: Actor,
    @Param('planId', planParameter) planId: PlanId,
    @IfMatch() ifMatch: string | undefined,
    @Body({ schema: schema.changedPlan }) body: schema.ChangedPlan,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Plan> {
    const plan = await this.plans.change(actor, planId, body, ifMatch);
    setEntityTag(reply, plan.version);
    return plan;
  }

  @Delete(':planId')
  @HttpCode(204)
  @Require('plan.delete', {
    summary: 'Archives a plan: it is offered no more, and its subscriptions go on',
    errors: ['not_found', 'failed_precondition'],
  })
  delete(
    @ActorOf() actor: Actor,
    @Param('planId', planParameter) planId: PlanId,
    @IfMatch() ifMatch: string | undefined,
  ): Promise<void> {
    return this.plans.archive(actor, planId, ifMatch);
  }
}
