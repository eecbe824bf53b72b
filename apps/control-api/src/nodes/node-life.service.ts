// What becomes of a node after its registration: who it serves (drain, maintenance), whether it is trusted (revoked,
// attested again), whether its usage goes on (frozen streams). Every act is audited and holds the node's lock, but for
// revocation, which the scheduler does.
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import type { NodeId } from '@penstock/domain/ids';
import { nodeChanged } from '../access-change.store.js';
import { appendAudit } from '../audit/audit.store.js';
import { Context } from '../context.js';
import { Database, type Acting } from '../database.js';
import type { Actor } from '../http/actor.js';
import { requireVersion } from '../http/entity-tag.js';
import { apart } from '../idempotency/keyed-transaction.js';
import { isOnline, reportedBy, type NodeReport } from './node-report.js';
import {
  approveReattest,
  askStreamRelease,
  findConnections,
  type NodeConnections,
} from './node-status.store.js';
import { NodesService, type Node } from './nodes.service.js';
import { buryNode, getNode, lockNode, setNodeState, type LockedNode, type NodeRow } from './nodes.store.js';
import { SchedulerClient } from './scheduler.client.js';

export interface NodeStatus extends NodeConnections {
  nodeId: NodeId;
  state: NodeRow['state'];
  online: boolean;
  reported: NodeReport | null;
}

@Injectable()
export class NodeLifeService {
  /** Nodes that the scheduler is asked to revoke now: one call each, whose outcome is that of all who ask meanwhile. */
  readonly #revoking = new Map<NodeId, Promise<number>>();

  constructor(
    private readonly context: Context,
    private readonly database: Database,
    private readonly nodes: NodesService,
    private readonly scheduler: SchedulerClient,
  ) {}

  /** Throws not_found, forbidden (a shared node) or failed_precondition (a revoked one, another version). */
  setState(
    actor: Actor,
    nodeId: NodeId,
    state: 'active' | 'drain' | 'maintenance',
    ifMatch: string | undefined,
  ): Promise<Node> {
    return this.database.transaction(actor, async (acting) => {
      const before = await lockNode(acting, nodeId);
      requireVersion(ifMatch, before.version);
      requireTrusted(before);
      if (before.state === state) return this.nodes.getIn(acting, nodeId);
      await setNodeState(acting, nodeId, state);
      await nodeChanged(acting, nodeId);
      const node = await this.nodes.getIn(acting, nodeId);
      const action = `node.${state === 'active' ? 'activate' : state}`;
      const entry = { action, entity: 'node', entityId: nodeId };
      await appendAudit(acting, { ...entry, before: { state: before.state }, after: { state } });
      return node;
    });
  }

  /**
   * Has the scheduler revoke the node's certificates and close its streams; it marks the node too. The wish is audited
   * and committed before it is asked, so that a revocation is never done without a trace, and the revocation when it
   * has answered. Saying it again is safe. Throws unavailable when the scheduler does not answer.
   */
  revoke(
    actor: Actor,
    nodeId: NodeId,
    reason: string,
  ): Promise<{ nodeId: NodeId; certificatesRevoked: number }> {
    return apart(async () => {
      // Not locked: the scheduler may have the node, and whoever waits for it has a connection.
      const { state, owned } = await this.database.read(actor, (acting) => getNode(acting, nodeId));
      if (!owned) throw new AppError('forbidden', 'this node is shared: only the operator revokes it');
      const other = this.#revoking.get(nodeId);
      const certificatesRevoked = await (other ?? this.#askRevocation(actor, nodeId, state, reason));
      return async () => {
        const isChange = other === undefined && state !== 'revoked';
        if (isChange) await this.#auditRevocation(actor, nodeId, state, { state: 'revoked', reason });
        return { nodeId, certificatesRevoked };
      };
    });
  }

  #askRevocation(actor: Actor, nodeId: NodeId, state: NodeRow['state'], reason: string): Promise<number> {
    const ask = async (): Promise<number> => {
      if (state !== 'revoked') await this.#auditRevocation(actor, nodeId, state, { reason });
      return this.scheduler.revokeNode(nodeId, reason);
    };
    const asked = ask().finally(() => this.#revoking.delete(nodeId));
    this.#revoking.set(nodeId, asked);
    return asked;
  }

  /** The wish, or what came of it: only then the row says a new state. */
  #auditRevocation(
    actor: Actor,
    nodeId: NodeId,
    state: NodeRow['state'],
    after: { reason: string; state?: 'revoked' },
  ): Promise<void> {
    const action = after.state === undefined ? 'node.ask_revoke' : 'node.revoke';
    const entry = { action, entity: 'node', entityId: nodeId, before: { state }, after };
    return this.database.transaction(actor, (acting) => appendAudit(acting, entry));
  }

  /** Only a revoked node is deleted. Its usage stays; what it could serve with goes. */
  delete(actor: Actor, nodeId: NodeId, ifMatch: string | undefined): Promise<void> {
    return this.database.transaction(actor, async (acting) => {
      const locked = await lockNode(acting, nodeId);
      requireVersion(ifMatch, locked.version);
      if (locked.state !== 'revoked') {
        throw new AppError('failed_precondition', 'this node is still trusted: revoke it first');
      }
      const before = await this.nodes.getIn(acting, nodeId);
      await buryNode(acting, nodeId);
      await appendAudit(acting, { action: 'node.delete', entity: 'node', entityId: nodeId, before });
    });
  }

  status(actor: Actor, nodeId: NodeId): Promise<NodeStatus> {
    return this.database.transaction(actor, (acting) => this.#statusIn(acting, nodeId));
  }

  /** Approves the key that the node asks a certificate for. Throws failed_precondition when it asks for no such one. */
  approveReattest(actor: Actor, nodeId: NodeId, keyFingerprint: string): Promise<NodeStatus> {
    return this.database.transaction(actor, async (acting) => {
      requireTrusted(await lockNode(acting, nodeId));
      if (!(await approveReattest(acting, nodeId, keyFingerprint))) {
        throw new AppError('failed_precondition', 'the node does not ask for a certificate for this key', {
          field: 'keyFingerprint',
        });
      }
      const status = await this.#statusIn(acting, nodeId);
      const entry = { action: 'node.approve_reattest', entity: 'node', entityId: nodeId };
      await appendAudit(acting, { ...entry, after: { keyFingerprint } });
      return status;
    });
  }

  /** Lets a frozen stream go on, in a new epoch, when the node opens it again. */
  releaseStream(actor: Actor, nodeId: NodeId): Promise<NodeStatus> {
    return this.database.transaction(actor, async (acting) => {
      requireTrusted(await lockNode(acting, nodeId));
      const { stream } = await findConnections(acting, nodeId);
      if (stream === null || stream.frozenAt === null) {
        throw new AppError('failed_precondition', 'the stream of this node is not frozen');
      }
      if (stream.releaseAskedAt !== null) return this.#statusIn(acting, nodeId);
      await askStreamRelease(acting, nodeId);
      const status = await this.#statusIn(acting, nodeId);
      const { epoch, seq, frozenAt, frozenReason } = stream;
      const entry = { action: 'stream.release', entity: 'node', entityId: nodeId };
      await appendAudit(acting, { ...entry, before: { epoch, seq, frozenAt, frozenReason } });
      return status;
    });
  }

  async #statusIn(acting: Acting, nodeId: NodeId): Promise<NodeStatus> {
    const row = await getNode(acting, nodeId);
    if (!row.owned) throw new AppError('forbidden', 'this node is shared: only the operator sees its status');
    return {
      ...{ nodeId, state: row.state, online: isOnline(row, this.context.clock.now()) },
      reported: reportedBy(row),
      ...(await findConnections(acting, nodeId)),
    };
  }
}

function requireTrusted({ state }: LockedNode): void {
  if (state === 'revoked')
    throw new AppError('failed_precondition', 'this node was revoked; register a new one');
}
