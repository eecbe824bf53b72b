// Feeds open pages. Each tenant with an open page is read once for all its pages, when the database tells of an event
// and every few seconds in any case. Invariants: a page gets every event after its position, in order, once; a page
// whose reader lost his rights is closed within a second.
import { Injectable, type OnModuleDestroy } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import type { TenantId } from '@penstock/domain/ids';
import { withTransaction } from '@penstock/db/transaction';
import { Standings } from '../auth/standing.store.js';
import { Context } from '../context.js';
import type { Actor } from '../http/actor.js';
import { Notifications } from '../notifications.js';
import { allows } from '../permissions.js';
import type { EventStream } from './event-stream.js';
import { currentPosition, listEventsAfter, type EventRow } from './events.store.js';
import { comparePositions, isKept, type EventPosition } from './position.js';

const STREAMS_MAX = 1_000;
const TENANT_STREAMS_MAX = 100;
const ACCOUNT_STREAMS_MAX = 20;
const PAGE_EVENTS = 500;
/** A page that missed more reads everything again instead. */
const CATCH_UP_EVENTS_MAX = 10_000;
/** How often readers' rights are looked at, and events that waited for an older transaction are. */
const TICK_MS = 500;
const BEAT_MS = 15_000;
/** Without any notification a tenant is read after this. */
const SWEEP_MS = 5_000;

interface Feed {
  position: EventPosition;
  readonly streams: Set<EventStream>;
  /** Streams that are on their way in. */
  coming: number;
  /** Reads of a tenant follow each other. */
  turn: Promise<void>;
  queued: boolean;
  /** Told of something at this time; until it is seen the feed is read with every tick. */
  toldMs: number;
  readMs: number;
}

@Injectable()
export class EventHub implements OnModuleDestroy {
  readonly #feeds = new Map<TenantId, Feed>();
  readonly #timer: NodeJS.Timeout;
  /** Places taken, by everybody, by tenant and by account. */
  readonly #places = new Map<string, number>();
  #beatMs = 0;
  #closing = false;

  constructor(
    private readonly context: Context,
    private readonly standings: Standings,
    notifications: Notifications,
  ) {
    notifications.on('event', (tenantId) => this.#told(tenantId as TenantId | ''));
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.#timer.unref();
  }

  /**
   * Takes a place, given back by the call that is returned. Throws unavailable when this process, rate_limited when the
   * tenant or the account has its number of streams.
   */
  takePlace({ tenantId, accountId }: Actor): () => void {
    const retryAfterMs = BEAT_MS;
    const taken = (key: string): number => this.#places.get(key) ?? 0;
    const [tenant, account] = [`t:${tenantId}`, `a:${accountId ?? ''}`];
    if (this.#closing || taken('') >= STREAMS_MAX)
      throw new AppError('unavailable', 'too many event streams are open', { retryAfterMs });
    if (taken(tenant) >= TENANT_STREAMS_MAX)
      throw new AppError('rate_limited', 'this tenant has too many event streams open', { retryAfterMs });
    if (taken(account) >= ACCOUNT_STREAMS_MAX)
      throw new AppError('rate_limited', 'you have too many event streams open', { retryAfterMs });
    const keys = ['', tenant, account];
    for (const key of keys) this.#places.set(key, taken(key) + 1);
    return () => {
      for (const key of keys) {
        if (taken(key) > 1) this.#places.set(key, taken(key) - 1);
        else this.#places.delete(key);
      }
    };
  }

  /** Feeds the page from `after` on, or from now. */
  async add(stream: EventStream, after: EventPosition | null): Promise<void> {
    const { tenantId } = stream;
    let feed: Feed | undefined;
    const dropIfIdle = (): void => {
      if (feed?.streams.size === 0 && feed.coming === 0) this.#feeds.delete(tenantId);
    };
    stream.onClose(() => {
      feed?.streams.delete(stream);
      dropIfIdle();
    });
    try {
      feed = await this.#comingTo(tenantId);
      await this.#join(feed, stream, after);
    } catch (error) {
      // The answer has begun: the reader comes again with the id it has.
      stream.end();
      this.context.log.warn({ error }, 'an event stream could not begin');
    } finally {
      if (feed !== undefined) feed.coming--;
      dropIfIdle();
    }
  }

  #join(feed: Feed, stream: EventStream, after: EventPosition | null): Promise<void> {
    return this.#inTurn(feed, async () => {
      await this.#read(stream.tenantId, feed);
      if (after === null) stream.hello(feed.position);
      else if (isKept(after, this.context.clock.now()) && comparePositions(after, feed.position) <= 0) {
        await this.#catchUp(stream, after, feed.position);
      } else stream.reset(feed.position);
      // One that is gone meanwhile was told so before it was here.
      if (!stream.closed) feed.streams.add(stream);
    });
  }

  onModuleDestroy(): void {
    this.#closing = true;
    clearInterval(this.#timer);
    for (const { streams } of this.#feeds.values()) for (const stream of streams) stream.end();
  }

  /** The tenant's feed, which stays at least until the caller takes its `coming` back. */
  async #comingTo(tenantId: TenantId): Promise<Feed> {
    const known = this.#feeds.get(tenantId);
    if (known === undefined) {
      const position = await this.#withTenant(tenantId, (client) => currentPosition(client));
      const nowMs = this.context.clock.monotonic();
      if (!this.#feeds.has(tenantId)) {
        this.#feeds.set(tenantId, {
          ...{ position, streams: new Set(), coming: 0, turn: Promise.resolve(), queued: false },
          ...{ toldMs: nowMs, readMs: nowMs },
        });
      }
    }
    const feed = this.#feeds.get(tenantId) as Feed;
    feed.coming++;
    return feed;
  }

  async #catchUp(stream: EventStream, after: EventPosition, until: EventPosition): Promise<void> {
    stream.hello(after);
    let position = after;
    for (let sent = 0; sent <= CATCH_UP_EVENTS_MAX;) {
      const rows = await this.#page(stream.tenantId, position);
      for (const row of rows) {
        if (comparePositions(row, until) > 0) return;
        stream.send(row);
        position = row;
        sent++;
      }
      if (rows.length < PAGE_EVENTS) return;
    }
    stream.reset(until);
  }

  #told(tenantId: TenantId | ''): void {
    const nowMs = this.context.clock.monotonic();
    const feeds = tenantId === '' ? [...this.#feeds] : [...this.#feeds].filter(([id]) => id === tenantId);
    for (const [id, feed] of feeds) {
      feed.toldMs = nowMs;
      this.#wake(id, feed);
    }
  }

  #tick(): void {
    const nowMs = this.context.clock.monotonic();
    const beat = nowMs - this.#beatMs >= BEAT_MS;
    if (beat) this.#beatMs = nowMs;
    for (const [tenantId, feed] of this.#feeds) {
      for (const stream of feed.streams) {
        if (beat) stream.beat();
        this.#checkRights(stream);
      }
      // What was told may have waited for an older transaction.
      if (feed.toldMs + SWEEP_MS > nowMs || feed.readMs + SWEEP_MS <= nowMs) this.#wake(tenantId, feed);
    }
  }

  #checkRights(stream: EventStream): void {
    const { credential } = stream;
    const expired = credential.kind !== 'key' && credential.expiresAt * 1000 <= this.context.clock.now();
    if (expired) return stream.end();
    this.standings.of(credential).then(
      (standing) => {
        const { role, platform, key } = standing;
        const hearer = { role, platform, scopes: key === null ? null : [...key.scopes] };
        // Who may not open a stream any more has none.
        const may = allows(hearer, 'event.read') && (hearer.scopes?.includes('event.read') ?? true);
        if (may) stream.hears(hearer);
        else stream.end();
      },
      (error: unknown) => {
        // A database that is away says nothing about rights.
        if (error instanceof AppError && error.code === 'unavailable') return;
        stream.end();
      },
    );
  }

  /** Reads soon; at most one read waits. */
  #wake(tenantId: TenantId, feed: Feed): void {
    if (feed.queued) return;
    feed.queued = true;
    this.#inTurn(feed, async () => {
      feed.queued = false;
      await this.#read(tenantId, feed);
    }).catch((error: unknown) => this.context.log.warn({ error }, 'events could not be read'));
  }

  async #read(tenantId: TenantId, feed: Feed): Promise<void> {
    for (;;) {
      const rows = await this.#page(tenantId, feed.position);
      feed.readMs = this.context.clock.monotonic();
      for (const row of rows) {
        feed.position = row;
        for (const stream of feed.streams) stream.send(row);
      }
      if (rows.length < PAGE_EVENTS) return;
    }
  }

  #inTurn(feed: Feed, work: () => Promise<void>): Promise<void> {
    const done = feed.turn.then(work);
    feed.turn = done.catch(() => undefined);
    return done;
  }

  #page(tenantId: TenantId, after: EventPosition): Promise<EventRow[]> {
    return this.#withTenant(tenantId, (client) => listEventsAfter(client, tenantId, after, PAGE_EVENTS));
  }

  #withTenant<T>(tenantId: TenantId, work: Parameters<typeof withTransaction<T>>[1]): Promise<T> {
    return withTransaction(this.context.pool, work, { tenantId });
  }
}
