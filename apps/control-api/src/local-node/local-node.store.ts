// Look-ups by name for the local node: both are the operator's own and shared.
import type { NodeGroupId, NodeId } from '@penstock/domain/ids';
import { nameKey } from '@penstock/domain/name-key';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';

const selectGroup = statement<{ nodeGroupId: NodeGroupId }>(
  'local_node.group',
  `SELECT node_group_id AS "nodeGroupId" FROM node_group
    WHERE name_key = $1 AND owner_tenant_id IS NULL ORDER BY node_group_id LIMIT 1`,
);

export async function findSharedGroup({ client }: Acting, name: string): Promise<NodeGroupId | null> {
  return (await run(client, selectGroup, [nameKey(name)]))[0]?.nodeGroupId ?? null;
}

export interface LocalNodeRow {
  nodeId: NodeId;
  address: string;
  /** It has been here: it holds a certificate. */
  heard: boolean;
}

const selectNode = statement<LocalNodeRow>(
  'local_node.node',
  `SELECT n.node_id AS "nodeId", n.address,
          EXISTS (SELECT FROM node_status s WHERE s.node_id = n.node_id) AS heard
     FROM node n WHERE (n.node_id = $1::uuid OR n.name_key = $2) AND n.owner_tenant_id IS NULL AND n.state <> 'revoked'
    ORDER BY n.node_id = $1::uuid DESC NULLS LAST LIMIT 1`,
);

/** By its id while there is such a node, else by its name: an operator may have given it another. */
export async function findSharedNode(
  { client }: Acting,
  nodeId: NodeId | null,
  name: string,
): Promise<LocalNodeRow | null> {
  return (await run(client, selectNode, [nodeId, nameKey(name)]))[0] ?? null;
}

const updateInbound = statement<{ tag: string }>(
  'local_node.move_inbound',
  `UPDATE inbound SET port = $3 WHERE node_id = $1 AND tag = $2 AND port <> $3 RETURNING tag`,
);

/** True when the inbound listened elsewhere before. */
export async function moveInbound(
  { client }: Acting,
  nodeId: NodeId,
  tag: string,
  port: number,
): Promise<boolean> {
  return (await run(client, updateInbound, [nodeId, tag, port])).length === 1;
}

const updateAddress = statement<{ nodeId: NodeId }>(
  'local_node.move',
  `UPDATE node SET address = $2, version = version + 1 WHERE node_id = $1 AND address <> $2
   RETURNING node_id AS "nodeId"`,
);

/** True when the node was reached elsewhere before. */
export async function moveNode({ client }: Acting, nodeId: NodeId, address: string): Promise<boolean> {
  return (await run(client, updateAddress, [nodeId, address])).length === 1;
}
