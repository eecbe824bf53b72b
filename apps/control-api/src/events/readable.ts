// Who hears of what. Pure. Whoever may read a noun hears of it; of nouns without a permission of that name only owners do,
// and no key.
import type { Actor } from '../http/actor.js';
import { allows, permissions, type Permission } from '../permissions.js';

export type Hearer = Pick<Actor, 'role' | 'platform' | 'scopes'>;

/** True when `hearer` is told of events of `entity`. */
export function mayRead(hearer: Hearer, entity: string): boolean {
  const permission = `${entity}.read`;
  if (!Object.hasOwn(permissions, permission)) return hearer.role === 'owner' && hearer.scopes === null;
  const wanted = permission as Permission;
  return allows(hearer, wanted) && (hearer.scopes === null || hearer.scopes.includes(wanted));
}

/** True when `hearer` may have a server told of `pattern`: `*`, `noun.*` or `noun.verb`. */
export function mayHearOf(hearer: Hearer, pattern: string): boolean {
  const [noun = ''] = pattern.split('.');
  return noun === '*' ? hearer.role === 'owner' && hearer.scopes === null : mayRead(hearer, noun);
}
