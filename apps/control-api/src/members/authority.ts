// Who may give, change or take which place. Pure. Invariants: nobody grants or takes a role above his own; a tenant
// that has an owner keeps one.
import { AppError } from '@penstock/domain/errors';
import { roles, type Role } from '@penstock/domain/terms';

/** Those who may manage people at all; weaker roles have no say, whatever is wished. */
const managing: readonly Role[] = ['owner', 'admin'];

function rank(role: Role): number {
  return roles.indexOf(role);
}

/** `held`: roles of the actor, `touched`: roles that are given or taken. Throws forbidden. */
export function requireRank(held: readonly Role[], touched: readonly Role[]): void {
  const best = held.toSorted((a, b) => rank(a) - rank(b))[0];
  if (best === undefined || !managing.includes(best)) {
    throw new AppError('forbidden', 'your role may not manage people');
  }
  const above = touched.find((role) => rank(role) < rank(best));
  if (above !== undefined) {
    throw new AppError('forbidden', `a role above your own (${above}) is neither given nor taken by you`);
  }
}

/** `next`: the new role, null for none. Throws conflict when the tenant would be left without an owner. */
export function requireOwnerLeft(before: Role, next: Role | null, hasOther: boolean): void {
  if (before !== 'owner' || next === 'owner' || hasOther) return;
  throw new AppError('conflict', 'this is the last owner; make another one first');
}
