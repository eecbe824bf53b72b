// The collector's streams: opens them (epoch, fence, state from the database), keeps their state while it can be
// trusted, drives flushes, adopts what a dead collector left behind, drains. Any number of collectors may run on one
// database: whoever a node connects to raises the fence of its stream, and every write of the others then fails.
// Called by usage.rpc.ts and main.ts.
import type { Pool } from '@penstock/db/pool';
import { run } from '@penstock/db/statement';
import type { Clock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import { idBytes, type NodeId } from '@penstock/domain/ids';
import type { Logger } from '@penstock/service/logger';
import {
  applyFrame,
  checkFrame,
  checkSignature,
  placeOf,
  type CheckedFrame,
  type Received,
} from './accept.js';
import { Periods, type PeriodUser } from './crossing.js';
import { Deriver, FLUSH_MS, forgetSums, METERS_FLUSH_MS } from './derive.js';
import { Gate } from './gate.js';
import { GROUP_LIMITS, GroupCommit, type GroupLimits } from './group-commit.js';
import { Loader } from './load.js';
import { reasonOf, type CollectorMetrics } from './metrics.js';
import { openInDatabase, type OpenedStream } from './open.js';
import { baselinePages, type Baseline } from './baselines.js';
import {
  findFrame,
  freezeStream,
  listBehind,
  listTenants,
  readHead,
  type SliceHeadRow,
} from './open.store.js';
import { RELEASE_MS, Releases } from './release.js';
import { replay } from './replay.js';
import type { JournalEnd } from './epochs.js';
import { METERS_MAX, type Known } from './rows.js';
import { after, Stream, type Session } from './stream.js';

export interface CollectorOptions {
  /** For openings and look-ups. */
  pool: Pool;
  /** For appends and flushes, which must never wait behind the others; `pool` when absent. */
  writers?: Pool;
  /** Openings and look-ups at once; below the pool's connections. */
  lookupsMax?: number;
  clock: Clock;
  log: Logger;
  metrics: CollectorMetrics;
  /** Names this process in stream_head. */
  holder: string;
  flushMs?: number;
  metersFlushMs?: number;
  /** A stream whose derived state is behind and that nobody touched for this long is adopted. */
  behindMs?: number;
  /** The same for what is flushed with the meters. */
  seriesBehindMs?: number;
  limits?: Partial<GroupLimits>;
}

/** What Opened tells the node. */
export interface OpenResult {
  stream: Stream;
  epoch: number;
  nextSeq: bigint;
  headDigest: Buffer;
  newEpoch: boolean;
  sliceHeads: SliceHeadRow[];
}

export type Outcome =
  /** Validated; its acknowledgement follows after the commit. */
  | { kind: 'queued' }
  | { kind: 'duplicate'; epoch: number; seq: bigint }
  /** A repeat of a frame that is on its way. */
  | { kind: 'pending' }
  | { kind: 'expected'; seq: bigint }
  | { kind: 'busy'; seq: bigint; retryAfterMs: number };

/** Where the scheduler says whose periods changed. */
export const PERIOD_CHANNEL = 'usage_period';
export const BEHIND_MS = 10_000;
/** Longer than the longest window and the flush of meters and series together. */
export const SERIES_BEHIND_MS = 4 * METERS_FLUSH_MS;
const BEHIND_STREAMS_MAX = 64;
/** State of a stream without a connection is kept for a node that comes back. */
const IDLE_KEPT_MS = 10 * 60_000;
const BUSY_RETRY_MS = 200;
export const LOOKUPS_MAX = 6;
const LOAD_ROUNDS_MAX = 4;
/**
 * While frames pour in, a flush rests this many times its own length, so that sums merge for longer instead of eating
 * the appends (a touched counter costs five times a stored sample). Below a quarter of a second a flush is every second.
 */
const FLUSH_REST = 3;
const FLUSH_REST_MAX_MS = 4_000;
/** Without an append for this long nothing is pouring in. */
const CALM_MS = 50;
/** How often the time of the next flush is looked at. */
const TICK_MS = 100;
/** How often periods that nobody needs are forgotten. */
const SWEEP_MS = 10 * 60_000;
/** Flushes may fail this long before the process says that it is not ready. */
const FLUSH_LATE_MS = 10_000;
const NOTHING_KNOWN: Known = { absentMeters: new Set(), absentTenants: new Set() };

export class Collector {
  readonly periods = new Periods();
  readonly commit: GroupCommit;
  readonly derive: Deriver;
  private readonly loader: Loader;
  private readonly releases: Releases;
  private readonly gate: Gate;
  private readonly streams = new Map<NodeId, Stream>();
  /** Streams whose state is being read; not yet among `streams`. */
  private readonly reading = new Set<Stream>();
  private sweeping = false;
  /** One opening of a node at a time. */
  private readonly opening = new Map<NodeId, Promise<unknown>>();
  private readonly timers: NodeJS.Timeout[] = [];
  private metersFlushedAtMs: number;
  private ticking: Promise<void> | null = null;
  private flushStartedAtMs = 0;
  private restUntilMs = 0;
  private stopped = false;

  constructor(private readonly options: CollectorOptions) {
    const { pool, clock, log, metrics } = options;
    const writers = options.writers ?? pool;
    this.gate = new Gate(options.lookupsMax ?? LOOKUPS_MAX);
    this.commit = new GroupCommit(writers, this.periods, clock, log, metrics, {
      ...GROUP_LIMITS,
      ...options.limits,
    });
    this.derive = new Deriver(writers, this.periods, clock, log, metrics);
    this.loader = new Loader(pool, this.periods, clock);
    this.releases = new Releases(pool, clock, log, metrics);
    this.metersFlushedAtMs = clock.monotonic();
  }

  /** Starts the periodic work. */
  start(): void {
    const { flushMs = FLUSH_MS, behindMs = BEHIND_MS } = this.options;
    this.timers.push(
      setInterval(() => this.tick(), Math.min(flushMs, TICK_MS)),
      setInterval(() => void this.adoptBehind(), behindMs),
      setInterval(() => void this.forgetPeriods(), SWEEP_MS),
      setInterval(() => void this.billReleases(), RELEASE_MS),
    );
    void this.adoptBehind();
  }

  readiness(): { ready: boolean; reasons: string[] } {
    const reasons: string[] = [];
    if (this.stopped) reasons.push('stopping');
    if (this.commit.healthy === false) reasons.push('database');
    if (this.options.clock.now() - this.derive.flushedAtMs > FLUSH_LATE_MS) reasons.push('flush_late');
    if (!this.commit.queue.fits(1)) reasons.push('queue_full');
    return { ready: reasons.length === 0, reasons };
  }

  /**
   * Opens the stream of a node: grants the epoch, raises the fence, ends whoever had it here before. Throws
   * stream_frozen, not_found, certificate_revoked, unavailable.
   */
  async open(nodeId: NodeId, end: JournalEnd, session: Session): Promise<OpenResult> {
    if (this.stopped) throw new AppError('unavailable', 'the collector is stopping', { retryAfterMs: 1_000 });
    return this.alone(nodeId, () => this.openNow(nodeId, end, session));
  }

  /** The connection of a stream is gone; its state stays for a while. */
  close(stream: Stream, session: Session): void {
    if (stream.session === session) stream.session = null;
    stream.lastUsedMs = this.options.clock.monotonic();
  }

  /**
   * Judges a frame and, when it is the next one, queues it. Throws the refusal; nothing has changed then, except that a
   * contradicting frame freezes the stream.
   */
  async receive(stream: Stream, session: Session, received: Received): Promise<Outcome> {
    const { clock } = this.options;
    requireSession(stream, session);
    const place = placeOf(stream, received.view);
    if (place === 'ahead') {
      this.options.metrics.rejected.inc({ reason: 'order_overflow' });
      return { kind: 'expected', seq: stream.seq + 1n };
    }
    if (place === 'seen') return this.repeat(stream, received);
    if (!received.view.header.prevDigest.equals(stream.digest)) await this.contradict(stream, received);
    if (!this.commit.queue.fits(received.bytes, stream.lane)) {
      this.options.metrics.rejected.inc({ reason: 'capacity' });
      return { kind: 'busy', seq: received.view.header.seq, retryAfterMs: BUSY_RETRY_MS };
    }
    await this.loader.refresh(stream);
    requireSession(stream, session);
    let known = NOTHING_KNOWN;
    for (let round = 0; round < LOAD_ROUNDS_MAX; round++) {
      const verdict = checkFrame(stream, this.periods, received, known, clock.now());
      requireSession(stream, session);
      if ('frame' in verdict) {
        this.take(verdict.frame);
        return { kind: 'queued' };
      }
      const { missing } = verdict;
      const found = await this.gate.run(() => this.loader.load(stream, missing));
      requireSession(stream, session);
      known = {
        absentMeters: new Set([...known.absentMeters, ...found.absentMeters]),
        absentTenants: new Set([...known.absentTenants, ...found.absentTenants]),
      };
    }
    throw new AppError('unavailable', 'what the frame names keeps missing', { retryAfterMs: 1_000 });
  }

  /** A period was begun, ended or topped up by the scheduler. `key`: hex of tenant and subscription; '' for any. */
  periodsChanged(key: string): void {
    this.periods.forget(key);
  }

  /** Every meter of a node with its committed cumulatives, in pages. For an agent that lost its journal. */
  async *baselines(nodeId: NodeId): AsyncGenerator<Baseline[]> {
    const { pool } = this.options;
    const tenants = (await run(pool, listTenants, [nodeId])).map((row) => row.tenantId);
    const kept = this.streams.get(nodeId);
    const stream = kept !== undefined && kept.ended === null ? kept : await this.readStream(nodeId, tenants);
    yield* baselinePages(pool, stream, nodeId, tenants);
  }

  /** Flushes now. For drains, tests and benchmarks. */
  async flush(withMeters = false): Promise<void> {
    await this.derive.flush(this.streams.values(), withMeters);
    this.sweepEnded();
  }

  /** Stops all periodic work and writes nothing more: what a killed process does. */
  abandon(): void {
    this.stopped = true;
    for (const timer of this.timers) clearInterval(timer);
    for (const stream of this.streams.values())
      stream.end(new AppError('unavailable', 'the collector is stopping'));
  }

  /** Ends all streams, writes what is queued, flushes everything. */
  async stop(): Promise<void> {
    this.stopped = true;
    for (const timer of this.timers) clearInterval(timer);
    for (const stream of this.streams.values()) {
      stream.session?.end(new AppError('unavailable', 'the collector is stopping', { retryAfterMs: 500 }));
      stream.session = null;
    }
    await this.ticking;
    await this.commit.drained();
    await this.flush(true);
  }

  /** Opens streams whose collector died between append and flush and whose node has not come back. */
  async adoptBehind(): Promise<number> {
    const { pool, clock, log, behindMs = BEHIND_MS, seriesBehindMs = SERIES_BEHIND_MS } = this.options;
    try {
      const now = clock.now();
      const before = [new Date(now - behindMs), new Date(now - seriesBehindMs)];
      const rows = await run(pool, listBehind, [...before, BEHIND_STREAMS_MAX]);
      let count = 0;
      for (const { nodeId } of rows as { nodeId: NodeId }[]) {
        if (this.streams.has(nodeId) || this.opening.has(nodeId) || this.stopped) continue;
        try {
          await this.alone(nodeId, async () => {
            await this.enter(nodeId, await openInDatabase(pool, clock, nodeId, null, this.options.holder));
          });
          count++;
        } catch (error) {
          log.warn({ nodeId, error }, 'a stream that is behind could not be adopted');
        }
      }
      if (count > 0) log.info({ count }, 'adopted streams that were behind');
      return count;
    } catch (error) {
      log.warn({ error }, 'streams that are behind could not be adopted');
      return 0;
    }
  }

  /** Bills quarantined usage that was released; returns how many rows. */
  async billReleases(): Promise<number> {
    try {
      return await this.gate.run(() => this.releases.bill());
    } catch (error) {
      this.options.log.warn({ error }, 'released usage could not be billed, it is tried again');
      return 0;
    }
  }

  /** Forgets the periods of customers that no stream shows any more, and those that ended long ago; returns how many. */
  async forgetPeriods(): Promise<number> {
    const now = this.options.clock.now();
    if (this.sweeping || now - this.derive.flushedAtMs > FLUSH_LATE_MS) return 0;
    this.sweeping = true;
    try {
      return await this.periods.sweep(() => this.users(), now, nextTurn);
    } finally {
      this.sweeping = false;
    }
  }

  /** Those being read first: one that is done meanwhile is then found among the streams. */
  private *users(): Generator<PeriodUser> {
    for (const stream of this.reading) yield stream.subscriptions;
    for (const stream of this.streams.values()) yield stream.subscriptions;
  }

  private tick(): void {
    const { clock, log, flushMs = FLUSH_MS, metersFlushMs = METERS_FLUSH_MS } = this.options;
    const started = clock.monotonic();
    if (this.ticking !== null || started < this.flushStartedAtMs + flushMs) return;
    if (started < this.restUntilMs && this.commit.calmMs() < CALM_MS) return;
    this.flushStartedAtMs = started;
    const withMeters = clock.monotonic() - this.metersFlushedAtMs >= metersFlushMs;
    this.ticking = this.flush(withMeters)
      .then(() => {
        if (withMeters) this.metersFlushedAtMs = clock.monotonic();
      })
      .catch((error: unknown) => log.warn({ error }, 'the flush failed, it is tried again'))
      .finally(() => {
        const rest = Math.min((clock.monotonic() - started) * FLUSH_REST, FLUSH_REST_MAX_MS);
        this.restUntilMs = clock.monotonic() + rest;
        this.ticking = null;
      });
  }

  /** One opening of a node at a time. */
  private async alone<T>(nodeId: NodeId, work: () => Promise<T>): Promise<T> {
    const before = this.opening.get(nodeId) ?? Promise.resolve();
    const mine = before.catch(() => undefined).then(work);
    this.opening.set(nodeId, mine);
    try {
      return await mine;
    } finally {
      if (this.opening.get(nodeId) === mine) this.opening.delete(nodeId);
    }
  }

  private async openNow(nodeId: NodeId, end: JournalEnd, session: Session): Promise<OpenResult> {
    const old = this.streams.get(nodeId);
    if (old !== undefined) {
      old.session?.end(new AppError('fenced', 'a newer connection of the node took over'));
      old.session = null;
      // What was validated is written under the old fence before the new one is asked for.
      await old.below(1);
    }
    return this.gate.run(() => this.openGranted(nodeId, end, session));
  }

  private async openGranted(nodeId: NodeId, end: JournalEnd, session: Session): Promise<OpenResult> {
    const { pool, clock, log, metrics, holder } = this.options;
    const opened = await openInDatabase(pool, clock, nodeId, end, holder);
    if (opened.grant.kind === 'frozen') {
      if (opened.grant.reason === 'other_digest') {
        metrics.frozen.inc({});
        log.error(
          { nodeId, epoch: end.epoch, seq: end.seq },
          'stream frozen: the node names another digest for an accepted frame',
        );
      }
      throw new AppError('stream_frozen', 'the stream is frozen until an operator releases it');
    }
    const stream = await this.enter(nodeId, opened);
    const newEpoch = opened.grant.kind === 'new';
    if (opened.grant.kind === 'new') {
      stream.beginEpoch(opened.grant.epoch);
      if (opened.grant.reason !== 'first') {
        log.warn(
          { nodeId, epoch: opened.grant.epoch, reason: opened.grant.reason },
          'a new epoch was granted',
        );
      }
    }
    stream.session = session;
    return {
      stream,
      epoch: stream.epoch,
      nextSeq: stream.seq + 1n,
      headDigest: stream.digest,
      newEpoch,
      sliceHeads: opened.sliceHeads,
    };
  }

  /** The state of an opened stream: what memory has when nobody else wrote meanwhile, else from the database. */
  private async enter(nodeId: NodeId, opened: OpenedStream): Promise<Stream> {
    const { pool, clock, holder } = this.options;
    const old = this.streams.get(nodeId);
    if (
      old !== undefined &&
      old.ended === null &&
      opened.previousHolder === holder &&
      opened.previousFence === old.fence &&
      old.meters.count < METERS_MAX
    ) {
      old.fence = opened.fence;
      old.node = opened.node;
      old.lastUsedMs = clock.monotonic();
      return old;
    }
    if (old !== undefined) this.drop(old);
    const stream = new Stream(
      nodeId,
      Buffer.from(idBytes(nodeId)),
      opened.fence,
      this.commit.queue.lane(),
      opened.node,
      opened.head,
      opened.marks,
      opened.gap ? 1 : 0,
      clock.now(),
    );
    stream.lastUsedMs = clock.monotonic();
    if (after(opened.marks.meter, opened.marks.series))
      this.options.log.warn({ nodeId }, 'a version that keeps no series served the stream: they have a gap');
    this.reading.add(stream);
    try {
      const tenants = (await run(pool, listTenants, [nodeId])).map((t) => t.tenantId);
      const count = await replay(pool, this.loader, this.periods, clock, stream, tenants);
      if (count > 0) this.options.log.info({ nodeId, count }, 'read frames above the watermark again');
      this.streams.set(nodeId, stream);
    } finally {
      this.reading.delete(stream);
    }
    return stream;
  }

  /** A stream as the database has it, without taking it over. */
  private async readStream(nodeId: NodeId, tenantIds: readonly string[]): Promise<Stream | null> {
    const { pool, clock } = this.options;
    const [head] = await run(pool, readHead, [nodeId]);
    if (head === undefined) return null;
    const mark = { epoch: head.markEpoch, seq: head.markSeq };
    const end = { epoch: head.epoch, seq: head.seq };
    const terms = { multipliers: [{ fromMs: -Infinity, perMille: 1000 }], linkMbps: 1 };
    const marks = { counter: end, meter: mark, series: end };
    const stream = new Stream(
      nodeId,
      Buffer.from(idBytes(nodeId)),
      head.fence,
      this.commit.queue.lane(),
      terms,
      { ...end, digest: head.digest },
      marks,
      1,
      clock.now(),
    );
    const periods = new Periods();
    await replay(pool, new Loader(pool, periods, clock), periods, clock, stream, tenantIds);
    return stream;
  }

  private take(frame: CheckedFrame): void {
    applyFrame(frame, this.periods);
    this.commit.push(frame);
  }

  /** A frame at or before the end of the stream: the same again, or a contradiction. */
  private async repeat(stream: Stream, received: Received): Promise<Outcome> {
    const { pool, log, metrics } = this.options;
    const { epoch, seq } = received.view.header;
    let known = epoch === stream.epoch ? stream.digestOf(seq) : undefined;
    known ??= (await run(pool, findFrame, [stream.nodeId, epoch, seq]))[0]?.digest;
    if (known === undefined)
      throw new AppError('frame_out_of_order', 'the frame is of an epoch that is over');
    if (known.equals(received.digest)) {
      metrics.frames.inc({ result: 'duplicate' });
      if (epoch === stream.epoch && seq > stream.kept.seq) return { kind: 'pending' };
      return { kind: 'duplicate', epoch, seq };
    }
    await this.requireSigned(stream, received);
    log.error({ nodeId: stream.nodeId, epoch, seq }, 'stream frozen: two frames of one number');
    await this.freeze(stream, 'frame_fork');
    throw new AppError('frame_fork', 'another frame with this number was accepted; the stream is frozen');
  }

  /** The next frame names another predecessor than the one we hold: the node went on from a restored snapshot. */
  private async contradict(stream: Stream, received: Received): Promise<never> {
    await this.requireSigned(stream, received);
    const { epoch, seq } = received.view.header;
    this.options.log.error(
      { nodeId: stream.nodeId, epoch, seq },
      'stream frozen: another predecessor is named',
    );
    await this.freeze(stream, 'other_predecessor');
    throw new AppError('digest_mismatch', 'the frame does not name its predecessor; the stream is frozen');
  }

  private async freeze(stream: Stream, reason: string): Promise<void> {
    const { pool, clock, metrics } = this.options;
    metrics.frozen.inc({});
    await stream.below(1);
    await run(pool, freezeStream, [stream.nodeId, stream.fence, new Date(clock.now()), reason]);
  }

  /** Only what the node has signed can freeze its stream. */
  private async requireSigned(stream: Stream, received: Received): Promise<void> {
    const now = this.options.clock.now();
    const signed = checkSignature(stream, received, now);
    if (!('missing' in signed)) return;
    await this.loader.load(stream, signed.missing);
    checkSignature(stream, received, now);
  }

  private drop(stream: Stream): void {
    stream.end(new AppError('fenced', 'a newer connection of the node took over'));
    this.commit.discard(stream);
    forgetSums(stream, this.periods);
    if (this.streams.get(stream.nodeId) === stream) this.streams.delete(stream.nodeId);
  }

  /** Forgets streams whose state may not be used any more, and those that nobody has used for long. */
  private sweepEnded(): void {
    const now = this.options.clock.monotonic();
    let live = 0;
    for (const stream of [...this.streams.values()]) {
      if (stream.session !== null) live++;
      const idle = stream.session === null && stream.inFlight === 0 && now - stream.lastUsedMs > IDLE_KEPT_MS;
      if (stream.ended !== null || idle) this.drop(stream);
    }
    this.options.metrics.streams.set({}, live);
  }

  /** Counts a refusal; the label is the code. */
  rejected(error: AppError): void {
    this.options.metrics.rejected.inc({ reason: reasonOf(error.code) });
  }
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A connection that was replaced may not write into its successor's stream. */
function requireSession(stream: Stream, session: Session): void {
  if (stream.ended !== null) throw stream.ended;
  if (stream.session !== session) throw new AppError('fenced', 'a newer connection of the node took over');
}
