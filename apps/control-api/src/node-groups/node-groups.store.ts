// Named sets of nodes that plans refer to. A tenant sees its own and the shared ones (row security); it changes its
// own only. What the platform tenant makes is shared.
import { AppError } from '@penstock/domain/errors';
import type { NodeGroupId, NodeId, TenantId } from '@penstock/domain/ids';
import { nameKey } from '@penstock/domain/name-key';
import { sqlState } from '@penstock/db/errors';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';
import type { PageQuery } from '../http/fields.js';

export interface NodeGroup {
  nodeGroupId: NodeGroupId;
  name: string;
  shared: boolean;
  nodeIds: NodeId[];
  version: number;
  createdAt: Date;
}

const insertRow = statement(
  'node_group.insert',
  `INSERT INTO node_group (node_group_id, owner_tenant_id, name, created_at, name_key) VALUES ($1, $2, $3, $4, $5)`,
);

/** Throws conflict naming the name. */
export async function insertNodeGroup(acting: Acting, id: NodeGroupId, name: string): Promise<void> {
  const owner = acting.actor.platform ? null : acting.actor.tenantId;
  const key = await freeNameKey(acting, owner, id, name);
  await run(acting.client, insertRow, [id, owner, name, acting.at, key]);
}

const selectNamesake = statement<{ nodeGroupId: NodeGroupId }>(
  'node_group.namesake',
  `SELECT node_group_id AS "nodeGroupId" FROM node_group
    WHERE owner_tenant_id IS NOT DISTINCT FROM $1 AND name_key = $2 AND node_group_id <> $3 LIMIT 1`,
);

// The unique index decides between two who come at once.
async function freeNameKey(
  { client }: Acting,
  owner: TenantId | null,
  id: NodeGroupId,
  name: string,
): Promise<string> {
  const key = nameKey(name);
  if (key === '') throw new AppError('invalid_input', 'name: must be readable', { field: 'name' });
  if ((await run(client, selectNamesake, [owner, key, id])).length === 0) return key;
  throw new AppError('conflict', 'name: another node group is called so', { field: 'name' });
}

const updateRow = statement(
  'node_group.update',
  `UPDATE node_group SET name = coalesce($2, name), name_key = coalesce($3, name_key), version = version + 1
    WHERE node_group_id = $1`,
);

/** Throws conflict naming the name. The caller holds the group's lock. */
export async function renameNodeGroup(acting: Acting, group: LockedNodeGroup, name: string): Promise<void> {
  const key = await freeNameKey(acting, group.ownerTenantId, group.nodeGroupId, name);
  await run(acting.client, updateRow, [group.nodeGroupId, name, key]);
}

/** Its nodes changed. */
export async function raiseVersion({ client }: Acting, id: NodeGroupId): Promise<void> {
  await run(client, updateRow, [id, null, null]);
}

const deleteMembers = statement(
  'node_group.delete_nodes',
  'DELETE FROM node_group_node WHERE node_group_id = $1',
);
const deleteRow = statement('node_group.delete', 'DELETE FROM node_group WHERE node_group_id = $1');

/** Throws conflict while a plan, of whatever tenant and also an archived one, refers to it. */
export async function deleteNodeGroup({ client }: Acting, id: NodeGroupId): Promise<void> {
  await run(client, deleteMembers, [id]);
  try {
    await run(client, deleteRow, [id]);
  } catch (error) {
    if (!(error instanceof AppError) || sqlState(error.cause) !== '23503') throw error;
    throw new AppError('conflict', 'a plan uses this node group', { cause: error });
  }
}

const deleteMember = statement<{ nodeId: NodeId }>(
  'node_group.remove_node',
  'DELETE FROM node_group_node WHERE node_group_id = $1 AND node_id = $2 RETURNING node_id AS "nodeId"',
);

/** False when the node is not in the group. */
export async function removeNode({ client }: Acting, groupId: NodeGroupId, nodeId: NodeId): Promise<boolean> {
  return (await run(client, deleteMember, [groupId, nodeId])).length === 1;
}

const selectPage = statement<NodeGroup>(
  'node_group.page',
  `SELECT g.node_group_id AS "nodeGroupId", g.name, g.owner_tenant_id IS NULL AS shared, g.version,
          g.created_at AS "createdAt",
          ARRAY(SELECT m.node_id FROM node_group_node m JOIN node n ON n.node_id = m.node_id AND n.deleted_at IS NULL
                 WHERE m.node_group_id = g.node_group_id ORDER BY 1) AS "nodeIds"
     FROM node_group g
    WHERE (g.owner_tenant_id IS NULL OR g.owner_tenant_id = $1 OR $2) AND ($3::uuid IS NULL OR g.node_group_id > $3)
    ORDER BY g.node_group_id LIMIT $4`,
);

/** One row more than a page holds. */
export function listNodeGroups({ actor, client }: Acting, query: PageQuery): Promise<NodeGroup[]> {
  return run(client, selectPage, [actor.tenantId, actor.platform, query.cursor ?? null, query.limit + 1]);
}

const selectOne = statement<NodeGroup>(
  'node_group.get',
  `SELECT g.node_group_id AS "nodeGroupId", g.name, g.owner_tenant_id IS NULL AS shared, g.version,
          g.created_at AS "createdAt",
          ARRAY(SELECT m.node_id FROM node_group_node m JOIN node n ON n.node_id = m.node_id AND n.deleted_at IS NULL
                 WHERE m.node_group_id = g.node_group_id ORDER BY 1) AS "nodeIds"
     FROM node_group g
    WHERE g.node_group_id = $3 AND (g.owner_tenant_id IS NULL OR g.owner_tenant_id = $1 OR $2)`,
);

export async function findNodeGroup({ actor, client }: Acting, id: NodeGroupId): Promise<NodeGroup | null> {
  return (await run(client, selectOne, [actor.tenantId, actor.platform, id]))[0] ?? null;
}

// The lock brings the policy for changes to bear: a shared group is visible to a tenant, but not lockable.
const lockRow = statement<LockedNodeGroup>(
  'node_group.lock',
  `SELECT node_group_id AS "nodeGroupId", owner_tenant_id AS "ownerTenantId", version FROM node_group
    WHERE node_group_id = $3 AND (owner_tenant_id = $1 OR $2) FOR NO KEY UPDATE`,
);

export interface LockedNodeGroup {
  nodeGroupId: NodeGroupId;
  ownerTenantId: TenantId | null;
  version: number;
}

/** null when the group is not the actor's to change. */
export async function lockNodeGroup(
  { actor, client }: Acting,
  id: NodeGroupId,
): Promise<LockedNodeGroup | null> {
  return (await run(client, lockRow, [actor.tenantId, actor.platform, id]))[0] ?? null;
}

const insertMember = statement<{ nodeId: NodeId }>(
  'node_group.add_node',
  `INSERT INTO node_group_node (node_group_id, node_id) VALUES ($1, $2)
   ON CONFLICT DO NOTHING RETURNING node_id AS "nodeId"`,
);

/** False when the node was in the group before. */
export async function addNode({ client }: Acting, groupId: NodeGroupId, nodeId: NodeId): Promise<boolean> {
  return (await run(client, insertMember, [groupId, nodeId])).length === 1;
}
