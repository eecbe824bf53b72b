// From facts and causes to what is to be written, pure. Everything is recomputed from state: a cause is only kept as
// the reason that is shown, and a crossing's total as evidence.
import type { NodeId, SubscriptionId } from '@penstock/domain/ids';
import { hasAccess } from '@penstock/domain/terms';
import { evaluate } from '../quota/evaluate.js';
import type { Evidence } from '../quota/lifecycle.js';
import type { NodeChangeWrite, ObservedWrite, StateWrite, SubscriptionFacts } from '../quota/quota.store.js';
import type { AssignmentKey } from '../placement/placement.store.js';
import type { AccessChange } from './change.store.js';

export interface Outcome {
  states: StateWrite[];
  observed: ObservedWrite[];
  changes: NodeChangeWrite[];
  begin: AssignmentKey[];
  end: AssignmentKey[];
  /** Subscriptions whose devices' addresses are to be brought in line. */
  addresses: SubscriptionFacts[];
  becameLimited: number;
}

/** Why and since when a subscription's nodes owe it a change. */
export interface Trigger {
  cause: string;
  causedAt: Date;
  /** Somebody may have changed credentials, devices or engines: the nodes compare, also when the state stays. */
  refresh: boolean;
  /** period → highest total that a collector reported. */
  observed: Map<string, bigint>;
  /** When a collector billed the first use of one on hold. */
  firstUseAt: Date | null;
}

/** One trigger a subscription: the earliest row says the cause, a crossing before all others. */
export function triggersOf(changes: readonly AccessChange[]): Map<SubscriptionId, Trigger> {
  const triggers = new Map<SubscriptionId, Trigger>();
  for (const change of changes) {
    if (change.subscriptionId === null) continue;
    const refresh = change.cause === 'edit' || change.cause === 'node' || change.cause === 'sweep';
    let trigger = triggers.get(change.subscriptionId);
    if (trigger === undefined) {
      const { cause, createdAt: causedAt } = change;
      trigger = { cause, causedAt, refresh, observed: new Map(), firstUseAt: null };
      triggers.set(change.subscriptionId, trigger);
    } else {
      trigger.refresh ||= refresh;
      const crossing = change.cause === 'crossing';
      if (crossing !== (trigger.cause === 'crossing') ? crossing : change.createdAt < trigger.causedAt) {
        trigger.cause = change.cause;
        trigger.causedAt = change.createdAt;
      }
    }
    if (
      change.cause === 'first_use' &&
      (trigger.firstUseAt === null || change.createdAt < trigger.firstUseAt)
    ) {
      trigger.firstUseAt = change.createdAt;
    }
    if (change.periodId !== null && change.observedBytes !== null) {
      const before = trigger.observed.get(change.periodId) ?? 0n;
      if (change.observedBytes > before) trigger.observed.set(change.periodId, change.observedBytes);
    }
  }
  return triggers;
}

/** What the triggers bring besides the state, for the steps of a life. */
export function evidenceOf(one: SubscriptionFacts, trigger: Trigger | undefined): Evidence {
  return {
    firstUseAt: trigger?.firstUseAt ?? null,
    observedBytes: one.periodId === null ? 0n : (trigger?.observed.get(one.periodId) ?? 0n),
  };
}

/** Decides a batch. Subscriptions come out ordered, so that rows are always locked in the same order. */
export function decide(
  facts: readonly SubscriptionFacts[],
  triggers: ReadonlyMap<SubscriptionId, Trigger>,
): Outcome {
  const out: Outcome = {
    states: [],
    observed: [],
    changes: [],
    begin: [],
    end: [],
    addresses: [],
    becameLimited: 0,
  };
  const ordered = facts.toSorted(
    (a, b) => compare(a.tenantId, b.tenantId) || compare(a.subscriptionId, b.subscriptionId),
  );
  for (const one of ordered) {
    const trigger = triggers.get(one.subscriptionId);
    if (trigger !== undefined) decideOne(one, trigger, out);
  }
  out.changes.sort(
    (a, b) =>
      compare(a.tenantId, b.tenantId) ||
      compare(a.nodeId, b.nodeId) ||
      compare(a.subscriptionId, b.subscriptionId),
  );
  return out;
}

function decideOne(one: SubscriptionFacts, trigger: Trigger, out: Outcome): void {
  const { tenantId, subscriptionId } = one;
  const evidence = evidenceOf(one, trigger).observedBytes;
  const decision = evaluate({
    ...one,
    observedBytes: evidence > one.observedBytes ? evidence : one.observedBytes,
  });
  for (const [periodId, bytes] of trigger.observed) {
    if (periodId !== one.periodId) out.observed.push({ tenantId, subscriptionId, periodId, bytes });
  }
  // What limited somebody is kept on the period, so no later recomputation can come out lower.
  const keep = decision.state === 'limited' ? decision.usedBytes : evidence;
  if (one.periodId !== null && keep > one.observedBytes) {
    out.observed.push({ tenantId, subscriptionId, periodId: one.periodId, bytes: keep });
  }
  const stateChanged = decision.state !== one.effectiveState;
  if (stateChanged || decision.reason !== one.reason) {
    out.states.push({ tenantId, subscriptionId, state: decision.state, reason: decision.reason });
    if (stateChanged && decision.state === 'limited') out.becameLimited++;
  }

  const assigned = new Set(one.assignedNodes);
  const wanted = new Set(one.wantedNodes);
  const begun = one.wantedNodes.filter((node) => !assigned.has(node));
  const ended = one.assignedNodes.filter((node) => !wanted.has(node));
  for (const nodeId of begun) out.begin.push({ tenantId, nodeId, subscriptionId });
  for (const nodeId of ended) out.end.push({ tenantId, nodeId, subscriptionId });
  if (one.addressesDue) out.addresses.push(one);

  const accessChanged = hasAccess(one.effectiveState) !== hasAccess(decision.state);
  const everywhere = accessChanged || trigger.refresh || one.addressesDue;
  const nodes: NodeId[] = everywhere
    ? [...new Set([...one.assignedNodes, ...one.wantedNodes])]
    : [...begun, ...ended];
  for (const nodeId of nodes) {
    out.changes.push({ tenantId, nodeId, subscriptionId, cause: trigger.cause, causedAt: trigger.causedAt });
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
