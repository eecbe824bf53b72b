// One open page: writes server-sent events to its connection (https://html.spec.whatwg.org/multipage/server-sent-events.html).
// A reader that does not keep up is let go; it comes back with the last id and loses nothing.
import type { ServerResponse } from 'node:http';
import type { FastifyReply } from 'fastify';
import type { Credential } from '../auth/standing.store.js';
import type { Actor } from '../http/actor.js';
import type { EventRow } from './events.store.js';
import { eventId, type EventPosition } from './position.js';
import { mayRead, type Hearer } from './readable.js';

/** What may wait for a slow reader. */
const UNSENT_BYTES_MAX = 1024 * 1024;
/** After a lost connection a browser waits this long. */
const RETRY_MS = 1_000;

export class EventStream {
  readonly #raw: ServerResponse;

  #hearer: Hearer;

  constructor(
    reply: FastifyReply,
    readonly actor: Actor,
    readonly credential: Credential,
  ) {
    this.#hearer = actor;
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
    if (!mayRead(this.#hearer, event.entity)) return;
    const { type, entity, entityId, at, data } = event;
    const text = JSON.stringify({ type, entity, entityId, at, data });
    this.#write(`id: ${eventId(event)}\nevent: ${type}\ndata: ${text}\n\n`);
  }

  /** From now on the reader is told of what these rights let him read. */
  hears(hearer: Hearer): void {
    this.#hearer = hearer;
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
