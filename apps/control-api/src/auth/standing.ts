// What somebody is in a tenant at this moment. Pure; read by standing.store.ts, judged by http/access.guard.ts.
import type { BlockList } from 'node:net';
import type { AccountId, KeyId, TenantId } from '@penstock/domain/ids';
import { roles, type Role } from '@penstock/domain/terms';
import type { Permission } from '../permissions.js';

/** What a key may do within what its maker may. */
export interface KeyLimits {
  keyId: KeyId;
  scopes: ReadonlySet<Permission>;
  /** Addresses that it may come from; null: any. */
  networks: BlockList | null;
  /** Paths that it may ask; null: any. */
  pathPrefix: string | null;
  singleUse: boolean;
}

export interface Standing {
  /** Of a key: its maker. */
  accountId: AccountId;
  tenantId: TenantId;
  role: Role;
  platform: boolean;
  /** Nobody changes anything in a suspended tenant. */
  suspended: boolean;
  /** The session was opened by the tenant's own identity provider: it is good for this tenant and no other. */
  confined: boolean;
  familyId: string | null;
  /** null for a person with a session. */
  key: KeyLimits | null;
}

/** The stronger of two roles; a place in the platform tenant reaches every tenant. */
export function stronger(own: Role | null, platform: Role | null): Role | null {
  return roles.find((role) => role === own || role === platform) ?? null;
}

/** `path` is `prefix` or lies under it. Both as they travel: what is escaped otherwise does not fit. */
export function isUnder(prefix: string, path: string): boolean {
  return path === prefix || path.startsWith(prefix.endsWith('/') ? prefix : `${prefix}/`);
}
