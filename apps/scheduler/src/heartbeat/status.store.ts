// What nodes last said of themselves, written as one set.
import { run, statement, type Runner } from '@penstock/db/statement';
import type { NodeId } from '@penstock/domain/ids';
import type { NodeReport } from '../enforcement/incoming.js';

export interface NodeStatus {
  version: string;
  report: NodeReport;
}

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

/** One row a node; the heartbeat's time is the database server's. */
export async function upsertStatuses(
  db: Runner,
  rows: readonly (readonly [NodeId, NodeStatus])[],
): Promise<void> {
  await run(db, upsertStatus, [
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
