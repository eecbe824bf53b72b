// What the OpenAPI document says in words: each error code, each noun, and the rules that hold for every route.

/** Code → what a caller learns from it. A test demands a meaning for every code that a route may answer. */
export const codeMeanings: Readonly<Record<string, string>> = {
  invalid_input: 'a field is missing, unknown or not as described; `field` names it',
  unauthenticated: 'no valid access token or API key came with the request',
  forbidden: 'the role, or the scopes of the key, do not hold the permission',
  address_not_allowed: 'this route is closed for the address that the request came from',
  not_found: 'there is no such thing in this tenant; another tenant’s is not told from a missing one',
  conflict: 'it collides with something that is there, a name that is taken for instance',
  payload_too_large: 'the body is larger than 1 MiB',
  unsupported_media_type: 'the body is not UTF-8 JSON',
  failed_precondition: 'the state, or the version of If-Match, is another by now; read it again',
  pending: 'it is not there yet, or the same request is still running; try again a little later',
  quota_exceeded: 'a limit of the plan is reached',
  limit_reached: 'a limit of the tenant is reached',
  idempotency_mismatch: 'this Idempotency-Key was used for another request',
  rate_limited: 'too many requests; Retry-After says when to come again',
  internal: 'something failed on our side; `request_id` finds it in the log',
  unavailable: 'the database or another part is away, or a queue is full; try again',
  token_invalid: 'the token is unknown or was revoked',
  token_used: 'the one-time token was used before',
  token_expired: 'the token has expired',
  totp_required: 'the account has a second factor: send `code` or `recoveryCode` too',
};

/** Tag → what the noun is. */
export const tagMeanings: Readonly<Record<string, string>> = {
  Setup: 'The first owner, once.',
  Auth: 'Signing in and out, and who is signed in.',
  Tenants: 'Customers of the platform; the boundary of isolation.',
  'Own tenant': 'The tenant of the token, for its own members.',
  Plans: 'Terms on offer: traffic, duration, devices, engines, node groups.',
  'Node groups': 'Named sets of nodes that plans refer to.',
  Nodes: 'Enrolled machines that serve the traffic.',
  'Join tokens': 'One-time tokens by which a machine becomes a node.',
  Subscriptions: 'One end customer’s right to use each.',
  Acts: 'What is done to one subscription: renewals, resets, top-ups, new credentials.',
  Bulk: 'Many subscriptions in one request, all or none.',
  Devices: 'WireGuard key pairs of a subscription.',
  Access: 'What a customer needs to connect.',
  Usage: 'Bytes, by subscription, node, engine and time.',
  Quarantine: 'Usage that is kept but not billed until somebody releases it.',
  Enforcement: 'How far a change of access is proven on the nodes.',
  Members: 'Who may do what in a tenant.',
  Invitations: 'Ways into a tenant for people.',
  Settings: 'Settings of the platform.',
  Audit: 'Who changed what and when, chained by hashes.',
  Statements: 'Signed monthly usage of a tenant.',
  'API keys': 'Keys of integrations, narrower than their maker.',
  'Machine tokens': 'Short-lived narrow tokens for machines.',
  'Signing keys': 'The keys that sign access tokens.',
  JWKS: 'The public keys by which our tokens are verified.',
  'Identity providers': 'Sign-in with another system’s accounts (OpenID Connect).',
  OIDC: 'Signing in with an account of another system.',
  Sessions: 'Where an account is signed in.',
  Passkeys: 'Sign-in without a password.',
  TOTP: 'The second factor.',
  Accounts: 'One’s own profile, and which accounts are let in.',
  Password: 'Changing and resetting passwords.',
  Webhooks: 'Where events of a tenant are sent.',
  Events: 'Live events of a tenant.',
  OpenAPI: 'This document and its page, and the page at the root.',
};

export const introduction = `The control plane of Penstock: tenants, plans, subscriptions, nodes and what they use.

**Conventions.** Bodies are JSON with known fields only. Bytes are decimal strings, because JSON numbers are exact only
to 2^53. Times are RFC 3339 in UTC. Ids are UUIDs. Everything a request reaches belongs to the tenant of its token or
key; another tenant’s object answers 404.

**Errors** are \`application/problem+json\` with a \`code\` from a closed list, a sentence in \`detail\`, the \`field\` that is
meant and the \`request_id\` under which the server logged it.

**Pages.** Lists answer \`items\` and \`nextCursor\`; give it as \`cursor\` for the next page. null is the end. A cursor is opaque.

**Versions.** An answer with an \`ETag\` may be changed with \`If-Match\`: another’s change in between answers 412 instead of being
overwritten.

**Repeating.** A mutation sent again with the same \`Idempotency-Key\` has one effect and one answer.`;

export const headerTexts = {
  'X-Request-ID': 'UUID of this request, as sent or made; it stands in the log and in the audit row.',
  ETag: 'Version of the object, for If-Match.',
  'Retry-After': 'Seconds after which a repetition makes sense.',
  'WWW-Authenticate': 'Always `Bearer`.',
} as const;
