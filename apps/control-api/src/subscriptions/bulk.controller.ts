import { Body, Controller, HttpCode, Post } from '@nestjs/common';
import type { SubscriptionId } from '@penstock/domain/ids';
import { ActorOf, type Actor } from '../http/actor.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './bulk.schema.js';
import { BulkService } from './bulk.service.js';

@Controller('api/v1/subscriptions')
export class BulkController {
  constructor(private readonly bulk: BulkService) {}

  @Post('bulk')
  @Require('subscription.create', {
    summary: 'Makes many subscriptions from a plan, all or none',
    reply: schema.madeSubscriptions,
    errors: ['not_found', 'limit_reached'],
  })
  create(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.newSubscriptions }) body: schema.NewSubscriptions,
  ): Promise<{ count: number; subscriptionIds: SubscriptionId[] }> {
    return this.bulk.create(actor, body);
  }

  @Post('bulk-action')
  @HttpCode(200)
  @Require('subscription.delete', {
    summary: 'Does one thing to many subscriptions, to all or to none',
    reply: schema.bulkDone,
    errors: ['not_found', 'failed_precondition'],
  })
  act(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.bulkAct }) body: schema.BulkAct,
  ): Promise<{ count: number }> {
    return this.bulk.act(actor, body);
  }
}
