// Registration of nodes and changes of what was registered. Keys of inbounds are made here and sealed before they are
// stored; the node gets them as a part of its desired state, nobody else ever does.
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { newId, type NodeGroupId, type NodeId } from '@penstock/domain/ids';
import { wireguardKeyBytes } from '@penstock/domain/wireguard-keys';
import { sealSecret } from '@penstock/service/secret-box';
import { nodeChanged } from '../access-change.store.js';
import { appendAudit } from '../audit/audit.store.js';
import { Context } from '../context.js';
import { Database, type Acting } from '../database.js';
import { claimKey } from '../devices/devices.store.js';
import type { Actor } from '../http/actor.js';
import { requireVersion } from '../http/entity-tag.js';
import { pageOf, type Page } from '../http/fields.js';
import { addNodeToGroup, getNodeGroup } from '../node-groups/node-groups.service.js';
import { lockNodeGroup, type NodeGroup } from '../node-groups/node-groups.store.js';
import { requireRoom } from '../tenants/limits.store.js';
import { inboundKeys } from './inbound-keys.js';
import { planInbounds } from './inbound-plan.js';
import type { NewInbound } from './inbounds.schema.js';
import {
  deleteInbounds,
  insertInbounds,
  listInbounds,
  releaseNodeKey,
  updateInbounds,
  type InboundRow,
  type NewInboundRow,
} from './inbounds.store.js';
import { isOnline, reportedBy, type NodeReport } from './node-report.js';
import type { ChangedNode, NewNode, NodeQuery } from './nodes.schema.js';
import * as store from './nodes.store.js';

export interface Node {
  nodeId: NodeId;
  name: string;
  address: string;
  state: store.NodeRow['state'];
  shared: boolean;
  multiplierPerMille: number;
  multiplierFrom: Date | null;
  linkMbps: number;
  version: number;
  createdAt: Date;
  inbounds: Omit<InboundRow, 'nodeId'>[];
  online: boolean;
  status: NodeReport | null;
}

@Injectable()
export class NodesService {
  constructor(
    private readonly context: Context,
    private readonly database: Database,
  ) {}

  register(actor: Actor, request: NewNode): Promise<Node> {
    return this.database.transaction(actor, (acting) => this.registerIn(acting, request));
  }

  /** Within the caller's transaction. Throws limit_reached, conflict (name), not_found or forbidden (nodeGroupIds). */
  async registerIn(acting: Acting, request: NewNode): Promise<Node> {
    if (!acting.actor.platform) await requireRoom(acting, 'node', 1);
    const groups = await this.#lockGroups(acting, request.nodeGroupIds);
    const nodeId = newId<NodeId>();
    await store.insertNode(acting, { nodeId, ...request });
    await this.#addInbounds(acting, nodeId, request.inbounds);
    await nodeChanged(acting, nodeId);
    const node = await this.getIn(acting, nodeId);
    for (const group of groups) await addNodeToGroup(acting, group, nodeId);
    // One act, one row: it names the groups too.
    const after = { ...node, nodeGroupIds: groups.map((group) => group.nodeGroupId) };
    await appendAudit(acting, { action: 'node.create', entity: 'node', entityId: nodeId, after });
    return node;
  }

  /** Throws not_found, forbidden, conflict (name) or failed_precondition (revoked, another version). */
  change(actor: Actor, nodeId: NodeId, change: ChangedNode, ifMatch: string | undefined): Promise<Node> {
    return this.database.transaction(actor, async (acting) => {
      const locked = await store.lockNode(acting, nodeId);
      requireVersion(ifMatch, locked.version);
      if (locked.state === 'revoked') {
        throw new AppError('failed_precondition', 'this node was revoked; register a new one');
      }
      const before = await this.getIn(acting, nodeId);
      const { inbounds, ...terms } = change;
      await store.updateNode(acting, locked, terms);
      if (inbounds !== undefined) await this.#replaceInbounds(acting, before, inbounds);
      const after = await this.getIn(acting, nodeId);
      await appendAudit(acting, { action: 'node.update', entity: 'node', entityId: nodeId, before, after });
      return after;
    });
  }

  async list(actor: Actor, query: NodeQuery): Promise<Page<Node>> {
    return this.database.transaction(actor, async (acting) => {
      const page = pageOf(await store.listNodes(acting, query), query.limit, (row) => row.nodeId);
      const inbounds = await listInbounds(
        acting,
        page.items.map((row) => row.nodeId),
      );
      return { ...page, items: page.items.map((row) => this.#view(row, inbounds)) };
    });
  }

  get(actor: Actor, nodeId: NodeId): Promise<Node> {
    return this.database.transaction(actor, (acting) => this.getIn(acting, nodeId));
  }

  async getIn(acting: Acting, nodeId: NodeId): Promise<Node> {
    const row = await store.getNode(acting, nodeId);
    return this.#view(row, await listInbounds(acting, [nodeId]));
  }

  async #addInbounds(acting: Acting, nodeId: NodeId, inbounds: readonly NewInbound[]): Promise<void> {
    const rows = inbounds.map((inbound): NewInboundRow => {
      const { settings, secret } = inboundKeys(inbound);
      const place = { table: 'inbound', tenant: '', row: `${nodeId}/${inbound.tag}` };
      const sealed =
        secret === null ? null : sealSecret(this.context.config.DATA_KEY, Buffer.from(secret), place);
      return { tag: inbound.tag, engine: inbound.engine, port: inbound.port, settings, secret: sealed };
    });
    await insertInbounds(acting, nodeId, rows);
    await this.#claimKeys(acting, nodeId, rows);
  }

  async #replaceInbounds(acting: Acting, before: Node, wanted: readonly NewInbound[]): Promise<void> {
    const { nodeId, inbounds } = before;
    const plan = planInbounds(inbounds, wanted);
    if (plan.remove.length + plan.update.length + plan.insert.length === 0) return;
    await deleteInbounds(acting, nodeId, plan.remove);
    const gone = inbounds.filter((inbound) => plan.remove.includes(inbound.tag));
    if (gone.some((inbound) => inbound.engine === 'wireguard')) await releaseNodeKey(acting, nodeId);
    await updateInbounds(acting, nodeId, plan.update);
    await this.#addInbounds(acting, nodeId, plan.insert);
    await nodeChanged(acting, nodeId);
  }

  /** In order of id, and before the audit chain: two registrations never wait for each other in a circle. */
  async #lockGroups(acting: Acting, groupIds: readonly NodeGroupId[]): Promise<NodeGroup[]> {
    const groups: NodeGroup[] = [];
    for (const groupId of groupIds.toSorted()) {
      groups.push(await getNodeGroup(acting, groupId));
      if ((await lockNodeGroup(acting, groupId)) !== null) continue;
      throw new AppError('forbidden', 'nodeGroupIds: a shared node group is changed by the operator only', {
        field: 'nodeGroupIds',
      });
    }
    return groups;
  }

  /** A device with the node's own key could never be its peer, so the key is no device's from now on. */
  async #claimKeys(acting: Acting, nodeId: NodeId, rows: NewInboundRow[]): Promise<void> {
    for (const { engine, settings } of rows) {
      if (engine !== 'wireguard') continue;
      if (await claimKey(acting, wireguardKeyBytes(settings['publicKey'], 'publicKey'), nodeId)) continue;
      throw new AppError('conflict', 'publicKey: a device has this key', { field: 'publicKey' });
    }
  }

  #view(row: store.NodeRow, inbounds: InboundRow[]): Node {
    const { nodeId, name, address, state, shared, multiplierPerMille, multiplierFrom, linkMbps } = row;
    const { version, createdAt } = row;
    return {
      ...{ nodeId, name, address, state, shared, multiplierPerMille, multiplierFrom, linkMbps },
      ...{ version, createdAt },
      inbounds: inbounds
        .filter((inbound) => inbound.nodeId === nodeId)
        .map(({ tag, engine, port, settings }) => ({ tag, engine, port, settings })),
      online: isOnline(row, this.context.clock.now()),
      status: row.owned ? reportedBy(row) : null,
    };
  }
}
