import { Controller, Get, Query, Req, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import type { Credential } from '../auth/standing.store.js';
import { ActorOf, type ActingRequest, type Actor } from '../http/actor.js';
import { Require } from '../http/require.decorator.js';
import { EventHub } from './event-hub.js';
import { EventStream } from './event-stream.js';
import * as schema from './events.schema.js';
import { parseEventId } from './position.js';

@Controller('api/v1/events')
export class EventsController {
  constructor(private readonly hub: EventHub) {}

  @Get()
  @Require('event.read', {
    summary: 'What happens in the tenant, as server-sent events; goes on behind Last-Event-ID',
    contentType: 'text/event-stream',
    errors: ['rate_limited'],
  })
  async open(
    @ActorOf() actor: Actor,
    @Query({ schema: schema.eventQuery }) query: schema.EventQuery,
    @Req() request: ActingRequest & { user: Credential },
    @Res() reply: FastifyReply,
  ): Promise<void> {
    this.hub.requireRoom(actor.tenantId);
    const header = request.headers['last-event-id'];
    const after = parseEventId(query.after ?? (typeof header === 'string' ? header : ''));
    await this.hub.add(new EventStream(reply, actor, request.user), after);
  }
}
