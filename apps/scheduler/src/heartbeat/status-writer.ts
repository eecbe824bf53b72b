// Heartbeats into node_status: the newest of each node, all nodes in one statement a second, so that thousands of nodes
// cost one commit. What is lost with this process comes again with the next heartbeat.
import type { Pool } from '@penstock/db/pool';
import { run, statement } from '@penstock/db/statement';
import type { NodeId } from '@penstock/domain/ids';
import type { Logger } from '@penstock/service/logger';
import type { NodeReport } from '../enforcement/incoming.js';

export const FLUSH_INTERVAL_MS = 1_000;

const upsertStatus = statement(
  'heartbeat.upsert',
  `INSERT INTO node_status AS o (node_id, heartbeat_at, agent_version, applied_revision, subscriptions, engines,
                                 wal_bytes, wal_frames, acknowledged_seq, clock_skew_ms)
   SELECT i.node_id, statement_timestamp(), i.agent_version, i.applied_revision, i.subscriptions, i.engines::jsonb,
          i.wal_bytes, i.wal_frames, i.acknowledged_seq, i.clock_skew_ms
   FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::integer[], $5::text[], $6::bigint[], $7::integer[],
               $8::bigint[], $9::integer[])
     AS i (node_id, agent_version, applied_revision, subscriptions, engines, wal_bytes, wal_frames, acknowledged_seq,
           clock_skew_ms)
   ORDER BY i.node_id
   ON CONFLICT (node_id) DO UPDATE
     SET heartbeat_at = excluded.heartbeat_at, agent_version = excluded.agent_version,
         applied_revision = excluded.applied_revision, subscriptions = excluded.subscriptions,
         engines = excluded.engines, wal_bytes = excluded.wal_bytes, wal_frames = excluded.wal_frames,
         acknowledged_seq = excluded.acknowledged_seq, clock_skew_ms = excluded.clock_skew_ms`,
);

export class StatusWriter {
  /** At most one a node that has a stream here. */
  private waiting = new Map<NodeId, { version: string; report: NodeReport }>();
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
    this.writing = this.write(rows)
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

  private async write(rows: [NodeId, { version: string; report: NodeReport }][]): Promise<void> {
    await run(this.pool, upsertStatus, [
      rows.map(([nodeId]) => nodeId),
      rows.map(([, r]) => r.version),
      rows.map(([, r]) => r.report.appliedRevision.toString()),
      rows.map(([, r]) => r.report.subscriptions),
      rows.map(([, r]) => JSON.stringify(r.report.engines)),
      rows.map(([, r]) => r.report.walBytes.toString()),
      rows.map(([, r]) => r.report.walFrames),
      rows.map(([, r]) => r.report.acknowledgedSeq.toString()),
      rows.map(([, r]) => r.report.clockSkewMs),
    ]);
  }
}
