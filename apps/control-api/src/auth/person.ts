// Who may do what to a person's account. A person acts about himself with a session of his own, never with a key; an
// admin acts on an account only when nothing of it lies beyond his tenant and nobody above him is meant.
import { AppError } from '@penstock/domain/errors';
import type { AccountId } from '@penstock/domain/ids';
import { roles, type Role } from '@penstock/domain/terms';
import type { Actor } from '../http/actor.js';
import type { Membership } from './session.store.js';

export interface Person {
  accountId: AccountId;
  familyId: string;
}

/** The person behind a session. Throws forbidden for a key, unauthenticated for nobody. */
export function personOf({ accountId, familyId, keyId }: Actor): Person {
  if (keyId !== null) throw new AppError('forbidden', 'a key may not do this; sign in');
  if (accountId === null || familyId === null) throw new AppError('unauthenticated', 'sign in first');
  return { accountId, familyId };
}

/** True when `role` may more than `than`. */
export function outranks(role: Role, than: Role): boolean {
  return roles.indexOf(role) < roles.indexOf(than);
}

/**
 * May `actor` act on the whole account with these memberships? Throws not_found for one that is no member of the
 * actor's tenant, forbidden for somebody above him and for one that is in other tenants too. The platform reaches
 * every account except those above in the platform itself.
 */
export function requireAuthority(
  actor: Pick<Actor, 'tenantId' | 'role' | 'platform'>,
  memberships: readonly Membership[],
): void {
  const above = new AppError('forbidden', 'this person is above you');
  if (actor.platform) {
    const place = memberships.find((membership) => membership.platform);
    if (place !== undefined && outranks(place.role, actor.role)) throw above;
    return;
  }
  const place = memberships.find((membership) => membership.tenantId === actor.tenantId);
  if (place === undefined) throw new AppError('not_found', 'there is no such member');
  if (outranks(place.role, actor.role)) throw above;
  if (memberships.length > 1) {
    throw new AppError('forbidden', 'this account is in other tenants too; only the platform may do this');
  }
}
