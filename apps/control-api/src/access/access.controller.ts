import { Controller, Get, Param } from '@nestjs/common';
import type { SubscriptionId } from '@penstock/domain/ids';
import { ActorOf, type Actor } from '../http/actor.js';
import { id } from '../http/fields.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './access.schema.js';
import { AccessService, type Access } from './access.service.js';

@Controller('api/v1/subscriptions/:subscriptionId/access')
export class AccessController {
  constructor(private readonly access: AccessService) {}

  @Get()
  @Require('subscription.secret.read', {
    summary: 'What the customer needs to connect: VLESS links and WireGuard configurations',
    reply: schema.access,
    errors: ['not_found', 'pending'],
  })
  get(
    @ActorOf() actor: Actor,
    @Param('subscriptionId', { schema: id<SubscriptionId>() }) subscriptionId: SubscriptionId,
  ): Promise<Access> {
    return this.access.get(actor, subscriptionId);
  }
}
