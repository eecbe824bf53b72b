import { Controller, Get, Query, Req, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import type { Credential } from '../auth/standing.store.js';
import { AppError } from '@penstock/domain/errors';
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
    // Fastify asks this handler for HEAD too; there is nothing to tell of a stream but the stream.
    if (request.method !== 'GET') throw new AppError('not_found', 'there is no such route');
    const giveBack = this.hub.takePlace(actor);
    const header = request.headers['last-event-id'];
    const after = parseEventId(query.after ?? (typeof header === 'string' ? header : ''));
    const stream = new EventStream(reply, actor, request.user);
    stream.onClose(giveBack);
    // Gone before it began: its close was told before anybody listened.
    if (stream.closed) return giveBack();
    await this.hub.add(stream, after);
  }
}
