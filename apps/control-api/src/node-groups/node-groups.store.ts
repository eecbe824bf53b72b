// Named sets of nodes that plans refer to. A tenant sees its own and the shared ones (row security); it changes its
// own only. What the platform tenant makes is shared.
import type { NodeGroupId, NodeId } from '@penstock/domain/ids';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';
import type { PageQuery } from '../http/fields.js';

export interface NodeGroup {
  nodeGroupId: NodeGroupId;
  name: string;
  shared: boolean;
  nodeIds: NodeId[];
  createdAt: Date;
}

const insertRow = statement(
  'node_group.insert',
  `INSERT INTO node_group (node_group_id, owner_tenant_id, name, created_at) VALUES ($1, $2, $3, $4)`,
);

export async function insertNodeGroup(
  { actor, client, at }: Acting,
  id: NodeGroupId,
  name: string,
): Promise<void> {
  await run(client, insertRow, [id, actor.platform ? null : actor.tenantId, name, at]);
}

const selectPage = statement<NodeGroup>(
  'node_group.page',
  `SELECT g.node_group_id AS "nodeGroupId", g.name, g.owner_tenant_id IS NULL AS shared, g.created_at AS "createdAt",
          ARRAY(SELECT m.node_id FROM node_group_node m JOIN node n ON n.node_id = m.node_id
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
  `SELECT g.node_group_id AS "nodeGroupId", g.name, g.owner_tenant_id IS NULL AS shared, g.created_at AS "createdAt",
          ARRAY(SELECT m.node_id FROM node_group_node m JOIN node n ON n.node_id = m.node_id
                 WHERE m.node_group_id = g.node_group_id ORDER BY 1) AS "nodeIds"
     FROM node_group g
    WHERE g.node_group_id = $3 AND (g.owner_tenant_id IS NULL OR g.owner_tenant_id = $1 OR $2)`,
);

export async function findNodeGroup({ actor, client }: Acting, id: NodeGroupId): Promise<NodeGroup | null> {
  return (await run(client, selectOne, [actor.tenantId, actor.platform, id]))[0] ?? null;
}

// The lock brings the policy for changes to bear: a shared group is visible to a tenant, but not lockable.
const lockRow = statement<{ nodeGroupId: NodeGroupId }>(
  'node_group.lock',
  `SELECT node_group_id AS "nodeGroupId" FROM node_group
    WHERE node_group_id = $3 AND (owner_tenant_id = $1 OR $2) FOR NO KEY UPDATE`,
);

/** True when the group is the actor's to change. */
export async function lockNodeGroup({ actor, client }: Acting, id: NodeGroupId): Promise<boolean> {
  return (await run(client, lockRow, [actor.tenantId, actor.platform, id])).length === 1;
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
