// Heartbeats into node_status: the newest of each node, all nodes in one statement a second, so that thousands of nodes
// cost one commit. What is lost with this process comes again with the next heartbeat.
import type { Pool } from '@penstock/db/pool';
import type { NodeId } from '@penstock/domain/ids';
import type { Logger } from '@penstock/service/logger';
import type { NodeReport } from '../enforcement/incoming.js';
import { upsertStatuses, type NodeStatus } from './status.store.js';

export const FLUSH_INTERVAL_MS = 1_000;

export class StatusWriter {
  /** At most one a node that has a stream here. */
  private waiting = new Map<NodeId, NodeStatus>();
  private timer: NodeJS.Timeout | undefined;
  private writing: Promise<void> | null = null;

  constructor(
    private readonly pool: Pool,
    private readonly log: Logger,
  ) {}

  start(): void {
    this.timer = setInterval(() => void this.flush(), FLUSH_INTERVAL_MS);
    this.timer.unref();
  }

  put(nodeId: NodeId, version: string, report: NodeReport): void {
    this.waiting.set(nodeId, { version, report });
  }

  /** Writes what waits; while a write runs, the next one takes more. */
  async flush(): Promise<void> {
    if (this.writing !== null || this.waiting.size === 0) return;
    const rows = [...this.waiting];
    this.waiting = new Map();
    this.writing = upsertStatuses(this.pool, rows)
      .catch((error: unknown) => this.log.warn({ error, count: rows.length }, 'heartbeats were not stored'))
      .finally(() => {
        this.writing = null;
      });
    await this.writing;
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    await this.writing;
  }
}
