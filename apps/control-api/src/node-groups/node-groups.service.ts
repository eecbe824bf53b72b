// Making and changing groups. A node that joins or leaves a group changes who is served where.
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { newId, type NodeGroupId, type NodeId } from '@penstock/domain/ids';
import { nodeChanged } from '../access-change.store.js';
import { appendAudit } from '../audit/audit.store.js';
import { Database, type Acting } from '../database.js';
import type { Actor } from '../http/actor.js';
import { requireVersion } from '../http/entity-tag.js';
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
      const { before } = await lockGroup(acting, groupId);
      const { state } = await lockNode(acting, nodeId, 'nodeId');
      if (state === 'revoked') {
        throw new AppError('failed_precondition', 'nodeId: this node was revoked', { field: 'nodeId' });
      }
      if (await addNodeToGroup(acting, before, nodeId)) {
        const entry = { action: 'node_group.add_node', entity: 'node_group', entityId: groupId };
        await appendAudit(acting, { ...entry, after: { nodeId } });
      }
      return getNodeGroup(acting, groupId);
    });
  }

  /** Throws not_found, forbidden (shared), conflict (name) or failed_precondition (another version). */
  rename(
    actor: Actor,
    groupId: NodeGroupId,
    name: string,
    ifMatch: string | undefined,
  ): Promise<store.NodeGroup> {
    return this.database.transaction(actor, async (acting) => {
      const { before, locked } = await lockGroup(acting, groupId);
      requireVersion(ifMatch, locked.version);
      await store.renameNodeGroup(acting, locked, name);
      const after = await getNodeGroup(acting, groupId);
      const entry = { action: 'node_group.update', entity: 'node_group', entityId: groupId };
      await appendAudit(acting, { ...entry, before, after });
      return after;
    });
  }

  /** Its nodes stay. Throws not_found, forbidden (shared), conflict (a plan uses it) or failed_precondition. */
  delete(actor: Actor, groupId: NodeGroupId, ifMatch: string | undefined): Promise<void> {
    return this.database.transaction(actor, async (acting) => {
      const { before, locked } = await lockGroup(acting, groupId);
      requireVersion(ifMatch, locked.version);
      await store.deleteNodeGroup(acting, groupId);
      const entry = { action: 'node_group.delete', entity: 'node_group', entityId: groupId };
      await appendAudit(acting, { ...entry, before });
    });
  }

  /** Who is served there by this group alone is served there no longer. Throws not_found or forbidden (shared). */
  removeNode(actor: Actor, groupId: NodeGroupId, nodeId: NodeId): Promise<void> {
    return this.database.transaction(actor, async (acting) => {
      await lockGroup(acting, groupId);
      if (!(await store.removeNode(acting, groupId, nodeId))) {
        throw new AppError('not_found', 'there is no such node in this group');
      }
      await store.raiseVersion(acting, groupId);
      await nodeChanged(acting, nodeId);
      const entry = { action: 'node_group.remove_node', entity: 'node_group', entityId: groupId };
      await appendAudit(acting, { ...entry, before: { nodeId } });
    });
  }
}

/** Throws not_found for a group that the actor cannot see and forbidden for a shared one. */
async function lockGroup(
  acting: Acting,
  groupId: NodeGroupId,
): Promise<{ before: store.NodeGroup; locked: store.LockedNodeGroup }> {
  const locked = await store.lockNodeGroup(acting, groupId);
  const before = await getNodeGroup(acting, groupId);
  if (locked !== null) return { before, locked };
  throw new AppError('forbidden', 'this node group is shared: only the operator changes it');
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

/** The caller holds the lock of both, and audits. False, and nothing happens, when the node is in the group already. */
export async function addNodeToGroup(
  acting: Acting,
  group: store.NodeGroup,
  nodeId: NodeId,
): Promise<boolean> {
  if (!(await store.addNode(acting, group.nodeGroupId, nodeId))) return false;
  await store.raiseVersion(acting, group.nodeGroupId);
  await nodeChanged(acting, nodeId);
  return true;
}

export async function getNodeGroup(acting: Acting, groupId: NodeGroupId): Promise<store.NodeGroup> {
  const group = await store.findNodeGroup(acting, groupId);
  if (group === null) throw new AppError('not_found', 'there is no such node group');
  return group;
}
