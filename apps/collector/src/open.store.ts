// SQL of opening a stream: the head is locked, the fence raised, the watermarks take the new fence with it. Whoever
// held the stream before can then neither append nor flush.
import { statement } from '@penstock/db/statement';

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

/** Takes the stream over, in a new epoch when $2 is another one than the head's. */
export const raiseFence = statement<{ fence: bigint }>(
  'stream_head.raise_fence',
  `UPDATE stream_head SET fence = fence + 1, holder = $3, epoch = $2, seq = CASE WHEN epoch = $2 THEN seq ELSE 0 END
   WHERE node_id = $1 RETURNING fence`,
);

export interface MarkRow {
  kind: 'counter' | 'meter';
  epoch: number;
  seq: bigint;
}

export const raiseMarks = statement<MarkRow>(
  'stream_watermark.raise_fence',
  `INSERT INTO stream_watermark AS w (node_id, kind, epoch, seq, fence)
   SELECT $1, kind, 1, 0, $2 FROM unnest(ARRAY['counter', 'meter']) AS kind ORDER BY kind
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
  multiplierPerMille: number;
  linkMbps: number;
  /** The current epoch has a gap. */
  gap: boolean;
}

export const findNode = statement<NodeRow>(
  'node.find_for_stream',
  `SELECT n.state, n.multiplier_per_mille AS "multiplierPerMille", n.link_mbps AS "linkMbps",
          EXISTS (SELECT FROM loss_mark m WHERE m.node_id = n.node_id AND m.epoch = $2 AND m.kind = 'record_lost') AS gap
   FROM node n WHERE n.node_id = $1`,
);

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

export interface BehindRow {
  nodeId: string;
}

/** Streams whose derived state is behind and that nobody has touched since $1: their collector is gone. */
export const listBehind = statement<BehindRow>(
  'stream_head.behind',
  `SELECT h.node_id AS "nodeId" FROM stream_head h JOIN stream_watermark w ON w.node_id = h.node_id AND w.kind = 'counter'
   WHERE (w.epoch, w.seq) < (h.epoch, h.seq) AND h.seq > 0 AND h.accepted_at < $1
   ORDER BY h.node_id LIMIT $2`,
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
