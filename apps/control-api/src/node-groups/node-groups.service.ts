// Making groups and putting nodes into them. A node that joins a group changes who is served where.
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { newId, type NodeGroupId, type NodeId } from '@penstock/domain/ids';
import { nodeChanged } from '../access-change.store.js';
import { appendAudit } from '../audit/audit.store.js';
import { Database, type Acting } from '../database.js';
import type { Actor } from '../http/actor.js';
import { lockNode } from '../nodes/nodes.store.js';
import * as store from './node-groups.store.js';

@Injectable()
export class NodeGroupsService {
  constructor(private readonly database: Database) {}

  create(actor: Actor, name: string): Promise<store.NodeGroup> {
    return this.database.transaction(actor, (acting) => createNodeGroup(acting, name));
  }

  /** Throws not_found for what the actor cannot see and forbidden for what is shared and not his. */
  addNode(actor: Actor, groupId: NodeGroupId, nodeId: NodeId): Promise<store.NodeGroup> {
    return this.database.transaction(actor, async (acting) => {
      const before = await getNodeGroup(acting, groupId);
      if (!(await store.lockNodeGroup(acting, groupId))) {
        throw new AppError('forbidden', 'this node group is shared: only the operator changes it');
      }
      await lockNode(acting, nodeId, 'nodeId');
      await addNodeToGroup(acting, before, nodeId);
      return getNodeGroup(acting, groupId);
    });
  }
}

export async function createNodeGroup(acting: Acting, name: string): Promise<store.NodeGroup> {
  const groupId = newId<NodeGroupId>();
  await store.insertNodeGroup(acting, groupId, name);
  const group = await getNodeGroup(acting, groupId);
  await appendAudit(acting, {
    action: 'node_group.create',
    entity: 'node_group',
    entityId: groupId,
    after: group,
  });
  return group;
}

/** The caller holds the lock of both. Nothing happens when the node is in the group already. */
export async function addNodeToGroup(acting: Acting, group: store.NodeGroup, nodeId: NodeId): Promise<void> {
  if (!(await store.addNode(acting, group.nodeGroupId, nodeId))) return;
  await nodeChanged(acting, nodeId);
  const entry = { action: 'node_group.add_node', entity: 'node_group', entityId: group.nodeGroupId };
  await appendAudit(acting, { ...entry, after: { nodeId } });
}

export async function getNodeGroup(acting: Acting, groupId: NodeGroupId): Promise<store.NodeGroup> {
  const group = await store.findNodeGroup(acting, groupId);
  if (group === null) throw new AppError('not_found', 'there is no such node group');
  return group;
}
