// What is due in the life of a subscription, pure: it starts at its first use or its deadline, what was asked for is
// carried out in order, and where its term or its quota is over its next plan begins. One step at a time, decided again
// from fresh facts after each, so that each act happens exactly once however often it is looked at.
import type { PlanId, SubscriptionId, TenantId } from '@penstock/domain/ids';
import { evaluate } from './evaluate.js';
import type { SubscriptionFacts } from './quota.store.js';

export type Step = { tenantId: TenantId; subscriptionId: SubscriptionId } & (
  | { kind: 'start'; at: Date }
  | { kind: 'period'; actId: string }
  | { kind: 'top_up'; actId: string; periodId: string; bytes: bigint }
  /** `from`: its term counts from here; what a downtime delayed is not lost to the customer nor given twice. */
  | { kind: 'next_plan'; planId: PlanId; from: Date }
);

/** Evidence that came with the change: the first use that a collector billed, and the total it saw. */
export interface Evidence {
  firstUseAt: Date | null;
  observedBytes: bigint;
}

/** The next step, or null when nothing is due. A period must be open first (facts.periodDue). */
export function nextStep(one: SubscriptionFacts, evidence: Evidence): Step | null {
  const { tenantId, subscriptionId, at } = one;
  const key = { tenantId, subscriptionId };
  if (one.adminState === 'deleted' || one.periodDue || one.periodId === null) return null;
  if (one.onHold) {
    const startAt = earliest(evidence.firstUseAt, one.holdDeadline);
    if (startAt !== null && startAt <= at) return { ...key, kind: 'start', at: startAt };
  }
  if (one.actId !== null) {
    const { actId, periodId } = one;
    if (one.actKind !== 'top_up') return { ...key, kind: 'period', actId };
    return { ...key, kind: 'top_up', actId, periodId, bytes: one.actBytes ?? 0n };
  }
  if (one.nextPlanId === null || one.onHold) return null;
  const observedBytes =
    evidence.observedBytes > one.observedBytes ? evidence.observedBytes : one.observedBytes;
  const decision = evaluate({ ...one, observedBytes });
  if (decision.state === 'expired' && one.expiresAt !== null) {
    const { expiresAt, nextPlanAt } = one;
    const from = nextPlanAt !== null && nextPlanAt > expiresAt ? nextPlanAt : expiresAt;
    return { ...key, kind: 'next_plan', planId: one.nextPlanId, from };
  }
  // A next plan of no bytes at all would otherwise follow itself without end.
  if (decision.reason === 'quota' && decision.usedBytes > 0n) {
    return { ...key, kind: 'next_plan', planId: one.nextPlanId, from: at };
  }
  return null;
}

function earliest(a: Date | null, b: Date | null): Date | null {
  if (a === null || b === null) return a ?? b;
  return a < b ? a : b;
}
