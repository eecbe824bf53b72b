// Writes validated frames of many nodes in one transaction. Invariants: a frame is acknowledged after COMMIT only; the
// heads are locked in node order and the fence is checked in the same transaction; a frame that makes the group fail is
// found by trying frames alone, and only its stream stops. When the outcome of a COMMIT is not known every stream of the
// group is thrown away: its node connects again and the ledger says what it holds.
import type { Pool } from '@penstock/db/pool';
import { sqlState } from '@penstock/db/errors';
import { withTransaction } from '@penstock/db/transaction';
import type { Clock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import { engineNumber } from '@penstock/domain/terms';
import { OPENED_BYTES } from '@penstock/ledger/frame';
import type { Logger } from '@penstock/service/logger';
import { settleFrame, undoFrame, type CheckedFrame } from './accept.js';
import { appendFrames, lockedHeads } from './append.store.js';
import type { Periods } from './crossing.js';
import { Lanes } from './lanes.js';
import type { CollectorMetrics } from './metrics.js';
import type { Stream } from './stream.js';

export interface GroupLimits {
  /** How long an idle collector waits for more frames before it writes. */
  windowMs: number;
  /**
   * Transactions under way at once: while one waits for the server the next is filled. Their streams are disjoint, so
   * they cannot wait for each other.
   */
  groupsMax: number;
  /** One transaction. */
  framesMax: number;
  bytesMax: number;
  /** The queue before it. */
  queueFramesMax: number;
  queueBytesMax: number;
}

export const GROUP_LIMITS: GroupLimits = {
  windowMs: 2,
  groupsMax: 1,
  framesMax: 64,
  bytesMax: 8 * 1024 * 1024,
  queueFramesMax: 4096,
  queueBytesMax: 64 * 1024 * 1024,
};

/** SQLSTATE classes that a frame's own content can cause. */
const CONTENT_CLASSES: ReadonlySet<string> = new Set(['21', '22', '23', '42', '44', 'P0']);

export class GroupCommit {
  readonly queue: Lanes<CheckedFrame>;
  private readonly writing = new Set<Promise<void>>();
  private writers = 0;
  private calmSinceMs = 0;
  /** Of the last transaction; null before the first. */
  healthy: boolean | null = null;

  constructor(
    private readonly pool: Pool,
    private readonly periods: Periods,
    private readonly clock: Clock,
    private readonly log: Logger,
    private readonly metrics: CollectorMetrics,
    private readonly limits: GroupLimits = GROUP_LIMITS,
  ) {
    this.queue = new Lanes(limits.queueFramesMax, limits.queueBytesMax);
  }

  /** Takes a validated and applied frame; its stream hears when it is durable. */
  push(frame: CheckedFrame): void {
    frame.stream.inFlight++;
    this.queue.push(frame.stream.lane, frame);
    if (this.writers < this.limits.groupsMax) this.begin();
  }

  /** Resolves when nothing waits. */
  async drained(): Promise<void> {
    while (this.writing.size > 0) await Promise.all(this.writing);
  }

  /** How long nothing has been written. */
  calmMs(): number {
    return this.writers > 0 ? 0 : this.clock.monotonic() - this.calmSinceMs;
  }

  /** Gives up what waits of a stream that was thrown away. */
  discard(stream: Stream): void {
    for (const frame of this.queue.clear(stream.lane)) this.giveUp(frame);
  }

  private begin(): void {
    this.writers++;
    const writer = this.write().finally(() => this.writing.delete(writer));
    this.writing.add(writer);
  }

  /** Writes groups until there is nothing that another writer does not have. */
  private async write(): Promise<void> {
    const { windowMs, framesMax, bytesMax } = this.limits;
    await new Promise((resolve) => setTimeout(resolve, windowMs));
    for (;;) {
      this.metrics.queue.set({ queue: 'frames' }, this.queue.frames);
      this.metrics.queue.set({ queue: 'bytes' }, this.queue.bytes);
      const { items, lanes } = this.queue.take(framesMax, bytesMax);
      if (items.length === 0) break;
      await this.commit(items);
      this.queue.release(lanes);
    }
    // In the same turn as the look at the queue, so that a frame that comes now begins the next writer.
    this.writers--;
    this.calmSinceMs = this.clock.monotonic();
  }

  private async commit(group: readonly CheckedFrame[]): Promise<void> {
    const frames = this.withoutEnded(group);
    if (frames.length === 0) return;
    const started = this.clock.monotonic();
    const acceptedAtMs = this.clock.now();
    let lost: ReadonlySet<Stream>;
    try {
      lost = await this.append(frames, acceptedAtMs);
    } catch (error) {
      if (!isContent(error)) return this.fail(frames, error);
      if (frames.length === 1) return this.poison(frames[0] as CheckedFrame, error);
      this.log.warn({ frames: frames.length, error }, 'a group failed, trying its frames alone');
      for (const frame of frames) await this.commit([frame]);
      return;
    }
    this.settle(frames, lost, acceptedAtMs);
    this.metrics.transaction.observe({ step: 'append' }, (this.clock.monotonic() - started) / 1000);
  }

  /** One transaction. Returns the streams that are no longer ours; nothing of them was written. */
  private append(frames: readonly CheckedFrame[], acceptedAtMs: number): Promise<Set<Stream>> {
    const streams = [...new Set(frames.map((f) => f.stream))];
    const tenantIds = [...new Set(streams.flatMap((s) => [...s.tenants.values()]))];
    return withTransaction(
      this.pool,
      async (client) => {
        const heads = await lockedHeads(client, streams);
        const taken = takenOver(streams, heads, frames);
        const good = taken.size === 0 ? frames : frames.filter((f) => !taken.has(f.stream));
        if (good.length > 0) await appendFrames(client, good, this.periods, acceptedAtMs);
        return taken;
      },
      { tenantIds },
    );
  }

  /** After COMMIT: moves the committed ends and acknowledges. */
  private settle(frames: readonly CheckedFrame[], lost: ReadonlySet<Stream>, acceptedAtMs: number): void {
    this.healthy = true;
    for (const stream of lost) {
      this.log.warn({ nodeId: stream.nodeId, fence: stream.fence }, 'the stream is served by somebody else');
      stream.end(new AppError('fenced', 'a newer connection of the node took over'));
    }
    const last = new Map<Stream, CheckedFrame>();
    for (const frame of frames) {
      // A stream that was thrown away meanwhile reads the frame from the ledger when it opens again.
      if (frame.stream.ended !== null) {
        this.giveUp(frame);
        continue;
      }
      settleFrame(frame);
      this.count(frame, acceptedAtMs);
      frame.stream.settled();
      last.set(frame.stream, frame);
    }
    for (const [stream] of last) stream.session?.accepted(stream.kept);
  }

  /** The database is in trouble, and nobody knows what it has: all streams of the group start again from it. */
  private fail(frames: readonly CheckedFrame[], error: unknown): void {
    this.healthy = false;
    this.log.error({ frames: frames.length, error }, 'frames could not be written');
    for (const frame of frames) {
      frame.stream.end(
        new AppError('unavailable', 'frames cannot be written now', { retryAfterMs: 1_000, cause: error }),
      );
      this.giveUp(frame);
    }
  }

  private poison(frame: CheckedFrame, error: unknown): void {
    const { stream, view } = frame;
    this.log.error(
      { nodeId: stream.nodeId, epoch: view.header.epoch, seq: view.header.seq, error },
      'a frame cannot be stored',
    );
    this.metrics.rejected.inc({ reason: 'poison' });
    stream.refuse(view.header.seq, new AppError('internal', 'the frame cannot be stored', { cause: error }));
    this.giveUp(frame);
  }

  private withoutEnded(frames: readonly CheckedFrame[]): CheckedFrame[] {
    return frames.filter((frame) => {
      if (frame.stream.ended === null) return true;
      this.giveUp(frame);
      return false;
    });
  }

  private giveUp(frame: CheckedFrame): void {
    undoFrame(frame, this.periods);
    frame.stream.settled();
  }

  private count(frame: CheckedFrame, acceptedAtMs: number): void {
    const { rows, view } = frame;
    this.metrics.frames.inc({ result: 'accepted' });
    this.metrics.samples.inc({}, rows.count);
    if (view.header.kind === 'gap') this.metrics.healedFrames.inc({});
    if (!Number.isNaN(frame.windowEndMs))
      this.metrics.lag.observe({}, Math.max(0, acceptedAtMs - frame.windowEndMs) / 1000);
    if (frame.crossings.length > 0) this.metrics.crossings.inc({ found: 'append' }, frame.crossings.length);
    for (const row of frame.quarantine) this.metrics.quarantined.inc({ reason: row.reason });
    const moved = [0, 0, 0, 0];
    let at = 0;
    for (const slice of view.slices) {
      const engines = slice.opened * OPENED_BYTES + slice.rows * 16;
      for (let i = 0; i < slice.rows; i++, at++) {
        const side = slice.payload[engines + i] === engineNumber.xray ? 0 : 2;
        moved[side] = (moved[side] as number) + (rows.up[at] as number);
        moved[side + 1] = (moved[side + 1] as number) + (rows.down[at] as number);
      }
    }
    (['xray', 'wireguard'] as const).forEach((engine, i) => {
      const up = moved[i * 2] as number;
      const down = moved[i * 2 + 1] as number;
      if (up > 0) this.metrics.bytes.inc({ engine, dir: 'up' }, up);
      if (down > 0) this.metrics.bytes.inc({ engine, dir: 'down' }, down);
    });
  }
}

/** Streams whose head is not where we left it, or no longer ours. */
function takenOver(
  streams: readonly Stream[],
  heads: readonly { nodeId: string; epoch: number; seq: bigint; fence: bigint; frozen: boolean }[],
  frames: readonly CheckedFrame[],
): Set<Stream> {
  const byNode = new Map(heads.map((head) => [head.nodeId, head]));
  const taken = new Set<Stream>();
  const first = new Map<Stream, CheckedFrame>();
  for (const frame of frames) if (!first.has(frame.stream)) first.set(frame.stream, frame);
  for (const stream of streams) {
    const head = byNode.get(stream.nodeId);
    const next = first.get(stream)?.view.header;
    const ours =
      head !== undefined &&
      !head.frozen &&
      head.fence === stream.fence &&
      head.epoch === next?.epoch &&
      head.seq + 1n === next.seq;
    if (!ours) taken.add(stream);
  }
  return taken;
}

function isContent(error: unknown): boolean {
  const state = sqlState(error instanceof AppError ? error.cause : error);
  return CONTENT_CLASSES.has(state.slice(0, 2));
}
