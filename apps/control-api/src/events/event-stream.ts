// One open page: writes server-sent events to its connection (https://html.spec.whatwg.org/multipage/server-sent-events.html).
// A reader that does not keep up is let go; it comes back with the last id and loses nothing.
import type { ServerResponse } from 'node:http';
import type { FastifyReply } from 'fastify';
import type { Credential } from '../auth/standing.store.js';
import type { Actor } from '../http/actor.js';
import { permissions, type Permission, allows } from '../permissions.js';
import type { EventRow } from './events.store.js';
import { eventId, type EventPosition } from './position.js';

/** What may wait for a slow reader. */
const UNSENT_BYTES_MAX = 1024 * 1024;
/** After a lost connection a browser waits this long. */
const RETRY_MS = 1_000;

export class EventStream {
  readonly #raw: ServerResponse;

  constructor(
    reply: FastifyReply,
    private readonly actor: Actor,
    readonly credential: Credential,
  ) {
    const headers = reply.getHeaders();
    reply.hijack();
    this.#raw = reply.raw;
    this.#raw.writeHead(200, {
      ...(headers as Record<string, string>),
      'content-type': 'text/event-stream; charset=utf-8',
      // Proxies that buffer would hold events back.
      'x-accel-buffering': 'no',
    });
    this.#raw.on('error', () => this.#raw.destroy());
  }

  get tenantId(): Actor['tenantId'] {
    return this.actor.tenantId;
  }

  get closed(): boolean {
    return this.#raw.destroyed || this.#raw.writableEnded;
  }

  onClose(told: () => void): void {
    this.#raw.on('close', told);
  }

  /** Tells where the reader stands; the first thing on every stream. */
  hello(position: EventPosition): void {
    this.#write(`retry: ${RETRY_MS}\nid: ${eventId(position)}\nevent: hello\ndata: {}\n\n`);
  }

  /** Tells that events were missed: what is shown must be read again. */
  reset(position: EventPosition): void {
    this.#write(`retry: ${RETRY_MS}\nid: ${eventId(position)}\nevent: reset\ndata: {}\n\n`);
  }

  /** Sends what this reader may read of `event`. */
  send(event: EventRow): void {
    if (!mayRead(this.actor, event.entity)) return;
    const { type, entity, entityId, at, data } = event;
    const text = JSON.stringify({ type, entity, entityId, at, data });
    this.#write(`id: ${eventId(event)}\nevent: ${type}\ndata: ${text}\n\n`);
  }

  /** Keeps connections through proxies open, and finds those that are gone. */
  beat(): void {
    this.#write(': \n\n');
  }

  end(): void {
    if (!this.closed) this.#raw.end();
  }

  #write(text: string): void {
    if (this.closed) return;
    this.#raw.write(text);
    if (this.#raw.writableLength > UNSENT_BYTES_MAX) this.#raw.destroy();
  }
}

/** Whoever may read a noun hears of it; nouns without a permission of that name are heard of by owners alone. */
function mayRead(actor: Actor, entity: string): boolean {
  const permission = `${entity}.read`;
  if (!Object.hasOwn(permissions, permission)) return actor.role === 'owner' && actor.scopes === null;
  const wanted = permission as Permission;
  return allows(actor, wanted) && (actor.scopes === null || actor.scopes.includes(wanted));
}
