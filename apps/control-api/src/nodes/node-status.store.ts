// What the owner of a node sees of its certificate, its stream and its wish to be attested again, and what he may say to
// them. Written by scheduler and collector, except for the approval and the release.
import type { NodeId } from '@penstock/domain/ids';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';

export interface CertificateStatus {
  issuedAt: Date;
  notBefore: Date;
  notAfter: Date;
  revokedAt: Date | null;
}

const selectCertificate = statement<CertificateStatus>(
  'node_status.certificate',
  `SELECT issued_at AS "issuedAt", not_before AS "notBefore", not_after AS "notAfter", revoked_at AS "revokedAt"
     FROM certificate WHERE node_id = $1 ORDER BY issued_at DESC, not_after DESC LIMIT 1`,
);

export interface StreamStatus {
  epoch: number;
  seq: bigint;
  acceptedAt: Date;
  frozenAt: Date | null;
  frozenReason: string | null;
  releaseAskedAt: Date | null;
}

const selectStream = statement<StreamStatus>(
  'node_status.stream',
  `SELECT h.epoch, h.seq, h.accepted_at AS "acceptedAt", h.frozen_at AS "frozenAt", h.frozen_reason AS "frozenReason",
          r.asked_at AS "releaseAskedAt"
     FROM stream_head h LEFT JOIN stream_release r ON r.node_id = h.node_id AND r.frozen_at = h.frozen_at
    WHERE h.node_id = $1`,
);

export interface ReattestStatus {
  keyFingerprint: string;
  expiredAt: Date;
  askedAt: Date;
  address: string;
  approvedAt: Date | null;
}

const selectReattest = statement<ReattestStatus>(
  'node_status.reattest',
  `SELECT encode(public_key_hash, 'hex') AS "keyFingerprint", expired_at AS "expiredAt", asked_at AS "askedAt", address,
          approved_at AS "approvedAt"
     FROM reattest_request WHERE node_id = $1`,
);

export interface NodeConnections {
  certificate: CertificateStatus | null;
  stream: StreamStatus | null;
  reattest: ReattestStatus | null;
}

export async function findConnections({ client }: Acting, nodeId: NodeId): Promise<NodeConnections> {
  const [certificate] = await run(client, selectCertificate, [nodeId]);
  const [stream] = await run(client, selectStream, [nodeId]);
  const [reattest] = await run(client, selectReattest, [nodeId]);
  return { certificate: certificate ?? null, stream: stream ?? null, reattest: reattest ?? null };
}

const approveRow = statement<{ nodeId: NodeId }>(
  'node_status.approve',
  `UPDATE reattest_request SET approved_at = $3, approved_by = $4
    WHERE node_id = $1 AND public_key_hash = decode($2, 'hex') RETURNING node_id AS "nodeId"`,
);

/** False when the node does not ask for a certificate for this key. */
export async function approveReattest(
  { actor, client, at }: Acting,
  nodeId: NodeId,
  keyFingerprint: string,
): Promise<boolean> {
  return (await run(client, approveRow, [nodeId, keyFingerprint, at, actor.accountId])).length === 1;
}

const insertRelease = statement(
  'node_status.release_stream',
  `INSERT INTO stream_release (node_id, frozen_at, asked_at, asked_by)
   SELECT node_id, frozen_at, $2, $3 FROM stream_head WHERE node_id = $1 AND frozen_at IS NOT NULL
   ON CONFLICT DO NOTHING`,
);

/** The collector takes the wish when the node opens its stream. */
export async function askStreamRelease({ actor, client, at }: Acting, nodeId: NodeId): Promise<void> {
  await run(client, insertRelease, [nodeId, at, actor.accountId]);
}
