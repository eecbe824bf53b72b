// What a webhook was told, and what came of it. The scheduler delivers; here it is read, and asked for again.
import { run, statement } from '@penstock/db/statement';
import type { DeliveryId, WebhookId } from '@penstock/domain/ids';
import type { Acting } from '../database.js';
import type { DeliveryQuery } from './webhooks.schema.js';

export interface Delivery {
  deliveryId: DeliveryId;
  type: string;
  state: 'pending' | 'delivered' | 'failed';
  attempts: number;
  nextAt: Date | null;
  httpStatus: number | null;
  error: string | null;
  createdAt: Date;
  doneAt: Date | null;
}

// Newest first.
const selectPage = statement<Delivery>(
  'webhook_delivery.page',
  `SELECT delivery_id AS "deliveryId", type, state, attempts,
          CASE WHEN state = 'pending' THEN next_at END AS "nextAt", http_status AS "httpStatus", error,
          created_at AS "createdAt", done_at AS "doneAt"
     FROM webhook_delivery
    WHERE tenant_id = $1 AND webhook_id = $2 AND ($3::uuid IS NULL OR delivery_id < $3)
      AND ($4::text IS NULL OR state = $4)
    ORDER BY delivery_id DESC LIMIT $5`,
);

/** One row more than a page holds. */
export function listDeliveries(
  { actor, client }: Acting,
  id: WebhookId,
  query: DeliveryQuery,
): Promise<Delivery[]> {
  const { cursor, state, limit } = query;
  return run(client, selectPage, [actor.tenantId, id, cursor ?? null, state ?? null, limit + 1]);
}

const insertPing = statement<{ deliveryId: DeliveryId }>(
  'webhook_delivery.ping',
  `INSERT INTO webhook_delivery (tenant_id, webhook_id, type, body, next_at, created_at)
   VALUES ($1, $2, 'webhook.ping', $3, $4, $4) RETURNING delivery_id AS "deliveryId"`,
);

/** A delivery that says nothing, so that a tenant sees his server answer. */
export async function insertPingDelivery({ actor, client, at }: Acting, id: WebhookId): Promise<DeliveryId> {
  const body = { type: 'webhook.ping', entity: 'webhook', entityId: id, at: at.toISOString(), data: {} };
  const [row] = await run(client, insertPing, [actor.tenantId, id, JSON.stringify(body), at]);
  return (row as { deliveryId: DeliveryId }).deliveryId;
}

const redeliver = statement<{ deliveryId: DeliveryId }>(
  'webhook_delivery.again',
  `UPDATE webhook_delivery SET state = 'pending', attempts = 0, next_at = $4, done_at = NULL
    WHERE tenant_id = $1 AND webhook_id = $2 AND delivery_id = $3 AND state <> 'pending'
   RETURNING delivery_id AS "deliveryId"`,
);

/** False when there is no such delivery that is over. */
export async function deliverAgain(
  { actor, client, at }: Acting,
  webhookId: WebhookId,
  deliveryId: DeliveryId,
): Promise<boolean> {
  return (await run(client, redeliver, [actor.tenantId, webhookId, deliveryId, at])).length === 1;
}
