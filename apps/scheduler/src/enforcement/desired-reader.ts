// Turns rows into what travels: opens secrets, derives the node's own credentials, encodes. A secret that does not
// open costs its subscription the access here (fail closed) and is counted; it never stops the node.
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Pool } from '@penstock/db/pool';
import { ZERO_ID, type NodeId } from '@penstock/domain/ids';
import { accessDigest } from '@penstock/ledger/state-digest';
import type { Logger } from '@penstock/service/logger';
import { openSecret } from '@penstock/service/secret-box';
import type { SchedulerMetrics } from '../metrics.js';
import {
  bytesOfId,
  encodeAccess,
  encodeConfig,
  keyOfId,
  profileOf,
  type InboundRow,
  type NodeProfile,
} from './access.js';
import {
  findDesired,
  findPendingChanges,
  listDesired,
  listInbounds,
  type DesiredRow,
  type PendingRow,
} from './desired.store.js';
import { HeldEntries } from './held-entries.js';
import type { OpenOrder, PendingChange } from './plan.js';

export interface ReaderDeps {
  pool: Pool;
  dataKey: Buffer;
  log: Logger;
  metrics: SchedulerMetrics;
  windowMs: number;
}

export interface NodeConfigState {
  profile: NodeProfile;
  /** Encoded NodeConfig. */
  config: Buffer;
}

/** Everything a node should have. */
export interface DesiredState {
  /** Subscription key → encoded access, in order of tenant and subscription. */
  access: Map<string, Buffer>;
  entries: HeldEntries;
}

/** The same with the changes that it settles. */
export interface WholeState {
  own: NodeConfigState;
  desired: Map<string, Buffer>;
  entries: HeldEntries;
  pending: PendingChange[];
  /** Changes of the node itself. */
  ownChanges: PendingChange[];
}

/** Changes that wait for a node that comes back, at most; more become deltas afterwards. */
const WHOLE_CHANGES_MAX = 200_000;
/** Rows encoded before other work gets a turn (about 20 µs each). */
const ROWS_A_TURN = 100;

export class DesiredReader {
  constructor(private readonly deps: ReaderDeps) {}

  /** The node's own part: inbounds with their secrets. */
  async readConfig(nodeId: NodeId): Promise<NodeConfigState> {
    const inbounds: InboundRow[] = [];
    for (const { secret, ...inbound } of await listInbounds(this.deps.pool, nodeId)) {
      const opened = secret === null ? {} : this.openInbound(nodeId, inbound.tag, secret);
      if (opened === null) continue;
      inbounds.push({ ...inbound, settings: { ...inbound.settings, ...opened } });
    }
    return { profile: profileOf(nodeId, inbounds), config: encodeConfig(inbounds, this.deps.windowMs) };
  }

  /** The whole desired state. Other work gets its turns meanwhile. */
  async readAll(profile: NodeProfile): Promise<DesiredState> {
    const access = new Map<string, Buffer>();
    const digests = new Map<string, Buffer>();
    for await (const page of listDesired(this.deps.pool, profile.nodeId)) {
      for (const [n, row] of page.entries()) {
        if (n % ROWS_A_TURN === ROWS_A_TURN - 1) await nextTurn();
        const bytes = this.encode(profile, row);
        if (bytes === null) continue;
        const key = keyOfId(row.subscriptionId);
        access.set(key, bytes);
        digests.set(key, accessDigest(bytesOfId(row.subscriptionId), bytes));
      }
    }
    return { access, entries: new HeldEntries(digests) };
  }

  /**
   * Everything the node should have, and the changes that this settles. The changes are read last and bring what holds
   * with them: one that came while the state was being read has its order too, and none is settled unseen. null: the
   * lease has another fence.
   */
  async readWhole(nodeId: NodeId, fence: bigint): Promise<WholeState | null> {
    for (;;) {
      const own = await this.readConfig(nodeId);
      const { access: desired, entries } = await this.readAll(own.profile);
      const rows = await findPendingChanges(this.deps.pool, nodeId, fence, WHOLE_CHANGES_MAX);
      if (rows === null) return null;
      const ownRows = rows.filter((row) => row.subscriptionId === ZERO_ID);
      // The node itself may have changed since its configuration was read.
      if (ownRows.length > 0 && !(await this.readConfig(nodeId)).config.equals(own.config)) continue;
      const pending = rows
        .filter((row) => row.subscriptionId !== ZERO_ID)
        .map((row) => this.pendingOf(own.profile, row));
      for (const { subscriptionId, access } of pending) {
        const key = keyOfId(subscriptionId);
        if (access === null) {
          desired.delete(key);
          entries.delete(key);
        } else {
          desired.set(key, access);
          entries.set(key, accessDigest(bytesOfId(subscriptionId), access));
        }
      }
      const ownChanges = ownRows.map((row) => ({ ...row, access: null }));
      return { own, desired, entries, pending, ownChanges };
    }
  }

  /** What these open orders' subscriptions should have now. */
  async readAgain(
    profile: NodeProfile,
    orders: readonly OpenOrder[],
  ): Promise<{ order: OpenOrder; access: Buffer | null }[]> {
    const rows = await findDesired(this.deps.pool, profile.nodeId, orders);
    const access = new Map(rows.map((row) => [row.subscriptionId, this.encode(profile, row)]));
    return orders.map((order) => ({ order, access: access.get(order.subscriptionId) ?? null }));
  }

  pendingOf(profile: NodeProfile, row: PendingRow): PendingChange {
    const { tenantId, subscriptionId, cause, causedAt, generation, secret, engines, devices } = row;
    const access =
      secret === null || engines === null
        ? null
        : this.encode(profile, { tenantId, subscriptionId, secret, engines, devices });
    return { tenantId, subscriptionId, cause, causedAt, generation, access };
  }

  private encode(profile: NodeProfile, row: DesiredRow): Buffer | null {
    const { tenantId, subscriptionId, engines, devices } = row;
    try {
      const place = { table: 'subscription', tenant: tenantId, row: subscriptionId };
      const secret = openSecret(this.deps.dataKey, row.secret, place);
      return encodeAccess(profile, tenantId, subscriptionId, secret, engines, devices ?? []);
    } catch (error) {
      this.unopened(error, { subscriptionId });
      return null;
    }
  }

  private openInbound(nodeId: NodeId, tag: string, sealed: Buffer): Record<string, unknown> | null {
    try {
      const text = openSecret(this.deps.dataKey, sealed, {
        table: 'inbound',
        tenant: '',
        row: `${nodeId}/${tag}`,
      });
      return JSON.parse(text.toString('utf8')) as Record<string, unknown>;
    } catch (error) {
      this.unopened(error, { nodeId, name: tag });
      return null;
    }
  }

  private unopened(error: unknown, what: object): void {
    this.deps.metrics.secretsUnopened.inc({});
    this.deps.log.error({ error, ...what }, 'a stored secret does not open; what it protects is left out');
  }
}
