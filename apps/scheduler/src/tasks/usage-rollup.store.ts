// SQL of making days. Sums saturate at 2^63 − 1, as hours do: a tenant with more than that has a wrong figure, told by
// a counter and a log line, and not a task that fails for ever.
import { statement } from '@penstock/db/statement';

export interface StaleDay {
  tenantId: string;
  day: string;
  nodeIds: string[];
}

// Hours that grew since a day before the last roll are looked at (and all of them when a process begins): every pass
// takes everything that it finds, so nothing older is left. Pages go on behind the last, so that days which grow all the
// time, or fail, do not come again before the others' turn.
export const listStale = statement<StaleDay>(
  'usage_rolled.stale',
  `WITH touched AS (
     SELECT DISTINCT tenant_id, day FROM usage_node_hour
     WHERE ($2::uuid IS NULL OR tenant_id = $2) AND (day, tenant_id) > ($4::date, $5::uuid)
       AND updated_at > CASE WHEN $1 THEN '-infinity'
                             ELSE coalesce((SELECT max(rolled_at) FROM usage_rolled), '-infinity') - interval '1 day' END
   ), total AS (
     SELECT n.tenant_id, n.day, n.node_id, sum(n.up_bytes::numeric + n.down_bytes + n.billable_bytes) AS bytes
     FROM touched t JOIN usage_node_hour n ON n.tenant_id = t.tenant_id AND n.day = t.day GROUP BY 1, 2, 3
   )
   SELECT t.tenant_id AS "tenantId", t.day, array_agg(t.node_id) AS "nodeIds"
   FROM total t LEFT JOIN usage_rolled r ON r.tenant_id = t.tenant_id AND r.day = t.day AND r.node_id = t.node_id
   WHERE r.total_bytes IS DISTINCT FROM t.bytes GROUP BY 1, 2 ORDER BY 2, 1 LIMIT $3`,
);

/** What the hours of a node's day hold together; `bytes` is a decimal string. */
export const nodeTotals = statement<{ nodeId: string; bytes: string }>(
  'usage_node_hour.totals',
  `SELECT node_id AS "nodeId", sum(up_bytes::numeric + down_bytes + billable_bytes)::text AS bytes FROM usage_node_hour
   WHERE tenant_id = $1 AND day = $2 AND node_id = ANY ($3::uuid[]) GROUP BY node_id`,
);

/** The subscription of the hour that is $4 rows behind the first after subscription $3; none when there are fewer. */
export const findEdge = statement<{ subscriptionId: string }>(
  'usage_hour.edge',
  `SELECT subscription_id AS "subscriptionId" FROM usage_hour
   WHERE tenant_id = $1 AND day = $2 AND subscription_id > $3 ORDER BY subscription_id OFFSET $4 LIMIT 1`,
);

// One statement, so one snapshot. A day never shrinks: hours may be gone (400 days) when a correction comes. Rows in
// key order: two that make the same day wait for each other and do not deadlock.
export const rollPart = statement<{ saturated: number }>(
  'usage_day.roll',
  `WITH days AS (
     INSERT INTO usage_day AS d (tenant_id, day, subscription_id, node_id, engine, up_bytes, down_bytes, billable_bytes)
     SELECT $1, $2, subscription_id, node_id, engine, least(sum(up_bytes), 9223372036854775807)::int8,
            least(sum(down_bytes), 9223372036854775807)::int8, least(sum(billable_bytes), 9223372036854775807)::int8
     FROM usage_hour
     WHERE tenant_id = $1 AND day = $2 AND node_id = ANY ($3::uuid[]) AND subscription_id > $4 AND subscription_id <= $5
     GROUP BY subscription_id, node_id, engine ORDER BY subscription_id, node_id, engine
     ON CONFLICT (tenant_id, day, subscription_id, node_id, engine) DO UPDATE SET
       up_bytes = greatest(d.up_bytes, excluded.up_bytes), down_bytes = greatest(d.down_bytes, excluded.down_bytes),
       billable_bytes = greatest(d.billable_bytes, excluded.billable_bytes)
     WHERE (d.up_bytes, d.down_bytes, d.billable_bytes) <> (excluded.up_bytes, excluded.down_bytes, excluded.billable_bytes)
     RETURNING greatest(d.up_bytes, d.down_bytes, d.billable_bytes) AS most
   )
   SELECT count(*) FILTER (WHERE most = 9223372036854775807)::int AS saturated FROM days`,
);

export const writeRolled = statement<Record<string, never>>(
  'usage_rolled.write',
  `INSERT INTO usage_rolled AS r (tenant_id, day, node_id, total_bytes, rolled_at)
   SELECT $1, $2, i.n, i.b, clock_timestamp() FROM unnest($3::uuid[], $4::numeric[]) AS i (n, b) ORDER BY i.n
   ON CONFLICT (tenant_id, day, node_id) DO UPDATE SET total_bytes = excluded.total_bytes, rolled_at = excluded.rolled_at`,
);
