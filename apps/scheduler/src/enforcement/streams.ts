// The streams that this process holds, one a node, and their watch: a stream whose fence was raised elsewhere, whose
// node fell silent or stopped reading is ended; nodes with changes that nobody announced are poked. A poke may be lost
// anywhere; this watch repairs it within its interval.
import type { Pool } from '@penstock/db/pool';
import type { Clock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import type { NodeId } from '@penstock/domain/ids';
import type { Logger } from '@penstock/service/logger';
import type { CloseReason, SchedulerMetrics } from '../metrics.js';
import { listWaitingNodes } from './desired.store.js';
import { listHeld } from './enforcement.store.js';
import type { NodeStream } from './node-stream.js';

export const WATCH_INTERVAL_MS = 2_000;
/** Heartbeats that a node may miss. */
const HEARTBEATS_MISSED_MAX = 3;
/** A node that does not take a message for so long is not reading. */
const WRITE_STALL_MS = 30_000;

export interface StreamsDeps {
  pool: Pool;
  clock: Clock;
  log: Logger;
  metrics: SchedulerMetrics;
  heartbeatMs: number;
}

export class NodeStreams {
  private readonly held = new Map<NodeId, NodeStream>();
  private watching: Promise<void> | null = null;
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly deps: StreamsDeps) {}

  start(): void {
    this.timer = setInterval(() => {
      this.watching ??= this.watch()
        .catch((error: unknown) => this.deps.log.warn({ error }, 'streams were not checked'))
        .finally(() => {
          this.watching = null;
        });
    }, WATCH_INTERVAL_MS);
    this.timer.unref();
  }

  /** Takes a new stream; an older one of the same node ends. */
  add(stream: NodeStream): void {
    const before = this.held.get(stream.nodeId);
    this.held.set(stream.nodeId, stream);
    before?.close('fenced', new AppError('fenced', 'the node is served by a newer stream'));
    this.deps.metrics.streamsActive.set({}, this.held.size);
  }

  remove(stream: NodeStream): void {
    if (this.held.get(stream.nodeId) === stream) this.held.delete(stream.nodeId);
    this.deps.metrics.streamsActive.set({}, this.held.size);
  }

  isHeld(nodeId: NodeId): boolean {
    return this.held.has(nodeId);
  }

  poke(nodeId: NodeId): void {
    this.held.get(nodeId)?.poke();
  }

  /** After a listen connection came back: anything may have been missed. One query, then only those that need it. */
  pokeWaiting(): void {
    void this.watchWaiting().catch((error: unknown) =>
      this.deps.log.warn({ error }, 'waiting changes were not found'),
    );
  }

  /** Ends a node's stream here, if there is one. */
  closeNode(nodeId: NodeId, reason: CloseReason, error: AppError): void {
    this.held.get(nodeId)?.close(reason, error);
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    const error = new AppError('unavailable', 'the scheduler is stopping', { retryAfterMs: 1_000 });
    for (const stream of this.held.values()) stream.close('shutdown', error);
    await this.watching;
  }

  private async watch(): Promise<void> {
    const now = this.deps.clock.monotonic();
    for (const stream of this.held.values()) {
      if (now - stream.lastHeardMs > this.deps.heartbeatMs * HEARTBEATS_MISSED_MAX) {
        stream.close('silent', new AppError('unavailable', 'no heartbeat came'));
      } else if (stream.writingSinceMs !== null && now - stream.writingSinceMs > WRITE_STALL_MS) {
        stream.close('stalled', new AppError('unavailable', 'messages are not read'));
      }
    }
    const leases = [...this.held.values()].map(({ nodeId, fence }) => ({ nodeId, fence }));
    if (leases.length === 0) return;
    const held = new Set(await listHeld(this.deps.pool, leases));
    for (const { nodeId, fence } of leases) {
      const stream = this.held.get(nodeId);
      if (!held.has(nodeId) && stream?.fence === fence) {
        stream.close('fenced', new AppError('fenced', 'the node is served by a newer stream'));
      }
    }
    await this.watchWaiting();
  }

  private async watchWaiting(): Promise<void> {
    const waiting = await listWaitingNodes(this.deps.pool, [...this.held.keys()]);
    this.deps.metrics.queueDepth.set({ queue: 'node_change' }, waiting.length);
    for (const nodeId of waiting) this.poke(nodeId);
  }
}
