// Leases, revisions, orders and their proofs. Every write checks the fence of the node's lease in the same statement
// and locks the lease, so a process whose node has gone elsewhere writes nothing. One statement a step: one round
// trip, one commit. Lock order: node_lease, revision, enforcement, node_change.
import { run, statement, type Runner } from '@penstock/db/statement';
import type { NodeId } from '@penstock/domain/ids';
import type { CertificateRecord } from '@penstock/rpc/revocation';
import type { OpenOrder, OrderOutcome, RevisionPlan } from './plan.js';

export interface LeaseTaken {
  /** null: the node may not be served (it is gone, revoked, or its certificate is not good). */
  fence: bigint | null;
  certificate: CertificateRecord | undefined;
  nodeState: string | null;
  /** Who held the node before. */
  previousHolder: string | null;
  /** The database server's time. */
  at: Date;
}

const takeLeaseRow = statement<{
  fence: bigint | null;
  certificateNode: string | null;
  publicKeyHash: Buffer | null;
  revokedAt: Date | null;
  nodeState: string | null;
  previousHolder: string | null;
  at: Date;
}>(
  'enforcement.take_lease',
  `WITH fit AS (
     SELECT n.node_id, n.state, c.node_id AS certificate_node, c.public_key_hash, c.revoked_at, l.holder
     FROM (SELECT $1::uuid AS node_id) k
     LEFT JOIN node n ON n.node_id = k.node_id
     LEFT JOIN certificate c ON c.serial = $2
     LEFT JOIN node_lease l ON l.node_id = k.node_id
   ), lease AS (
     INSERT INTO node_lease AS o (node_id, fence, holder, renewed_at)
     SELECT f.node_id, $3::bigint + 1, $4, statement_timestamp() FROM fit f
     WHERE f.state <> 'revoked' AND f.certificate_node = f.node_id AND f.public_key_hash = $5 AND f.revoked_at IS NULL
     ON CONFLICT (node_id) DO UPDATE
       SET fence = greatest(o.fence + 1, excluded.fence), holder = excluded.holder, renewed_at = excluded.renewed_at
     RETURNING o.fence
   )
   SELECT (SELECT fence FROM lease) AS fence, f.certificate_node AS "certificateNode",
          f.public_key_hash AS "publicKeyHash", f.revoked_at AS "revokedAt", f.state AS "nodeState",
          f.holder AS "previousHolder", statement_timestamp() AS at
   FROM fit f`,
);

/** Raises the node's fence above all before and above `seenFence`, if its certificate is in good standing. */
export async function takeLease(
  db: Runner,
  node: { nodeId: NodeId; serial: Buffer; publicKeyHash: Buffer },
  seenFence: bigint,
  holder: string,
): Promise<LeaseTaken> {
  const values = [node.nodeId, node.serial, seenFence.toString(), holder, node.publicKeyHash];
  const [row] = await run(db, takeLeaseRow, values);
  if (row === undefined) throw new Error('the lease statement gave no row');
  const { fence, certificateNode, publicKeyHash, revokedAt, nodeState, previousHolder, at } = row;
  const certificate =
    certificateNode === null || publicKeyHash === null
      ? undefined
      : { nodeId: certificateNode, publicKeyHash, revokedAt };
  return { fence, certificate, nodeState, previousHolder, at };
}

const tellHolder = statement('enforcement.tell_holder', `SELECT pg_notify('node_change', $1)`);

/** Tells the process that held the node before: its next look finds the fence raised. */
export async function notifyNode(db: Runner, nodeId: NodeId): Promise<void> {
  await run(db, tellHolder, [nodeId]);
}

const findHeld = statement<{ nodeId: NodeId }>(
  'enforcement.held',
  `SELECT l.node_id AS "nodeId" FROM unnest($1::uuid[], $2::bigint[]) AS k (node_id, fence)
   JOIN node_lease l ON l.node_id = k.node_id AND l.fence = k.fence`,
);

/** Those of these nodes whose fence is still the given one. */
export async function listHeld(
  db: Runner,
  leases: readonly { nodeId: NodeId; fence: bigint }[],
): Promise<NodeId[]> {
  const rows = await run(db, findHeld, [leases.map((l) => l.nodeId), leases.map((l) => l.fence.toString())]);
  return rows.map((row) => row.nodeId);
}

const findOpen = statement<OpenOrder>(
  'enforcement.open',
  `SELECT tenant_id AS "tenantId", subscription_id AS "subscriptionId", revision, kind
   FROM enforcement WHERE node_id = $1 AND state IN ('ordered', 'unproven')`,
);

/** Orders of a node that are not confirmed. */
export async function listOpenOrders(db: Runner, nodeId: NodeId): Promise<OpenOrder[]> {
  return run(db, findOpen, [nodeId]);
}

const findDigests = statement<{ revision: bigint; digest: Buffer }>(
  'enforcement.digests',
  'SELECT revision, digest FROM revision WHERE node_id = $1 AND revision = ANY ($2::bigint[])',
);

/** Digests that were asked for with these revisions. */
export async function findRevisionDigests(
  db: Runner,
  nodeId: NodeId,
  revisions: readonly bigint[],
): Promise<Map<bigint, Buffer>> {
  const rows = await run(db, findDigests, [nodeId, revisions.map(String)]);
  return new Map(rows.map((row) => [row.revision, row.digest]));
}

// node_change rows are locked in the order in which the consumer writes them. A row whose generation moved on stays.
const writeRevisionRow = statement<{ revision: bigint }>(
  'enforcement.write_revision',
  `WITH held AS (
     SELECT node_id FROM node_lease WHERE node_id = $1 AND fence = $2 FOR UPDATE
   ), made AS (
     INSERT INTO revision (node_id, revision, fence, digest, upserts, removals, created_at)
     SELECT h.node_id,
            greatest((SELECT max(r.revision) FROM revision r WHERE r.node_id = $1), $3::bigint, 0) + 1,
            $2, $4, $5, $6, statement_timestamp()
     FROM held h RETURNING revision, created_at
   ), ordered AS (
     INSERT INTO enforcement (tenant_id, subscription_id, node_id, revision, kind, cause, caused_at, ordered_at)
     SELECT i.tenant_id, i.subscription_id, $1, m.revision, i.kind, i.cause, i.caused_at, m.created_at
     FROM made m, unnest($7::uuid[], $8::uuid[], $9::text[], $10::text[], $11::timestamptz[])
       AS i (tenant_id, subscription_id, kind, cause, caused_at)
   ), moved AS (
     UPDATE enforcement e SET revision = m.revision, state = 'ordered'
     FROM made m, unnest($12::uuid[], $13::uuid[], $14::bigint[]) AS i (tenant_id, subscription_id, revision)
     WHERE e.node_id = $1 AND e.tenant_id = i.tenant_id AND e.subscription_id = i.subscription_id
       AND e.revision = i.revision AND e.state IN ('ordered', 'unproven')
   ), superseded AS (
     UPDATE enforcement e SET state = 'failed', reason = 'superseded'
     FROM made m, unnest($15::uuid[], $16::uuid[], $17::bigint[]) AS i (tenant_id, subscription_id, revision)
     WHERE e.node_id = $1 AND e.tenant_id = i.tenant_id AND e.subscription_id = i.subscription_id
       AND e.revision = i.revision AND e.state IN ('ordered', 'unproven')
   ), settled AS (
     DELETE FROM node_change c USING made m, (
       SELECT n.tenant_id, n.subscription_id, n.generation
       FROM unnest($18::uuid[], $19::uuid[], $20::uuid[]) AS i (tenant_id, subscription_id, generation)
       JOIN node_change n ON n.node_id = $1 AND n.tenant_id = i.tenant_id AND n.subscription_id = i.subscription_id
         AND n.generation = i.generation
       ORDER BY n.tenant_id, n.subscription_id FOR UPDATE OF n) d
     WHERE c.node_id = $1 AND c.tenant_id = d.tenant_id AND c.subscription_id = d.subscription_id
       AND c.generation = d.generation
   )
   SELECT revision FROM made`,
);

export interface RevisionWrite {
  nodeId: NodeId;
  fence: bigint;
  /** The new number is above this and above all before. */
  above: bigint;
  digest: Buffer;
  plan: RevisionPlan;
  upserts: number;
  removals: number;
}

/** Writes the next revision with its orders and settles its changes. null: the lease is not ours any more. */
export async function writeRevision(db: Runner, write: RevisionWrite): Promise<bigint | null> {
  const { plan } = write;
  const [row] = await run(db, writeRevisionRow, [
    write.nodeId,
    write.fence.toString(),
    write.above.toString(),
    write.digest,
    write.upserts,
    write.removals,
    plan.orders.map((o) => o.tenantId),
    plan.orders.map((o) => o.subscriptionId),
    plan.orders.map((o) => o.kind),
    plan.orders.map((o) => o.cause),
    plan.orders.map((o) => o.causedAt),
    plan.moved.map((o) => o.tenantId),
    plan.moved.map((o) => o.subscriptionId),
    plan.moved.map((o) => o.revision.toString()),
    plan.superseded.map((o) => o.tenantId),
    plan.superseded.map((o) => o.subscriptionId),
    plan.superseded.map((o) => o.revision.toString()),
    plan.settled.map((c) => c.tenantId),
    plan.settled.map((c) => c.subscriptionId),
    plan.settled.map((c) => c.generation),
  ]);
  return row?.revision ?? null;
}

const settleRows = statement<{ held: bigint }>(
  'enforcement.settle',
  `WITH held AS (
     SELECT node_id FROM node_lease WHERE node_id = $1 AND fence = $2 FOR UPDATE
   ), settled AS (
     DELETE FROM node_change c USING held h, (
       SELECT n.tenant_id, n.subscription_id, n.generation
       FROM unnest($3::uuid[], $4::uuid[], $5::uuid[]) AS i (tenant_id, subscription_id, generation)
       JOIN node_change n ON n.node_id = $1 AND n.tenant_id = i.tenant_id AND n.subscription_id = i.subscription_id
         AND n.generation = i.generation
       ORDER BY n.tenant_id, n.subscription_id FOR UPDATE OF n) d
     WHERE c.node_id = $1 AND c.tenant_id = d.tenant_id AND c.subscription_id = d.subscription_id
       AND c.generation = d.generation
   )
   SELECT count(*) AS held FROM held`,
);

/** Settles changes that the node has already. False: the lease is not ours any more. */
export async function settleChanges(
  db: Runner,
  nodeId: NodeId,
  fence: bigint,
  settled: RevisionPlan['settled'],
): Promise<boolean> {
  const [row] = await run(db, settleRows, [
    nodeId,
    fence.toString(),
    settled.map((c) => c.tenantId),
    settled.map((c) => c.subscriptionId),
    settled.map((c) => c.generation),
  ]);
  return (row?.held ?? 0n) > 0n;
}

const acknowledgeRow = statement<{ held: bigint }>(
  'enforcement.acknowledge',
  `WITH held AS (
     SELECT node_id FROM node_lease WHERE node_id = $1 AND fence = $2 FOR UPDATE
   ), told AS (
     UPDATE revision r SET acknowledged_at = statement_timestamp(), sent_at = coalesce(r.sent_at, $4::timestamptz),
            applied_at = $5::timestamptz, error_code = nullif($6, ''), error_message = nullif($7, '')
     FROM held h WHERE r.node_id = $1 AND r.revision = $3
   ), judged AS (
     UPDATE enforcement e SET state = i.state, acknowledged_at = statement_timestamp(), reason = i.reason,
            sessions_ended = i.sessions_ended, cut_us = i.cut_us, proven_us = i.proven_us
     FROM held h, unnest($8::uuid[], $9::uuid[], $10::text[], $11::integer[], $12::integer[], $13::integer[], $14::text[])
       AS i (tenant_id, subscription_id, state, sessions_ended, cut_us, proven_us, reason)
     WHERE e.node_id = $1 AND e.revision = $3 AND e.tenant_id = i.tenant_id AND e.subscription_id = i.subscription_id
       AND e.state IN ('ordered', 'unproven')
   )
   SELECT count(*) AS held FROM held`,
);

export interface AcknowledgementWrite {
  nodeId: NodeId;
  fence: bigint;
  revision: bigint;
  sentAt: Date | null;
  appliedAt: Date;
  errorCode: string;
  errorMessage: string;
  outcomes: readonly OrderOutcome[];
}

/** Stores an acknowledgement and what it proves; safe to repeat. False: the lease is not ours any more. */
export async function writeAcknowledgement(db: Runner, write: AcknowledgementWrite): Promise<boolean> {
  const { outcomes } = write;
  const [row] = await run(db, acknowledgeRow, [
    write.nodeId,
    write.fence.toString(),
    write.revision.toString(),
    write.sentAt,
    write.appliedAt,
    write.errorCode,
    write.errorMessage,
    outcomes.map((o) => o.order.tenantId),
    outcomes.map((o) => o.order.subscriptionId),
    outcomes.map((o) => o.state),
    outcomes.map((o) => o.sessionsEnded),
    outcomes.map((o) => o.cutUs),
    outcomes.map((o) => o.provenUs),
    outcomes.map((o) => o.reason),
  ]);
  return (row?.held ?? 0n) > 0n;
}
