import { Body, Controller, Get, HttpCode, Param, Post, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import type { SubscriptionId } from '@penstock/domain/ids';
import { ActorOf, type Actor } from '../http/actor.js';
import { IfMatch, setEntityTag } from '../http/entity-tag.js';
import { id } from '../http/fields.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './acts.schema.js';
import { ActsService } from './acts.service.js';
import type { Act } from './acts.store.js';
import { subscription } from './subscriptions.schema.js';
import type { Subscription } from './subscriptions.store.js';

const parameter = { schema: id<SubscriptionId>() };

@Controller('api/v1/subscriptions/:subscriptionId')
export class ActsController {
  constructor(private readonly acts: ActsService) {}

  @Get('acts')
  @Require('subscription.read', {
    summary: 'What was asked of a subscription and what happened to it, the newest first',
    reply: schema.actList,
    errors: ['not_found'],
  })
  list(
    @ActorOf() actor: Actor,
    @Param('subscriptionId', parameter) subscriptionId: SubscriptionId,
  ): Promise<{ items: Act[] }> {
    return this.acts.list(actor, subscriptionId);
  }

  @Post('activate')
  @HttpCode(200)
  @Require('subscription.update', {
    summary: 'Starts one on hold now',
    reply: subscription,
    errors: ['not_found', 'failed_precondition'],
  })
  async activate(
    @ActorOf() actor: Actor,
    @Param('subscriptionId', parameter) subscriptionId: SubscriptionId,
    @IfMatch() ifMatch: string | undefined,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Subscription> {
    return tagged(reply, await this.acts.activate(actor, subscriptionId, ifMatch));
  }

  @Post('disable')
  @HttpCode(200)
  @Require('subscription.update', {
    summary: 'Takes its access away until it is enabled',
    reply: subscription,
    errors: ['not_found', 'failed_precondition'],
  })
  async disable(
    @ActorOf() actor: Actor,
    @Param('subscriptionId', parameter) subscriptionId: SubscriptionId,
    @IfMatch() ifMatch: string | undefined,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Subscription> {
    return tagged(reply, await this.acts.setState(actor, subscriptionId, ifMatch, 'disabled'));
  }

  @Post('enable')
  @HttpCode(200)
  @Require('subscription.update', {
    summary: 'Gives back what disabling took',
    reply: subscription,
    errors: ['not_found', 'failed_precondition'],
  })
  async enable(
    @ActorOf() actor: Actor,
    @Param('subscriptionId', parameter) subscriptionId: SubscriptionId,
    @IfMatch() ifMatch: string | undefined,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Subscription> {
    return tagged(reply, await this.acts.setState(actor, subscriptionId, ifMatch, 'active'));
  }

  @Post('reset')
  @HttpCode(200)
  @Require('subscription.update', {
    summary: 'Begins a new period now; the old one is kept',
    reply: subscription,
    errors: ['not_found', 'failed_precondition'],
  })
  async reset(
    @ActorOf() actor: Actor,
    @Param('subscriptionId', parameter) subscriptionId: SubscriptionId,
    @IfMatch() ifMatch: string | undefined,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Subscription> {
    return tagged(reply, await this.acts.reset(actor, subscriptionId, ifMatch));
  }

  @Post('renew')
  @HttpCode(200)
  @Require('subscription.update', {
    summary: 'Another term after the days that are left, and a new period now',
    reply: subscription,
    errors: ['not_found', 'failed_precondition'],
  })
  async renew(
    @ActorOf() actor: Actor,
    @Param('subscriptionId', parameter) subscriptionId: SubscriptionId,
    @IfMatch() ifMatch: string | undefined,
    @Body({ schema: schema.renewal }) body: schema.Renewal,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Subscription> {
    return tagged(reply, await this.acts.renew(actor, subscriptionId, ifMatch, body));
  }

  @Post('top-up')
  @HttpCode(200)
  @Require('subscription.update', {
    summary: 'Adds bytes to the current period alone',
    reply: subscription,
    errors: ['not_found', 'failed_precondition'],
  })
  async topUp(
    @ActorOf() actor: Actor,
    @Param('subscriptionId', parameter) subscriptionId: SubscriptionId,
    @IfMatch() ifMatch: string | undefined,
    @Body({ schema: schema.topUp }) body: schema.TopUp,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Subscription> {
    return tagged(reply, await this.acts.topUp(actor, subscriptionId, ifMatch, body));
  }

  @Post('rotate')
  @HttpCode(200)
  @Require('subscription.rotate', {
    summary: 'New credentials: what was given out before opens nothing any more',
    reply: subscription,
    errors: ['not_found', 'failed_precondition'],
  })
  async rotate(
    @ActorOf() actor: Actor,
    @Param('subscriptionId', parameter) subscriptionId: SubscriptionId,
    @IfMatch() ifMatch: string | undefined,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Subscription> {
    return tagged(reply, await this.acts.rotate(actor, subscriptionId, ifMatch));
  }

  @Post('erase')
  @HttpCode(204)
  @Require('subscription.erase', {
    summary: 'Forgets its names and references, also when it was deleted; what it used stays',
    errors: ['not_found'],
  })
  erase(
    @ActorOf() actor: Actor,
    @Param('subscriptionId', parameter) subscriptionId: SubscriptionId,
  ): Promise<void> {
    return this.acts.erase(actor, subscriptionId);
  }
}

function tagged(reply: FastifyReply, subscription: Subscription): Subscription {
  setEntityTag(reply, subscription.version);
  return subscription;
}
