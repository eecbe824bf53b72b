// The closed list of what live pages and webhooks are told: every audited action, and what the scheduler and the nodes
// make of them. A new audited action is added here; event-names.test.ts and test/security/audit.test.ts demand it.

/** `noun.verb`, by noun. */
const verbs = {
  account: ['create_first_owner', 'disable', 'enable', 'update'],
  api_key: ['create', 'revoke'],
  device: ['create', 'delete', 'rotate', 'update'],
  enforcement: ['confirmed', 'failed', 'ordered', 'unproven'],
  identity: ['link', 'unlink'],
  identity_provider: ['create', 'delete', 'update'],
  invitation: ['accept', 'create', 'delete'],
  join_token: ['create', 'revoke'],
  machine_token: ['create', 'revoke'],
  member: ['delete', 'update'],
  node: [
    ...['activate', 'approve_reattest', 'ask_revoke', 'create', 'delete', 'drain', 'maintenance', 'revoke'],
    'update',
  ],
  node_group: ['add_node', 'create', 'delete', 'remove_node', 'update'],
  owner: ['recover'],
  passkey: ['create', 'delete'],
  password: ['change', 'reset'],
  password_reset: ['create'],
  plan: ['archive', 'create', 'update'],
  quarantine: ['release'],
  recovery_code: ['renew'],
  session: ['create', 'end', 'end_member', 'end_others', 'refuse', 'reuse'],
  settings: ['update'],
  signing_key: ['retire', 'rollback', 'rotate'],
  statement_key: ['rotate'],
  stream: ['release'],
  subscription: [
    ...['activate', 'create', 'delete', 'erase', 'renew', 'reset', 'rotate', 'top_up', 'update'],
    ...['bulk_activate', 'bulk_create', 'bulk_delete', 'bulk_disable', 'bulk_enable'],
    ...['bulk_extend', 'bulk_renew', 'bulk_reset', 'bulk_top_up', 'disable', 'enable'],
    ...['secret.read', 'state'],
  ],
  tenant: ['create', 'resume', 'suspend', 'update'],
  totp: ['begin', 'disable', 'enable'],
  webhook: ['create', 'delete', 'deliver', 'disabled', 'ping', 'rotate', 'update'],
};

export const eventNames: readonly string[] = Object.entries(verbs).flatMap(([noun, list]) =>
  list.map((verb) => `${noun}.${verb}`),
);

/** What a webhook may ask for: an event, all of a noun, or everything. */
export const eventPatterns: readonly string[] = [
  '*',
  ...Object.keys(verbs).map((noun) => `${noun}.*`),
  ...eventNames,
];
