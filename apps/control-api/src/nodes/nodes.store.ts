// Nodes as they are registered, and what they last said of themselves. A tenant sees its own and the shared ones; a
// deleted node is a tombstone that nobody sees.
import { AppError } from '@penstock/domain/errors';
import { nameKey } from '@penstock/domain/name-key';
import type { NodeId, TenantId } from '@penstock/domain/ids';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';
import type { ChangedNode, NodeQuery } from './nodes.schema.js';

export interface NodeRow {
  nodeId: NodeId;
  name: string;
  address: string;
  state: 'active' | 'drain' | 'maintenance' | 'revoked';
  shared: boolean;
  /** The actor may change it and sees all of its status. */
  owned: boolean;
  multiplierPerMille: number;
  /** null: it was never changed. */
  multiplierFrom: Date | null;
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

const insertNodeRow = statement(
  'node.insert',
  `INSERT INTO node (node_id, owner_tenant_id, name, address, multiplier_per_mille, link_mbps, created_at, name_key)
   VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
);

export interface NewNodeRow {
  nodeId: NodeId;
  name: string;
  address: string;
  multiplierPerMille: number;
  linkMbps: number;
}

/** What the platform tenant registers is shared by all. Throws conflict naming the name. */
export async function insertNode(acting: Acting, node: NewNodeRow): Promise<void> {
  const { actor, client, at } = acting;
  const owner = actor.platform ? null : actor.tenantId;
  const { nodeId, name, address, multiplierPerMille, linkMbps } = node;
  const key = await freeNameKey(acting, owner, nodeId, name);
  await run(client, insertNodeRow, [nodeId, owner, name, address, multiplierPerMille, linkMbps, at, key]);
}

const selectNamesake = statement<{ nodeId: NodeId }>(
  'node.namesake',
  `SELECT node_id AS "nodeId" FROM node
    WHERE owner_tenant_id IS NOT DISTINCT FROM $1 AND name_key = $2 AND node_id <> $3 AND state <> 'revoked' LIMIT 1`,
);

// The unique index decides between two who come at once.
async function freeNameKey(
  { client }: Acting,
  owner: TenantId | null,
  nodeId: NodeId,
  name: string,
): Promise<string> {
  const key = nameKey(name);
  if (key === '') throw new AppError('invalid_input', 'name: must be readable', { field: 'name' });
  if ((await run(client, selectNamesake, [owner, key, nodeId])).length === 0) return key;
  throw new AppError('conflict', 'name: another node is called so', { field: 'name' });
}

const updateNodeRow = statement(
  'node.update',
  `UPDATE node SET name = coalesce($2, name), name_key = coalesce($3, name_key), address = coalesce($4, address),
          multiplier_per_mille = coalesce($5, multiplier_per_mille), link_mbps = coalesce($6, link_mbps),
          version = version + 1
    WHERE node_id = $1`,
);

/** The caller holds the node's lock. Throws conflict naming the name. */
export async function updateNode(
  acting: Acting,
  { nodeId, ownerTenantId }: LockedNode,
  change: Omit<ChangedNode, 'inbounds'>,
): Promise<void> {
  const { name, address, multiplierPerMille, linkMbps } = change;
  const key = name === undefined ? null : await freeNameKey(acting, ownerTenantId, nodeId, name);
  const values = [nodeId, name ?? null, key, address ?? null, multiplierPerMille ?? null, linkMbps ?? null];
  await run(acting.client, updateNodeRow, values);
}

const updateState = statement(
  'node.set_state',
  'UPDATE node SET state = $2, version = version + 1 WHERE node_id = $1',
);

export async function setNodeState(
  { client }: Acting,
  nodeId: NodeId,
  state: 'active' | 'drain' | 'maintenance',
): Promise<void> {
  await run(client, updateState, [nodeId, state]);
}

// Customers' usage still names the node, so its row stays; what could serve somebody goes.
const buryRow = statement(
  'node.bury',
  `WITH inbounds AS (DELETE FROM inbound WHERE node_id = $1),
        groups AS (DELETE FROM node_group_node WHERE node_id = $1),
        keys AS (DELETE FROM device_key WHERE device_id = $1)
   UPDATE node SET deleted_at = $2, version = version + 1 WHERE node_id = $1`,
);

/** Makes a tombstone of a revoked node. */
export async function buryNode({ client, at }: Acting, nodeId: NodeId): Promise<void> {
  await run(client, buryRow, [nodeId, at]);
}

const COLUMNS = `n.node_id AS "nodeId", n.name, n.address, n.state, n.owner_tenant_id IS NULL AS shared,
  (n.owner_tenant_id IS NOT DISTINCT FROM $1 OR $2) AS owned, n.multiplier_per_mille AS "multiplierPerMille",
  (SELECT nullif(max(m.from_at), '-infinity') FROM node_multiplier m WHERE m.node_id = n.node_id) AS "multiplierFrom",
  n.link_mbps AS "linkMbps", n.version, n.created_at AS "createdAt", s.heartbeat_at AS "heartbeatAt",
  s.agent_version AS "agentVersion", s.applied_revision AS "appliedRevision", s.subscriptions, s.engines,
  s.wal_bytes AS "walBytes", s.wal_frames AS "walFrames", s.acknowledged_seq AS "acknowledgedSeq",
  s.clock_skew_ms AS "clockSkewMs"`;

const selectPage = statement<NodeRow>(
  'node.page',
  `SELECT ${COLUMNS} FROM node n LEFT JOIN node_status s ON s.node_id = n.node_id
    WHERE (n.owner_tenant_id IS NULL OR n.owner_tenant_id = $1 OR $2) AND ($3::uuid IS NULL OR n.node_id > $3)
      AND n.deleted_at IS NULL AND ($5::text IS NULL OR n.state = $5)
      AND ($6::text IS NULL OR EXISTS (SELECT FROM inbound i WHERE i.node_id = n.node_id AND i.engine = $6))
      AND ($7::uuid IS NULL OR EXISTS (SELECT FROM node_group_node m WHERE m.node_id = n.node_id AND m.node_group_id = $7))
      AND ($8::text IS NULL OR starts_with(n.name_key, $8))
    ORDER BY n.node_id LIMIT $4`,
);

/** One row more than a page holds. */
export function listNodes({ actor, client }: Acting, query: NodeQuery): Promise<NodeRow[]> {
  const { cursor, limit, state, engine, nodeGroupId, q } = query;
  return run(client, selectPage, [
    ...[actor.tenantId, actor.platform, cursor ?? null, limit + 1],
    ...[state ?? null, engine ?? null, nodeGroupId ?? null, q === undefined ? null : nameKey(q)],
  ]);
}

const selectOne = statement<NodeRow>(
  'node.get',
  `SELECT ${COLUMNS} FROM node n LEFT JOIN node_status s ON s.node_id = n.node_id
    WHERE n.node_id = $3 AND n.deleted_at IS NULL AND (n.owner_tenant_id IS NULL OR n.owner_tenant_id = $1 OR $2)`,
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
const lockRow = statement<LockedNode>(
  'node.lock',
  `SELECT node_id AS "nodeId", state, version, owner_tenant_id AS "ownerTenantId" FROM node
    WHERE node_id = $3 AND deleted_at IS NULL AND (owner_tenant_id = $1 OR $2) FOR NO KEY UPDATE`,
);

export interface LockedNode {
  nodeId: NodeId;
  state: NodeRow['state'];
  version: number;
  ownerTenantId: TenantId | null;
}

/** Locks a node that the actor may change. Throws not_found for one that he cannot see, forbidden for a shared one. */
export async function lockNode(acting: Acting, nodeId: NodeId, field?: string): Promise<LockedNode> {
  const { actor, client } = acting;
  const [row] = await run(client, lockRow, [actor.tenantId, actor.platform, nodeId]);
  if (row !== undefined) return row;
  const detail = field === undefined ? {} : { field };
  if ((await findNode(acting, nodeId)) === null)
    throw new AppError('not_found', 'there is no such node', detail);
  throw new AppError('forbidden', 'this node is shared: only the operator changes it', detail);
}
