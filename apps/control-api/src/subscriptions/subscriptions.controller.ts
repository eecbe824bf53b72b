import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Query, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import type { SubscriptionId } from '@penstock/domain/ids';
import { ActorOf, type Actor } from '../http/actor.js';
import { IfMatch, setEntityTag } from '../http/entity-tag.js';
import { id, type Page } from '../http/fields.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './subscriptions.schema.js';
import { SubscriptionsService } from './subscriptions.service.js';
import type { Subscription } from './subscriptions.store.js';

const subscriptionId = { schema: id<SubscriptionId>() };

@Controller('api/v1/subscriptions')
export class SubscriptionsController {
  constructor(private readonly subscriptions: SubscriptionsService) {}

  @Post()
  @Require('subscription.create', {
    summary: 'Makes a subscription from a plan',
    reply: schema.subscription,
    errors: ['not_found', 'limit_reached'],
  })
  create(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.newSubscription }) body: schema.NewSubscription,
  ): Promise<Subscription> {
    return this.subscriptions.create(actor, body);
  }

  @Get()
  @Require('subscription.read', { summary: 'Lists subscriptions', reply: schema.subscriptionPage })
  list(
    @ActorOf() actor: Actor,
    @Query({ schema: schema.subscriptionQuery }) query: schema.SubscriptionQuery,
  ): Promise<Page<Subscription>> {
    return this.subscriptions.list(actor, query);
  }

  @Get(':subscriptionId')
  @Require('subscription.read', {
    summary: 'One subscription',
    reply: schema.subscription,
    errors: ['not_found'],
  })
  async get(
    @ActorOf() actor: Actor,
    @Param('subscriptionId', subscriptionId) id: SubscriptionId,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Subscription> {
    const subscription = await this.subscriptions.get(actor, id);
    setEntityTag(reply, subscription.version);
    return subscription;
  }

  @Patch(':subscriptionId')
  @Require('subscription.update', {
    summary: 'Changes name, reference, limit, expiry, next plan or state',
    reply: schema.subscription,
    errors: ['not_found', 'failed_precondition'],
  })
  async change(
    @ActorOf() actor: Actor,
    @Param('subscriptionId', subscriptionId) id: SubscriptionId,
    @IfMatch() ifMatch: string | undefined,
    @Body({ schema: schema.changedSubscription }) body: schema.ChangedSubscription,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Subscription> {
    const subscription = await this.subscriptions.change(actor, id, body, ifMatch);
    setEntityTag(reply, subscription.version);
    return subscription;
  }

  @Delete(':subscriptionId')
  @HttpCode(204)
  @Require('subscription.delete', {
    summary: 'Deletes a subscription; usage that still arrives is kept',
    errors: ['not_found', 'failed_precondition'],
  })
  delete(
    @ActorOf() actor: Actor,
    @Param('subscriptionId', subscriptionId) id: SubscriptionId,
    @IfMatch() ifMatch: string | undefined,
  ): Promise<void> {
    return this.subscriptions.delete(actor, id, ifMatch);
  }
}
