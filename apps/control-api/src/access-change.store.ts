// Whatever may change who has access leaves a row for the scheduler in the transaction of its cause. The row says
// that something changed, not what: the scheduler computes from state.
import { newId, type NodeId, type SubscriptionId } from '@penstock/domain/ids';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from './database.js';

const insert = statement(
  'access_change.insert',
  `INSERT INTO access_change (tenant_id, change_id, subscription_id, node_id, cause) VALUES ($1, $2, $3, $4, $5)`,
);

/** Terms, state or devices of one subscription changed. */
export async function subscriptionChanged(
  { actor, client }: Acting,
  subscriptionId: SubscriptionId,
): Promise<void> {
  await run(client, insert, [actor.tenantId, newId(), subscriptionId, null, 'edit']);
}

const insertMany = statement(
  'access_change.insert_many',
  `INSERT INTO access_change (tenant_id, change_id, subscription_id, cause)
   SELECT $1, c, s, 'edit' FROM unnest($2::uuid[], $3::uuid[]) AS i (c, s)`,
);

/** The same of many at once. */
export async function subscriptionsChanged(
  { actor, client }: Acting,
  subscriptionIds: readonly SubscriptionId[],
): Promise<void> {
  await run(client, insertMany, [actor.tenantId, subscriptionIds.map(() => newId()), subscriptionIds]);
}

/** Something that all of the tenant's subscriptions may depend on changed: each is looked at. */
export async function tenantChanged({ actor, client }: Acting): Promise<void> {
  await run(client, insert, [actor.tenantId, newId(), null, null, 'edit']);
}

/** A node, its inbounds or its groups changed: everything of the node is looked at. */
export async function nodeChanged({ actor, client }: Acting, nodeId: NodeId): Promise<void> {
  await run(client, insert, [actor.tenantId, newId(), null, nodeId, 'node']);
}
