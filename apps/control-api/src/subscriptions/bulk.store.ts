// Locks and tombstones for many subscriptions at once; what else is done to many is in acts.store.ts.
import type { SubscriptionId } from '@penstock/domain/ids';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';

export interface LockedSubscription {
  subscriptionId: SubscriptionId;
  onHold: boolean;
  unlimited: boolean;
}

const lockRows = statement<LockedSubscription>(
  'subscription.lock_many',
  `SELECT subscription_id AS "subscriptionId", on_hold AS "onHold", limit_bytes IS NULL AS unlimited
     FROM subscription WHERE tenant_id = $1 AND subscription_id = ANY ($2::uuid[]) AND deleted_at IS NULL
    ORDER BY subscription_id FOR NO KEY UPDATE`,
);

/** Locks those that are living, in the order of their ids. */
export function lockMany(
  { actor, client }: Acting,
  ids: readonly SubscriptionId[],
): Promise<LockedSubscription[]> {
  return run(client, lockRows, [actor.tenantId, ids]);
}

const buryRows = statement(
  'subscription.bury_many',
  `UPDATE subscription SET admin_state = 'deleted', deleted_at = $3, version = version + 1
    WHERE tenant_id = $1 AND subscription_id = ANY ($2::uuid[])`,
);
const releaseKeys = statement(
  'device_key.release_many',
  `DELETE FROM device_key WHERE device_id IN (
     SELECT device_id FROM device WHERE tenant_id = $1 AND subscription_id = ANY ($2::uuid[]))`,
);

/** Makes tombstones of them and lets go of their devices' keys. */
export async function buryMany({ actor, client, at }: Acting, ids: readonly SubscriptionId[]): Promise<void> {
  await run(client, buryRows, [actor.tenantId, ids, at]);
  await run(client, releaseKeys, [actor.tenantId, ids]);
}
