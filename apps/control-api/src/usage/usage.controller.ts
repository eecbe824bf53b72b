import { Controller, Get, Param } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import type { SubscriptionId } from '@penstock/domain/ids';
import { Database } from '../database.js';
import { ActorOf, type Actor } from '../http/actor.js';
import { id } from '../http/fields.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './usage.schema.js';
import { findUsage, type UsageRow } from './usage.store.js';

interface Usage extends Omit<UsageRow, 'periodId' | 'startedAt' | 'endsAt'> {
  period: { periodId: string; startedAt: Date; endsAt: Date | null } | null;
}

@Controller('api/v1/subscriptions/:subscriptionId/usage')
export class UsageController {
  constructor(private readonly database: Database) {}

  @Get()
  @Require('usage.read', {
    summary: 'Usage of a subscription in its current period',
    reply: schema.usage,
    errors: ['not_found'],
  })
  async get(
    @ActorOf() actor: Actor,
    @Param('subscriptionId', { schema: id<SubscriptionId>() }) subscriptionId: SubscriptionId,
  ): Promise<Usage> {
    const row = await this.database.transaction(actor, (acting) => findUsage(acting, subscriptionId));
    if (row === null) throw new AppError('not_found', 'there is no such subscription');
    const { periodId, startedAt, endsAt, ...usage } = row;
    return {
      ...usage,
      period: periodId === null || startedAt === null ? null : { periodId, startedAt, endsAt },
    };
  }
}
