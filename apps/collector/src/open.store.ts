// SQL of opening a stream: the head is locked, the fence raised, the watermarks take the new fence with it. Whoever
// held the stream before can then neither append nor flush.
import { statement } from '@penstock/db/statement';
import type { NodeTerms } from './stream.js';

export interface HeadRow {
  epoch: number;
  seq: bigint;
  digest: Buffer;
  fence: bigint;
  holder: string;
  frozenAt: Date | null;
  frozenReason: string | null;
}

export const lockHead = statement<HeadRow>(
  'stream_head.lock',
  `SELECT epoch, seq, digest, fence, holder, frozen_at AS "frozenAt", frozen_reason AS "frozenReason"
   FROM stream_head WHERE node_id = $1 FOR UPDATE`,
);

/** Without a lock: for readers. */
export const readHead = statement<{
  epoch: number;
  seq: bigint;
  digest: Buffer;
  fence: bigint;
  markEpoch: number;
  markSeq: bigint;
}>(
  'stream_head.read',
  `SELECT h.epoch, h.seq, h.digest, h.fence, w.epoch AS "markEpoch", w.seq AS "markSeq"
   FROM stream_head h JOIN stream_watermark w ON w.node_id = h.node_id AND w.kind = 'meter' WHERE h.node_id = $1`,
);

export const insertHead = statement<{ fence: bigint }>(
  'stream_head.insert',
  `INSERT INTO stream_head (node_id, epoch, seq, digest, fence, holder, accepted_at)
   VALUES ($1, $2, 0, $3, 1, $4, $5) RETURNING fence`,
);

/** Takes the stream over, in a new epoch when $2 is another one than the head's; $4: and lets a frozen one go on. */
export const raiseFence = statement<{ fence: bigint }>(
  'stream_head.raise_fence',
  `UPDATE stream_head SET fence = fence + 1, holder = $3, epoch = $2, seq = CASE WHEN epoch = $2 THEN seq ELSE 0 END,
     frozen_at = CASE WHEN $4 THEN NULL ELSE frozen_at END, frozen_reason = CASE WHEN $4 THEN NULL ELSE frozen_reason END
   WHERE node_id = $1 RETURNING fence`,
);

export interface MarkRow {
  kind: 'counter' | 'meter' | 'series';
  epoch: number;
  seq: bigint;
}

// The series of a stream that is older than they are begin at its meters' checkpoint: below it nothing can be read again.
export const raiseMarks = statement<MarkRow>(
  'stream_watermark.raise_fence',
  `INSERT INTO stream_watermark AS w (node_id, kind, epoch, seq, fence)
   SELECT $1, k.kind, coalesce(m.epoch, 1), coalesce(m.seq, 0), $2
   FROM unnest(ARRAY['counter', 'meter', 'series']) AS k (kind)
   LEFT JOIN stream_watermark m ON m.node_id = $1 AND m.kind = 'meter' ORDER BY k.kind
   ON CONFLICT (node_id, kind) DO UPDATE SET fence = excluded.fence
   RETURNING w.kind, w.epoch, w.seq`,
);

export interface FrameRow {
  digest: Buffer;
  header: Buffer;
}

/** A frame that the ledger holds. */
export const findFrame = statement<FrameRow>(
  'ledger_frame.find',
  `SELECT digest, header FROM ledger_frame WHERE node_id = $1 AND epoch = $2 AND seq = $3 LIMIT 1`,
);

export interface NodeRow {
  state: string;
  multiplierFromMs: number[];
  multiplierPerMille: number[];
  linkMbps: number;
  /** The current epoch has a gap. */
  gap: boolean;
}

export const findNode = statement<NodeRow>(
  'node.find_for_stream',
  `SELECT n.state, n.link_mbps AS "linkMbps", h.from_ms AS "multiplierFromMs", h.per_mille AS "multiplierPerMille",
          EXISTS (SELECT FROM loss_mark m WHERE m.node_id = n.node_id AND m.epoch = $2 AND m.kind = 'record_lost') AS gap
   FROM node n CROSS JOIN LATERAL (
     SELECT array_agg((extract(epoch FROM m.from_at) * 1000)::float8 ORDER BY m.from_at) AS from_ms,
            array_agg(m.per_mille ORDER BY m.from_at) AS per_mille
     FROM node_multiplier m WHERE m.node_id = n.node_id AND m.from_at >= coalesce(
       (SELECT max(o.from_at) FROM node_multiplier o
        WHERE o.node_id = n.node_id AND o.from_at <= statement_timestamp() - interval '40 days'), '-infinity')) h
   WHERE n.node_id = $1`,
);

/** The history reaches back as far as a frame's usage may. */
export function termsOf(node: NodeRow): NodeTerms {
  const multipliers = node.multiplierFromMs.map((fromMs, i) => ({
    fromMs,
    perMille: node.multiplierPerMille[i] as number,
  }));
  return { multipliers, linkMbps: node.linkMbps };
}

/** All tenants that a node serves or served. */
export const listTenants = statement<{ tenantId: string }>(
  'assignment.tenants',
  'SELECT DISTINCT tenant_id AS "tenantId" FROM assignment WHERE node_id = $1',
);

export interface SliceHeadRow {
  tenantId: string;
  digest: Buffer;
}

export const listSliceHeads = statement<SliceHeadRow>(
  'slice_head.list',
  'SELECT tenant_id AS "tenantId", digest FROM slice_head WHERE node_id = $1 ORDER BY tenant_id',
);

export const freezeStream = statement<{ nodeId: string }>(
  'stream_head.freeze',
  `UPDATE stream_head SET frozen_at = $3, frozen_reason = $4
   WHERE node_id = $1 AND frozen_at IS NULL AND ($2::bigint IS NULL OR fence = $2)
   RETURNING node_id AS "nodeId"`,
);

/** Takes the wish that a frozen stream goes on; it counts for the freeze that it names. */
export const takeRelease = statement<{ frozenAt: Date }>(
  'stream_release.take',
  'DELETE FROM stream_release WHERE node_id = $1 RETURNING frozen_at AS "frozenAt"',
);

export interface BehindRow {
  nodeId: string;
}

/**
 * Streams whose derived state is behind and that nobody has touched since $1 (counters) or $2 (series, which a living
 * collector flushes less often): their collector is gone.
 */
export const listBehind = statement<BehindRow>(
  'stream_head.behind',
  `SELECT DISTINCT h.node_id AS "nodeId" FROM stream_head h JOIN stream_watermark w ON w.node_id = h.node_id
   WHERE (w.epoch, w.seq) < (h.epoch, h.seq) AND h.seq > 0
     AND h.accepted_at < CASE w.kind WHEN 'counter' THEN $1::timestamptz WHEN 'series' THEN $2::timestamptz END
   ORDER BY 1 LIMIT $3`,
);

export interface CertificateStanding {
  serial: Buffer;
  nodeId: string;
  publicKeyHash: Buffer;
  revokedAt: Date | null;
}

export const findStanding = statement<CertificateStanding>(
  'certificate.standing',
  `SELECT serial, node_id AS "nodeId", public_key_hash AS "publicKeyHash", revoked_at AS "revokedAt"
   FROM certificate WHERE serial = $1`,
);

export const listRevoked = statement<{ serial: Buffer }>(
  'certificate.revoked',
  'SELECT serial FROM certificate WHERE serial = ANY ($1::bytea[]) AND revoked_at IS NOT NULL',
);
