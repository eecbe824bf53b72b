// Registration of nodes. Keys of inbounds are made here and sealed before they are stored; the node gets them as a
// part of its desired state, nobody else ever does.
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
import { pageOf, type Page, type PageQuery } from '../http/fields.js';
import { addNodeToGroup, getNodeGroup } from '../node-groups/node-groups.service.js';
import { lockNodeGroup, type NodeGroup } from '../node-groups/node-groups.store.js';
import { inboundKeys } from './inbound-keys.js';
import type { NewNode } from './nodes.schema.js';
import { SchedulerClient } from './scheduler.client.js';
import * as store from './nodes.store.js';

/** Three heartbeats of five seconds: what the product calls online. */
const ONLINE_MS = 15_000;

export interface Node {
  nodeId: NodeId;
  name: string;
  address: string;
  state: store.NodeRow['state'];
  shared: boolean;
  multiplierPerMille: number;
  linkMbps: number;
  version: number;
  createdAt: Date;
  inbounds: Omit<store.InboundRow, 'nodeId'>[];
  online: boolean;
  status: NodeStatus | null;
}

type NodeStatus = Pick<
  store.NodeRow,
  | 'agentVersion'
  | 'appliedRevision'
  | 'subscriptions'
  | 'engines'
  | 'walBytes'
  | 'walFrames'
  | 'acknowledgedSeq'
> & { heartbeatAt: Date; clockSkewMs: number };

@Injectable()
export class NodesService {
  constructor(
    private readonly context: Context,
    private readonly database: Database,
    private readonly scheduler: SchedulerClient,
  ) {}

  register(actor: Actor, request: NewNode): Promise<Node> {
    return this.database.transaction(actor, (acting) => this.registerIn(acting, request));
  }

  /** Within the caller's transaction. Throws not_found or forbidden naming nodeGroupIds. */
  async registerIn(acting: Acting, request: NewNode): Promise<Node> {
    const groups = await this.#lockGroups(acting, request.nodeGroupIds);
    const nodeId = newId<NodeId>();
    await store.insertNode(acting, { nodeId, ...request });
    const rows = request.inbounds.map((inbound): store.NewInboundRow => {
      const { settings, secret } = inboundKeys(inbound);
      const place = { table: 'inbound', tenant: '', row: `${nodeId}/${inbound.tag}` };
      const sealed =
        secret === null ? null : sealSecret(this.context.config.DATA_KEY, Buffer.from(secret), place);
      return { tag: inbound.tag, engine: inbound.engine, port: inbound.port, settings, secret: sealed };
    });
    await store.insertInbounds(acting, nodeId, rows);
    await this.#claimKeys(acting, nodeId, rows);
    await nodeChanged(acting, nodeId);
    const node = await this.getIn(acting, nodeId);
    await appendAudit(acting, { action: 'node.create', entity: 'node', entityId: nodeId, after: node });
    for (const group of groups) await addNodeToGroup(acting, group, nodeId);
    return node;
  }

  async list(actor: Actor, query: PageQuery): Promise<Page<Node>> {
    return this.database.transaction(actor, async (acting) => {
      const page = pageOf(await store.listNodes(acting, query), query.limit, (row) => row.nodeId);
      const inbounds = await store.listInbounds(
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
    return this.#view(row, await store.listInbounds(acting, [nodeId]));
  }

  /**
   * Has the scheduler revoke the node's certificates and close its streams; it marks the node too. The wish is
   * audited first, so that a revocation is never done without a trace; saying it again is safe.
   */
  async revoke(
    actor: Actor,
    nodeId: NodeId,
    reason: string,
  ): Promise<{ nodeId: NodeId; certificatesRevoked: number }> {
    await this.database.transaction(actor, async (acting) => {
      const state = await store.lockNode(acting, nodeId);
      await nodeChanged(acting, nodeId);
      const entry = { action: 'node.revoke', entity: 'node', entityId: nodeId };
      await appendAudit(acting, { ...entry, before: { state }, after: { state: 'revoked', reason } });
    });
    return { nodeId, certificatesRevoked: await this.scheduler.revokeNode(nodeId, reason) };
  }

  /** In order of id, and before the audit chain: two registrations never wait for each other in a circle. */
  async #lockGroups(acting: Acting, groupIds: readonly NodeGroupId[]): Promise<NodeGroup[]> {
    const groups: NodeGroup[] = [];
    for (const groupId of groupIds.toSorted()) {
      groups.push(await getNodeGroup(acting, groupId));
      if (await lockNodeGroup(acting, groupId)) continue;
      throw new AppError('forbidden', 'nodeGroupIds: a shared node group is changed by the operator only', {
        field: 'nodeGroupIds',
      });
    }
    return groups;
  }

  /** A device with the node's own key could never be its peer, so the key is no device's from now on. */
  async #claimKeys(acting: Acting, nodeId: NodeId, rows: store.NewInboundRow[]): Promise<void> {
    for (const { engine, settings } of rows) {
      if (engine !== 'wireguard') continue;
      if (await claimKey(acting, wireguardKeyBytes(settings['publicKey'], 'publicKey'), nodeId)) continue;
      throw new AppError('conflict', 'publicKey: a device has this key', { field: 'publicKey' });
    }
  }

  #view(row: store.NodeRow, inbounds: store.InboundRow[]): Node {
    const { nodeId, name, address, state, shared, multiplierPerMille, linkMbps, version, createdAt } = row;
    const { heartbeatAt } = row;
    return {
      ...{ nodeId, name, address, state, shared, multiplierPerMille, linkMbps, version, createdAt },
      inbounds: inbounds
        .filter((inbound) => inbound.nodeId === nodeId)
        .map(({ tag, engine, port, settings }) => ({ tag, engine, port, settings })),
      online: heartbeatAt !== null && this.context.clock.now() - heartbeatAt.getTime() <= ONLINE_MS,
      status: heartbeatAt !== null && row.owned ? statusOf(row, heartbeatAt) : null,
    };
  }
}

function statusOf(row: store.NodeRow, heartbeatAt: Date): NodeStatus {
  const { agentVersion, appliedRevision, subscriptions, engines, walBytes, walFrames, acknowledgedSeq } = row;
  return {
    ...{
      heartbeatAt,
      agentVersion,
      appliedRevision,
      subscriptions,
      engines,
      walBytes,
      walFrames,
      acknowledgedSeq,
    },
    clockSkewMs: row.clockSkewMs,
  };
}
