import { Controller, Get, Param } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import type { SubscriptionId } from '@penstock/domain/ids';
import { Database } from '../database.js';
import { ActorOf, type Actor } from '../http/actor.js';
import { id } from '../http/fields.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './enforcement.schema.js';
import { findWanted, listOrders } from './enforcement.store.js';
import { summarize, type Summary } from './summary.js';

@Controller('api/v1/subscriptions/:subscriptionId/enforcement')
export class EnforcementController {
  constructor(private readonly database: Database) {}

  @Get()
  @Require('enforcement.read', {
    summary: 'On how many nodes the state of a subscription is proven, and how long it took',
    reply: schema.enforcement,
    errors: ['not_found'],
  })
  get(
    @ActorOf() actor: Actor,
    @Param('subscriptionId', { schema: id<SubscriptionId>() }) subscriptionId: SubscriptionId,
  ): Promise<Summary> {
    return this.database.transaction(actor, async (acting) => {
      const wanted = await findWanted(acting, subscriptionId);
      if (wanted === null) throw new AppError('not_found', 'there is no such subscription');
      return summarize(wanted, await listOrders(acting, subscriptionId));
    });
  }
}
