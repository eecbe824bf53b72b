// How much a tenant may have. Counted under the tenant's row lock, so that two who create at a time cannot both take the
// last place. Called by whatever makes subscriptions or nodes, in its transaction and before it writes.
import { AppError } from '@penstock/domain/errors';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';

export type LimitedThing = 'subscription' | 'node';

interface LimitRow {
  subscription: number | null;
  node: number | null;
}

const selectLimits = statement<LimitRow>(
  'tenant.limits',
  `SELECT limit_subscriptions AS subscription, limit_nodes AS node FROM tenant WHERE tenant_id = $1`,
);
const lockLimits = statement<LimitRow>(
  'tenant.lock_limits',
  `SELECT limit_subscriptions AS subscription, limit_nodes AS node FROM tenant WHERE tenant_id = $1
   FOR NO KEY UPDATE`,
);
// Neither counts further than the limit.
const countSubscriptions = statement<{ count: bigint }>(
  'tenant.count_subscriptions',
  `SELECT count(*) AS count FROM (
     SELECT FROM subscription WHERE tenant_id = $1 AND admin_state <> 'deleted' LIMIT $2) found`,
);
const countNodes = statement<{ count: bigint }>(
  'tenant.count_nodes',
  `SELECT count(*) AS count FROM (
     SELECT FROM node WHERE owner_tenant_id = $1 AND state <> 'revoked' LIMIT $2) found`,
);

/**
 * Room for `count` more in the acting tenant, until the transaction ends. Throws limit_reached (422). A tenant without
 * such a limit is not locked: its creations do not wait for each other here.
 */
export async function requireRoom(
  { actor, client }: Acting,
  thing: LimitedThing,
  count: number,
): Promise<void> {
  const [loose] = await run(client, selectLimits, [actor.tenantId]);
  if (loose === undefined || loose[thing] === null) return;
  const [held] = await run(client, lockLimits, [actor.tenantId]);
  const limit = held?.[thing] ?? null;
  if (limit === null) return;
  const statementOf = { subscription: countSubscriptions, node: countNodes }[thing];
  const [found] = await run(client, statementOf, [actor.tenantId, limit + 1]);
  if (Number(found?.count ?? 0n) + count <= limit) return;
  throw new AppError('limit_reached', `this tenant may have ${limit} ${thing}s; ask your provider for more`);
}
