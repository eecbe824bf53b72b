// Nodes as they are registered, their inbounds, and what they last said of themselves. A tenant sees its own and the
// shared ones; an inbound's secret is never selected here.
import { AppError } from '@penstock/domain/errors';
import type { NodeId } from '@penstock/domain/ids';
import type { Engine } from '@penstock/domain/terms';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';
import type { PageQuery } from '../http/fields.js';

export interface NodeRow {
  nodeId: NodeId;
  name: string;
  address: string;
  state: 'active' | 'drain' | 'maintenance' | 'revoked';
  shared: boolean;
  /** The actor may change it and sees all of its status. */
  owned: boolean;
  multiplierPerMille: number;
  linkMbps: number;
  version: number;
  createdAt: Date;
  heartbeatAt: Date | null;
  agentVersion: string;
  appliedRevision: bigint;
  subscriptions: number;
  engines: unknown;
  walBytes: bigint;
  walFrames: number;
  acknowledgedSeq: bigint;
  clockSkewMs: number;
}

export interface InboundRow {
  nodeId: NodeId;
  tag: string;
  engine: Engine;
  port: number;
  settings: Record<string, unknown>;
}

const insertNodeRow = statement(
  'node.insert',
  `INSERT INTO node (node_id, owner_tenant_id, name, address, multiplier_per_mille, link_mbps, created_at)
   VALUES ($1, $2, $3, $4, $5, $6, $7)`,
);

export interface NewNodeRow {
  nodeId: NodeId;
  name: string;
  address: string;
  multiplierPerMille: number;
  linkMbps: number;
}

/** What the platform tenant registers is shared by all. */
export async function insertNode({ actor, client, at }: Acting, node: NewNodeRow): Promise<void> {
  const owner = actor.platform ? null : actor.tenantId;
  const { nodeId, name, address, multiplierPerMille, linkMbps } = node;
  await run(client, insertNodeRow, [nodeId, owner, name, address, multiplierPerMille, linkMbps, at]);
}

const insertInboundRows = statement(
  'inbound.insert',
  `INSERT INTO inbound (node_id, tag, engine, port, settings, secret)
   SELECT $1, i.tag, i.engine, i.port, i.settings::jsonb, i.secret
     FROM unnest($2::text[], $3::text[], $4::integer[], $5::text[], $6::bytea[]) AS i (tag, engine, port, settings, secret)`,
);

export interface NewInboundRow extends Omit<InboundRow, 'nodeId'> {
  /** Sealed; null when the inbound has none. */
  secret: Buffer | null;
}

export async function insertInbounds(
  { client }: Acting,
  nodeId: NodeId,
  rows: NewInboundRow[],
): Promise<void> {
  await run(client, insertInboundRows, [
    nodeId,
    rows.map((row) => row.tag),
    rows.map((row) => row.engine),
    rows.map((row) => row.port),
    rows.map((row) => JSON.stringify(row.settings)),
    rows.map((row) => row.secret),
  ]);
}

const COLUMNS = `n.node_id AS "nodeId", n.name, n.address, n.state, n.owner_tenant_id IS NULL AS shared,
  (n.owner_tenant_id IS NOT DISTINCT FROM $1 OR $2) AS owned, n.multiplier_per_mille AS "multiplierPerMille",
  n.link_mbps AS "linkMbps", n.version, n.created_at AS "createdAt", s.heartbeat_at AS "heartbeatAt",
  s.agent_version AS "agentVersion", s.applied_revision AS "appliedRevision", s.subscriptions, s.engines,
  s.wal_bytes AS "walBytes", s.wal_frames AS "walFrames", s.acknowledged_seq AS "acknowledgedSeq",
  s.clock_skew_ms AS "clockSkewMs"`;

const selectPage = statement<NodeRow>(
  'node.page',
  `SELECT ${COLUMNS} FROM node n LEFT JOIN node_status s ON s.node_id = n.node_id
    WHERE (n.owner_tenant_id IS NULL OR n.owner_tenant_id = $1 OR $2) AND ($3::uuid IS NULL OR n.node_id > $3)
    ORDER BY n.node_id LIMIT $4`,
);

/** One row more than a page holds. */
export function listNodes({ actor, client }: Acting, query: PageQuery): Promise<NodeRow[]> {
  return run(client, selectPage, [actor.tenantId, actor.platform, query.cursor ?? null, query.limit + 1]);
}

const selectOne = statement<NodeRow>(
  'node.get',
  `SELECT ${COLUMNS} FROM node n LEFT JOIN node_status s ON s.node_id = n.node_id
    WHERE n.node_id = $3 AND (n.owner_tenant_id IS NULL OR n.owner_tenant_id = $1 OR $2)`,
);

export async function findNode({ actor, client }: Acting, nodeId: NodeId): Promise<NodeRow | null> {
  return (await run(client, selectOne, [actor.tenantId, actor.platform, nodeId]))[0] ?? null;
}

export async function getNode(acting: Acting, nodeId: NodeId): Promise<NodeRow> {
  const node = await findNode(acting, nodeId);
  if (node === null) throw new AppError('not_found', 'there is no such node');
  return node;
}

// The lock brings the policy for changes to bear: a shared node is visible to a tenant, but not lockable.
const lockRow = statement<{ nodeId: NodeId; state: NodeRow['state'] }>(
  'node.lock',
  `SELECT node_id AS "nodeId", state FROM node WHERE node_id = $3 AND (owner_tenant_id = $1 OR $2) FOR NO KEY UPDATE`,
);

/** Locks a node that the actor may change. Throws not_found for one that he cannot see, forbidden for a shared one. */
export async function lockNode(acting: Acting, nodeId: NodeId, field?: string): Promise<NodeRow['state']> {
  const { actor, client } = acting;
  const [row] = await run(client, lockRow, [actor.tenantId, actor.platform, nodeId]);
  if (row !== undefined) return row.state;
  const detail = field === undefined ? {} : { field };
  if ((await findNode(acting, nodeId)) === null)
    throw new AppError('not_found', 'there is no such node', detail);
  throw new AppError('forbidden', 'this node is shared: only the operator changes it', detail);
}

const selectInbounds = statement<InboundRow>(
  'inbound.of_nodes',
  `SELECT i.node_id AS "nodeId", i.tag, i.engine, i.port, i.settings
     FROM inbound i WHERE i.node_id = ANY ($1::uuid[]) ORDER BY i.node_id, i.tag`,
);

/** Inbounds of nodes that the actor has just read. */
export function listInbounds({ client }: Acting, nodeIds: NodeId[]): Promise<InboundRow[]> {
  return run(client, selectInbounds, [nodeIds]);
}
