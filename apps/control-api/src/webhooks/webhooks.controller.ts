import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Query, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import type { DeliveryId, WebhookId } from '@penstock/domain/ids';
import { ActorOf, type Actor } from '../http/actor.js';
import { IfMatch, setEntityTag } from '../http/entity-tag.js';
import { id, idText, pageQuery, type Page, type PageQuery } from '../http/fields.js';
import { Require } from '../http/require.decorator.js';
import { z } from 'zod';
import type { Delivery } from './deliveries.store.js';
import * as schema from './webhooks.schema.js';
import { WebhooksService } from './webhooks.service.js';
import type { Webhook } from './webhooks.store.js';

const webhookId = { schema: id<WebhookId>() };
const deliveryId = { schema: id<DeliveryId>() };

@Controller('api/v1/webhooks')
export class WebhooksController {
  constructor(private readonly webhooks: WebhooksService) {}

  @Post()
  @Require('webhook.create', {
    summary: 'Makes a webhook; its secret is shown once',
    reply: schema.webhookWithSecret,
    errors: ['limit_reached', 'forbidden'],
    secret: true,
  })
  create(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.newWebhook }) body: schema.NewWebhook,
  ): Promise<Webhook & { secret: string }> {
    return this.webhooks.create(actor, body);
  }

  @Get()
  @Require('webhook.read', { summary: 'Lists webhooks', reply: schema.webhookPage })
  list(@ActorOf() actor: Actor, @Query({ schema: pageQuery }) query: PageQuery): Promise<Page<Webhook>> {
    return this.webhooks.list(actor, query);
  }

  @Get(':webhookId')
  @Require('webhook.read', { summary: 'One webhook', reply: schema.webhook, errors: ['not_found'] })
  async get(
    @ActorOf() actor: Actor,
    @Param('webhookId', webhookId) id: WebhookId,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Webhook> {
    const webhook = await this.webhooks.get(actor, id);
    setEntityTag(reply, webhook.version);
    return webhook;
  }

  @Patch(':webhookId')
  @Require('webhook.update', {
    summary: 'Changes a webhook; enabling it forgets its failures',
    reply: schema.webhook,
    errors: ['not_found', 'failed_precondition'],
  })
  async change(
    @ActorOf() actor: Actor,
    @Param('webhookId', webhookId) id: WebhookId,
    @IfMatch() ifMatch: string | undefined,
    @Body({ schema: schema.changedWebhook }) body: schema.ChangedWebhook,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Webhook> {
    const webhook = await this.webhooks.change(actor, id, body, ifMatch);
    setEntityTag(reply, webhook.version);
    return webhook;
  }

  @Post(':webhookId/rotate')
  @HttpCode(200)
  @Require('webhook.update', {
    summary: 'Gives a webhook a new secret, shown once; the old one signs too for a day',
    reply: schema.webhookWithSecret,
    errors: ['not_found'],
    secret: true,
  })
  rotate(
    @ActorOf() actor: Actor,
    @Param('webhookId', webhookId) id: WebhookId,
  ): Promise<Webhook & { secret: string }> {
    return this.webhooks.rotate(actor, id);
  }

  @Post(':webhookId/ping')
  @Require('webhook.update', {
    summary: 'Sends a delivery that says nothing, to see the other side answer',
    reply: z.strictObject({ deliveryId: idText }),
    errors: ['not_found', 'failed_precondition'],
  })
  ping(
    @ActorOf() actor: Actor,
    @Param('webhookId', webhookId) id: WebhookId,
  ): Promise<{ deliveryId: DeliveryId }> {
    return this.webhooks.ping(actor, id);
  }

  @Delete(':webhookId')
  @HttpCode(204)
  @Require('webhook.delete', {
    summary: 'Deletes a webhook and its deliveries',
    errors: ['not_found', 'failed_precondition'],
  })
  delete(
    @ActorOf() actor: Actor,
    @Param('webhookId', webhookId) id: WebhookId,
    @IfMatch() ifMatch: string | undefined,
  ): Promise<void> {
    return this.webhooks.delete(actor, id, ifMatch);
  }

  @Get(':webhookId/deliveries')
  @Require('webhook.read', {
    summary: 'Deliveries of a webhook, newest first',
    reply: schema.deliveryPage,
    errors: ['not_found'],
  })
  listDeliveries(
    @ActorOf() actor: Actor,
    @Param('webhookId', webhookId) id: WebhookId,
    @Query({ schema: schema.deliveryQuery }) query: schema.DeliveryQuery,
  ): Promise<Page<Delivery>> {
    return this.webhooks.listDeliveries(actor, id, query);
  }

  @Post(':webhookId/deliveries/:deliveryId/deliver')
  @HttpCode(204)
  @Require('webhook.update', {
    summary: 'Sends a delivery that is over once more',
    errors: ['not_found', 'failed_precondition'],
  })
  deliverAgain(
    @ActorOf() actor: Actor,
    @Param('webhookId', webhookId) id: WebhookId,
    @Param('deliveryId', deliveryId) delivery: DeliveryId,
  ): Promise<void> {
    return this.webhooks.deliverAgain(actor, id, delivery);
  }
}
