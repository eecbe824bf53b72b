// Who has access: the one decision, pure. Everything it needs is in its argument; the time is the database server's.
// Invariant: used = greatest(counter, observed), so a recomputation over a lower counter never lets anybody back in.
import type { AdminState, EffectiveState } from '@penstock/domain/terms';

/** Why a subscription is not active; '' when it is. Shown to people, so the list is closed. */
export const stateReasons = [
  '',
  'deleted',
  'disabled',
  'tenant_suspended',
  'expired',
  'quota',
  'pool',
  'on_hold',
] as const;
export type StateReason = (typeof stateReasons)[number];

export interface QuotaFacts {
  adminState: AdminState;
  tenantState: 'active' | 'suspended';
  expiresAt: Date | null;
  /** Time of the decision, from the database server. */
  at: Date;
  /** With what was added to the period; null: unlimited. */
  limitBytes: bigint | null;
  /** Billable bytes of the current period, as far as they are derived. */
  counterBytes: bigint;
  /** The highest total of this period that a collector reported with a crossing. */
  observedBytes: bigint;
  /** What all of the tenant's subscriptions may use together this month is used up. */
  poolExceeded: boolean;
  /** Its time has not begun. */
  onHold: boolean;
}

export interface Decision {
  state: EffectiveState;
  reason: StateReason;
  usedBytes: bigint;
}

/** An admin's word goes before the tenant's state, that before expiry, that before the quota, that before the pool. */
export function evaluate(facts: QuotaFacts): Decision {
  const usedBytes = facts.counterBytes > facts.observedBytes ? facts.counterBytes : facts.observedBytes;
  const say = (state: EffectiveState, reason: StateReason): Decision => ({ state, reason, usedBytes });
  if (facts.adminState === 'deleted') return say('disabled', 'deleted');
  if (facts.adminState === 'disabled') return say('disabled', 'disabled');
  if (facts.tenantState === 'suspended') return say('disabled', 'tenant_suspended');
  if (facts.expiresAt !== null && facts.expiresAt.getTime() <= facts.at.getTime())
    return say('expired', 'expired');
  if (facts.limitBytes !== null && usedBytes >= facts.limitBytes) return say('limited', 'quota');
  if (facts.poolExceeded) return say('limited', 'pool');
  if (facts.onHold) return say('on_hold', 'on_hold');
  return say('active', '');
}
