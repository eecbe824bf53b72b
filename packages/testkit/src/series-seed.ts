// Usage in the time series as a collector's flush leaves it: the same bytes by subscription and by node.
import type { createClient } from '@penstock/db/pool';

type Client = Pick<ReturnType<typeof createClient>, 'query'>;

export interface SeededHour {
  tenantId: string;
  subscriptionId: string;
  nodeId: string;
  /** Begin of the hour, with offset. */
  hour: string;
  /** The tenant's own date; by default the hour's in UTC. */
  day?: string;
  /** 1: xray, 2: wireguard. */
  engine?: number;
  up: bigint;
  down?: bigint;
  /** By default up + down. */
  billable?: bigint;
}

/** Adds to hours that are there. */
export async function seedHours(client: Client, hours: readonly SeededHour[]): Promise<void> {
  for (const { tenantId, subscriptionId, nodeId, hour, day, engine = 1, up, down = 0n, billable } of hours) {
    await client.query(
      `WITH fine AS (
         INSERT INTO usage_hour AS h (tenant_id, day, subscription_id, hour, node_id, engine, up_bytes, down_bytes, billable_bytes)
         VALUES ($1, $2, $9, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (tenant_id, day, subscription_id, hour, node_id, engine) DO UPDATE SET
           up_bytes = h.up_bytes + excluded.up_bytes, down_bytes = h.down_bytes + excluded.down_bytes,
           billable_bytes = h.billable_bytes + excluded.billable_bytes)
       INSERT INTO usage_node_hour AS h (tenant_id, day, hour, node_id, engine, up_bytes, down_bytes, billable_bytes, updated_at)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp())
       ON CONFLICT (tenant_id, day, hour, node_id, engine) DO UPDATE SET
         up_bytes = h.up_bytes + excluded.up_bytes, down_bytes = h.down_bytes + excluded.down_bytes,
         billable_bytes = h.billable_bytes + excluded.billable_bytes, updated_at = excluded.updated_at`,
      [
        ...[tenantId, day ?? new Date(hour).toISOString().slice(0, 10), hour, nodeId, engine],
        ...[up, down, billable ?? up + down, subscriptionId],
      ],
    );
  }
}
