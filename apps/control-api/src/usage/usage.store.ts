// Usage of a subscription in its current period. Read only: the collector writes counters, the scheduler periods.
import type { SubscriptionId } from '@penstock/domain/ids';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';

export interface UsageRow {
  subscriptionId: SubscriptionId;
  periodId: string | null;
  startedAt: Date | null;
  endsAt: Date | null;
  upBytes: bigint;
  downBytes: bigint;
  billableBytes: bigint;
  observedBytes: bigint;
  usedBytes: bigint;
  limitBytes: bigint | null;
  extraBytes: bigint;
  updatedAt: Date | null;
}

const selectCurrent = statement<UsageRow>(
  'usage.current',
  `SELECT s.subscription_id AS "subscriptionId", p.period_id AS "periodId", p.started_at AS "startedAt",
          p.ends_at AS "endsAt", coalesce(c.up_bytes, 0) AS "upBytes", coalesce(c.down_bytes, 0) AS "downBytes",
          coalesce(c.billable_bytes, 0) AS "billableBytes", coalesce(p.observed_bytes, 0) AS "observedBytes",
          greatest(coalesce(c.billable_bytes, 0), coalesce(p.observed_bytes, 0)) AS "usedBytes",
          s.limit_bytes + least(coalesce(p.extra_bytes, 0), 9223372036854775807 - s.limit_bytes) AS "limitBytes",
          coalesce(p.extra_bytes, 0) AS "extraBytes", c.updated_at AS "updatedAt"
     FROM subscription s
     LEFT JOIN LATERAL (
       SELECT * FROM usage_period u
        WHERE u.tenant_id = s.tenant_id AND u.subscription_id = s.subscription_id AND u.started_at <= $3
          AND (u.ends_at IS NULL OR u.ends_at > $3)
        ORDER BY u.started_at DESC LIMIT 1) p ON true
     LEFT JOIN usage_counter c ON c.tenant_id = s.tenant_id AND c.subscription_id = s.subscription_id
       AND c.period_id = p.period_id
    WHERE s.tenant_id = $1 AND s.subscription_id = $2 AND s.deleted_at IS NULL`,
);

/** null when there is no such subscription. */
export async function findUsage({ actor, client, at }: Acting, id: SubscriptionId): Promise<UsageRow | null> {
  return (await run(client, selectCurrent, [actor.tenantId, id, at]))[0] ?? null;
}
