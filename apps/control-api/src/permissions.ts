// The whole of RBAC on one screen: which role may do what. A route names one of these actions; a route that names
// none stops the process from starting (http/routes.ts). Roles are read from the database, never from a token.
import { roles, type Role } from '@penstock/domain/terms';

interface Rule {
  roles: readonly Role[];
  /** Only with a token for the platform tenant. */
  platform?: true;
}

const everybody = roles;
const staff = ['owner', 'admin', 'operator'] as const;
const managers = ['owner', 'admin'] as const;
const watchers = ['owner', 'admin', 'auditor'] as const;
const owners = ['owner'] as const;

export const permissions = {
  'tenant.read': { roles: everybody, platform: true },
  'tenant.create': { roles: managers, platform: true },
  'tenant.update': { roles: managers, platform: true },
  'tenant.suspend': { roles: managers, platform: true },
  'own_tenant.read': { roles: everybody },
  'own_tenant.update': { roles: managers },
  'member.read': { roles: watchers },
  'member.update': { roles: managers },
  'member.delete': { roles: managers },
  'invitation.read': { roles: watchers },
  'invitation.create': { roles: managers },
  'invitation.delete': { roles: managers },
  'settings.read': { roles: everybody, platform: true },
  'settings.update': { roles: owners, platform: true },
  'audit.read': { roles: watchers },
  'plan.read': { roles: everybody },
  'plan.create': { roles: managers },
  'plan.update': { roles: managers },
  'plan.delete': { roles: managers },
  'node_group.read': { roles: everybody },
  'node_group.create': { roles: managers },
  'node_group.update': { roles: managers },
  'node_group.delete': { roles: managers },
  'node.read': { roles: everybody },
  'node.create': { roles: managers },
  'node.update': { roles: managers },
  'node.revoke': { roles: managers },
  'node.approve': { roles: managers },
  'node.delete': { roles: managers },
  'stream.release': { roles: managers },
  'quarantine.read': { roles: everybody },
  'quarantine.release': { roles: managers },
  'join_token.create': { roles: managers },
  'join_token.read': { roles: everybody },
  'join_token.delete': { roles: managers },
  'subscription.read': { roles: everybody },
  'subscription.create': { roles: staff },
  'subscription.update': { roles: staff },
  'subscription.delete': { roles: staff },
  'subscription.rotate': { roles: staff },
  'subscription.erase': { roles: managers },
  'subscription.secret.read': { roles: staff },
  'device.create': { roles: staff },
  'device.update': { roles: staff },
  'device.delete': { roles: staff },
  'usage.read': { roles: everybody },
  'statement.read': { roles: everybody },
  'statement_key.rotate': { roles: owners, platform: true },
  'enforcement.read': { roles: everybody },
  'event.read': { roles: everybody },
  'webhook.create': { roles: managers },
  'webhook.read': { roles: managers },
  'webhook.update': { roles: managers },
  'webhook.delete': { roles: managers },
  'signing_key.read': { roles: owners, platform: true },
  'signing_key.rotate': { roles: owners, platform: true },
  'api_key.create': { roles: managers },
  'api_key.read': { roles: managers },
  'api_key.delete': { roles: managers },
  'machine_token.create': { roles: managers },
  'machine_token.read': { roles: managers },
  'machine_token.delete': { roles: managers },
  'identity_provider.read': { roles: managers },
  'identity_provider.create': { roles: owners },
  'identity_provider.update': { roles: owners },
  'identity_provider.delete': { roles: owners },
  'password_reset.create': { roles: managers },
  'member_session.delete': { roles: managers },
  'account.update': { roles: managers, platform: true },
} as const satisfies Record<string, Rule>;

export type Permission = keyof typeof permissions;

/** Who asks, as far as this table is concerned. */
export interface Standing {
  role: Role;
  platform: boolean;
}

export function allows(standing: Standing, permission: Permission): boolean {
  const rule: Rule = permissions[permission];
  return rule.roles.includes(standing.role) && (rule.platform !== true || standing.platform);
}

/** What a person may do, for pages that hide the rest. */
export function permissionsOf(standing: Standing): Permission[] {
  return (Object.keys(permissions) as Permission[]).filter((permission) => allows(standing, permission));
}

/** What integrations work with. Rights over people, keys and the platform are for a person who is signed in. */
const forKeys: ReadonlySet<string> = new Set([
  ...['tenant', 'plan', 'subscription', 'device', 'node', 'node_group', 'join_token', 'enforcement'],
  ...['usage', 'statement', 'audit', 'event', 'webhook', 'quarantine', 'stream'],
]);

/** True for what an API key or a machine token may hold as a scope. */
export function keyMayHold(permission: Permission): boolean {
  return forKeys.has(permission.split('.')[0] ?? '');
}
