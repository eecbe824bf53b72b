// Desired state against what the node has → the next revision. Pure: the stream (node-stream.ts) feeds it and acts.
// Invariant: a subscription stands in a revision at most once, and its order is one enforcement row however often it
// has to be sent.
import type { AccessEntry, ChangeResult } from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import { ChangeKind } from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import type { SubscriptionId, TenantId } from '@penstock/domain/ids';
import { accessDigest } from '@penstock/ledger/state-digest';
import { bytesOfId, keyOfId } from './access.js';

export type OrderKind = 'grant' | 'cut';

/** A row of node_change with what the subscription should have now; null: no access. */
export interface PendingChange {
  tenantId: TenantId;
  subscriptionId: SubscriptionId;
  cause: string;
  causedAt: Date;
  generation: string;
  access: Buffer | null;
}

/** A change of access that is not confirmed yet (enforcement, ordered or unproven). */
export interface OpenOrder {
  tenantId: TenantId;
  subscriptionId: SubscriptionId;
  /** The revision that carries it. */
  revision: bigint;
  kind: OrderKind;
}

export interface NewOrder {
  tenantId: TenantId;
  subscriptionId: SubscriptionId;
  kind: OrderKind;
  cause: string;
  causedAt: Date;
}

export interface RevisionPlan {
  upserts: AccessEntry[];
  removals: Buffer[];
  /** New enforcement rows. */
  orders: NewOrder[];
  /** Open ones that this revision carries again. */
  moved: OpenOrder[];
  /** Open ones that something newer took the place of. */
  superseded: OpenOrder[];
  /** node_change rows that this revision settles. */
  settled: PendingChange[];
  /** subscription key → new digest, or null when it goes. */
  digests: Map<string, Buffer | null>;
}

/** Room for the message around its entries: digests, numbers, field tags. */
const ENTRY_OVERHEAD_BYTES = 32;

/**
 * The next delta. `again`: open orders that are due to be sent once more, each with the access that holds now (null for
 * none). Takes changes while they fit into `bytesMax`; the rest waits for the revision after.
 */
export function planDelta(
  entries: { get(key: string): Buffer | undefined },
  pending: readonly PendingChange[],
  again: readonly { order: OpenOrder; access: Buffer | null }[],
  open: readonly OpenOrder[],
  bytesMax: number,
): RevisionPlan {
  const plan = emptyPlan();
  const openByKey = groupByKey(open);
  let bytes = 0;
  for (const change of pending) {
    const key = keyOfId(change.subscriptionId);
    const id = bytesOfId(change.subscriptionId);
    const before = plan.digests.has(key) ? (plan.digests.get(key) ?? undefined) : entries.get(key);
    const after = change.access === null ? undefined : accessDigest(id, change.access);
    if (before === undefined ? after === undefined : after?.equals(before) === true) {
      plan.settled.push(change);
      continue;
    }
    bytes += ENTRY_OVERHEAD_BYTES + (change.access?.length ?? 0);
    if (bytes > bytesMax) break;
    plan.settled.push(change);
    const { tenantId, subscriptionId, cause, causedAt } = change;
    plan.orders.push({
      tenantId,
      subscriptionId,
      kind: change.access === null ? 'cut' : 'grant',
      cause,
      causedAt,
    });
    plan.superseded.push(...(openByKey.get(key) ?? []));
    put(plan, key, id, change.access, after ?? null);
  }
  for (const { order, access } of again) {
    const key = keyOfId(order.subscriptionId);
    if (plan.digests.has(key)) continue;
    // Something newer holds now than what was ordered; whoever changed it left a row that says so.
    if ((access === null) !== (order.kind === 'cut')) continue;
    bytes += ENTRY_OVERHEAD_BYTES + (access?.length ?? 0);
    if (bytes > bytesMax) break;
    const id = bytesOfId(order.subscriptionId);
    plan.moved.push(order);
    put(plan, key, id, access, access === null ? null : accessDigest(id, access));
  }
  return plan;
}

/**
 * A revision for a node that comes back (or comes for the first time). `desired`: the whole state, key → access bytes.
 * Every open order is carried again or is superseded; every waiting change is settled, since `desired` was read after
 * it. Upserts and removals are those of a delta over what the node had; a snapshot does not need them.
 */
export function planReturn(
  desired: ReadonlyMap<string, Buffer>,
  pending: readonly PendingChange[],
  open: readonly OpenOrder[],
): RevisionPlan {
  const plan = emptyPlan();
  const carried = new Set<SubscriptionId>();
  for (const [key, orders] of groupByKey(open)) {
    const access = desired.get(key) ?? null;
    const kind: OrderKind = access === null ? 'cut' : 'grant';
    const newest = orders.reduce((a, b) => (b.revision > a.revision ? b : a));
    for (const order of orders)
      (order === newest && order.kind === kind ? plan.moved : plan.superseded).push(order);
    if (newest.kind === kind) carried.add(newest.subscriptionId);
    const id = bytesOfId(newest.subscriptionId);
    put(plan, key, id, access, access === null ? null : accessDigest(id, access));
  }
  for (const change of pending) {
    plan.settled.push(change);
    if (carried.has(change.subscriptionId)) continue;
    const key = keyOfId(change.subscriptionId);
    const access = desired.get(key) ?? null;
    const kind: OrderKind = access === null ? 'cut' : 'grant';
    const { tenantId, subscriptionId, cause, causedAt } = change;
    plan.orders.push({ tenantId, subscriptionId, kind, cause, causedAt });
    if (plan.digests.has(key)) continue;
    const id = bytesOfId(subscriptionId);
    put(plan, key, id, access, access === null ? null : accessDigest(id, access));
  }
  return plan;
}

/** Bytes of a plan's entries on the wire, a little more than exact. */
export function planBytes(plan: RevisionPlan): number {
  const entries = plan.upserts.reduce((sum, entry) => sum + entry.access.length + ENTRY_OVERHEAD_BYTES, 0);
  return entries + plan.removals.length * ENTRY_OVERHEAD_BYTES;
}

/** The entries of a snapshot in messages of at most `bytesMax`; at least one, possibly empty. */
export function splitEntries(desired: ReadonlyMap<string, Buffer>, bytesMax: number): AccessEntry[][] {
  const parts: AccessEntry[][] = [[]];
  let bytes = 0;
  for (const [key, access] of desired) {
    const size = access.length + ENTRY_OVERHEAD_BYTES;
    if (bytes + size > bytesMax && bytes > 0) {
      parts.push([]);
      bytes = 0;
    }
    parts.at(-1)?.push({ subscriptionId: Buffer.from(key, 'hex'), access });
    bytes += size;
  }
  return parts;
}

export interface OrderOutcome {
  order: OpenOrder;
  state: 'confirmed' | 'unproven';
  sessionsEnded: number;
  cutUs: number;
  provenUs: number;
  reason: string;
}

/**
 * What an acknowledgement proves. `applied`: no error, and the digest of what was read back is the one that was asked
 * for. `failed`: the node refused the revision as a whole. A cut is proven by its own results alone: every engine says
 * `ended`, and at least one said something; another customer's entry that an engine cannot take says nothing about it.
 * A grant is confirmed by the digest, or by a result of its own that names no reason.
 */
export function judge(
  orders: readonly OpenOrder[],
  results: readonly ChangeResult[],
  applied: boolean,
  failed: boolean,
  problem: string,
): OrderOutcome[] {
  const byKey = Map.groupBy(results, (result) => result.subscriptionId.toString('hex'));
  return orders.map((order) => {
    const own = byKey.get(keyOfId(order.subscriptionId)) ?? [];
    const cuts = own.filter((result) => result.kind === ChangeKind.CHANGE_KIND_CUT);
    const grants = own.filter((result) => result.kind === ChangeKind.CHANGE_KIND_GRANT);
    const allEnded = cuts.every((cut) => cut.ended);
    const granted = grants.every((grant) => grant.reason === '') && (applied || grants.length > 0);
    const proven = !failed && allEnded && (order.kind === 'cut' ? cuts.length > 0 : granted);
    const said = [...new Set(own.map((result) => result.reason).filter((reason) => reason !== ''))].join(
      '; ',
    );
    return {
      order,
      state: proven ? 'confirmed' : 'unproven',
      sessionsEnded: cuts.reduce((sum, cut) => sum + cut.sessionsEnded, 0),
      cutUs: cuts.reduce((most, cut) => Math.max(most, cut.cutUs), 0),
      provenUs: cuts.reduce((most, cut) => Math.max(most, cut.provenUs), 0),
      reason: proven ? '' : said || problem || 'the node gave no proof',
    };
  });
}

function emptyPlan(): RevisionPlan {
  return {
    upserts: [],
    removals: [],
    orders: [],
    moved: [],
    superseded: [],
    settled: [],
    digests: new Map(),
  };
}

function put(
  plan: RevisionPlan,
  key: string,
  id: Buffer,
  access: Buffer | null,
  digest: Buffer | null,
): void {
  if (access === null) plan.removals.push(id);
  else plan.upserts.push({ subscriptionId: id, access });
  plan.digests.set(key, digest);
}

function groupByKey(open: readonly OpenOrder[]): Map<string, OpenOrder[]> {
  const groups = new Map<string, OpenOrder[]>();
  for (const order of open) {
    const key = keyOfId(order.subscriptionId);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [order]);
    else group.push(order);
  }
  return groups;
}
