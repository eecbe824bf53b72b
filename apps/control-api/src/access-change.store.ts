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

/** A node, its inbounds or its groups changed: everything of the node is looked at. */
export async function nodeChanged({ actor, client }: Acting, nodeId: NodeId): Promise<void> {
  await run(client, insert, [actor.tenantId, newId(), null, nodeId, 'node']);
}
