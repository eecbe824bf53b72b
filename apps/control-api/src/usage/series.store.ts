// Reading the time series. Of one subscription from its own hours (and days, once the hours are no longer kept), of
// anything else from the sums of nodes, which hold no subscriptions: a few rows an hour however many customers there are.
import type { SubscriptionId } from '@penstock/domain/ids';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';
import type { Grouping, Step } from './series.schema.js';

export interface UsageBytes {
  upBytes: bigint;
  downBytes: bigint;
  billableBytes: bigint;
}

export interface SeriesRow extends UsageBytes {
  key: string;
  at: Date;
}

export interface Span {
  by: Grouping;
  step: Step;
  timeZone: string;
  from: Date;
  to: Date;
  nodeId: string | null;
  engine: number | null;
  limit: number;
}

const ownZone = statement<{ timeZone: string }>(
  'usage.zone',
  'SELECT known_zone(time_zone) AS "timeZone" FROM tenant WHERE tenant_id = $1',
);

export async function findZone({ actor, client }: Acting): Promise<string> {
  return (await run(client, ownZone, [actor.tenantId]))[0]?.timeZone ?? 'UTC';
}

// The tenant's own day lies at most a day beside UTC's.
const ofNodes = statement<SeriesRow>(
  'usage.series_nodes',
  `SELECT CASE $2 WHEN 'node' THEN node_id::text WHEN 'engine' THEN engine::text ELSE tenant_id::text END AS key,
          date_trunc($3, hour, $4) AS at, least(sum(up_bytes), 9223372036854775807)::int8 AS "upBytes",
          least(sum(down_bytes), 9223372036854775807)::int8 AS "downBytes",
          least(sum(billable_bytes), 9223372036854775807)::int8 AS "billableBytes"
     FROM usage_node_hour
    WHERE tenant_id = $1 AND day >= $5::timestamptz::date - 2 AND day <= $6::timestamptz::date + 2
      AND hour >= $5 AND hour < $6 AND ($7::uuid IS NULL OR node_id = $7) AND ($8::smallint IS NULL OR engine = $8)
    GROUP BY 1, 2 ORDER BY 1, 2 LIMIT $9`,
);

// Row security lets only the platform see more than one tenant here.
const ofAllNodes = statement<SeriesRow>(
  'usage.series_all_nodes',
  `SELECT CASE $1 WHEN 'node' THEN node_id::text WHEN 'engine' THEN engine::text ELSE tenant_id::text END AS key,
          date_trunc($2, hour, $3) AS at, least(sum(up_bytes), 9223372036854775807)::int8 AS "upBytes",
          least(sum(down_bytes), 9223372036854775807)::int8 AS "downBytes",
          least(sum(billable_bytes), 9223372036854775807)::int8 AS "billableBytes"
     FROM usage_node_hour
    WHERE hour >= $4 AND hour < $5 AND ($6::uuid IS NULL OR node_id = $6) AND ($7::smallint IS NULL OR engine = $7)
    GROUP BY 1, 2 ORDER BY 1, 2 LIMIT $8`,
);

export function listNodeSeries({ actor, client }: Acting, span: Span, all: boolean): Promise<SeriesRow[]> {
  const { by, step, timeZone, from, to, nodeId, engine, limit } = span;
  const values = [by, step, timeZone, from, to, nodeId, engine, limit];
  return all ? run(client, ofAllNodes, values) : run(client, ofNodes, [actor.tenantId, ...values]);
}

// Days as a list: each is one descent of the key, and months that hold none of them are not looked at. Where hours are no
// longer kept days answer; they are the tenant's own.
const ofSubscription = statement<SeriesRow>(
  'usage.series_subscription',
  `SELECT CASE $2 WHEN 'node' THEN node_id::text WHEN 'engine' THEN engine::text WHEN 'tenant' THEN $1::uuid::text
                  ELSE $10::uuid::text END AS key,
          date_trunc($3, at, $4) AS at, least(sum(up), 9223372036854775807)::int8 AS "upBytes",
          least(sum(down), 9223372036854775807)::int8 AS "downBytes",
          least(sum(billable), 9223372036854775807)::int8 AS "billableBytes"
     FROM (
       SELECT node_id, engine, hour AS at, up_bytes AS up, down_bytes AS down, billable_bytes AS billable FROM usage_hour
        WHERE tenant_id = $1 AND day = ANY ($11::date[]) AND day >= (SELECT series_begin()) AND subscription_id = $10 AND hour >= $5 AND hour < $6
       UNION ALL
       SELECT node_id, engine, day::timestamp AT TIME ZONE $4, up_bytes, down_bytes, billable_bytes FROM usage_day
        WHERE tenant_id = $1 AND day = ANY ($11::date[]) AND day < (SELECT series_begin()) AND subscription_id = $10
          AND day::timestamp AT TIME ZONE $4 >= $5 AND day::timestamp AT TIME ZONE $4 < $6
     ) AS used
    WHERE ($7::uuid IS NULL OR node_id = $7) AND ($8::smallint IS NULL OR engine = $8)
    GROUP BY 1, 2 ORDER BY 1, 2 LIMIT $9`,
);

/** `days`: every date that the span may touch. */
export function listSubscriptionSeries(
  { actor, client }: Acting,
  subscriptionId: SubscriptionId,
  span: Span,
  days: string[],
): Promise<SeriesRow[]> {
  const { by, step, timeZone, from, to, nodeId, engine, limit } = span;
  return run(client, ofSubscription, [
    ...[actor.tenantId, by, step, timeZone, from, to, nodeId, engine, limit],
    ...[subscriptionId, days],
  ]);
}

export interface TopRow extends UsageBytes {
  key: string;
  name: string | null;
}

export interface Days {
  by: Grouping;
  from: string;
  to: string;
  nodeId: string | null;
  engine: number | null;
  limit: number;
}

const topSubscriptions = statement<TopRow>(
  'usage.top_subscriptions',
  `SELECT u.key, s.name, u."upBytes", u."downBytes", u."billableBytes"
     FROM (
       SELECT subscription_id AS key, least(sum(up_bytes), 9223372036854775807)::int8 AS "upBytes",
              least(sum(down_bytes), 9223372036854775807)::int8 AS "downBytes",
              least(sum(billable_bytes), 9223372036854775807)::int8 AS "billableBytes"
         FROM usage_day
        WHERE tenant_id = $1 AND day >= $2 AND day <= $3 AND ($4::uuid IS NULL OR node_id = $4)
          AND ($5::smallint IS NULL OR engine = $5) AND ($7::uuid IS NULL OR subscription_id = $7)
        GROUP BY 1 ORDER BY 4 DESC, 1 LIMIT $6) u
     LEFT JOIN subscription s ON s.tenant_id = $1 AND s.subscription_id = u.key AND s.deleted_at IS NULL
    ORDER BY 5 DESC, 1`,
);

const topNodes = statement<TopRow>(
  'usage.top_nodes',
  `SELECT u.key, coalesce(n.name, t.name) AS name, u."upBytes", u."downBytes", u."billableBytes"
     FROM (
       SELECT CASE $1 WHEN 'node' THEN node_id::text WHEN 'engine' THEN engine::text ELSE tenant_id::text END AS key,
              least(sum(up_bytes), 9223372036854775807)::int8 AS "upBytes",
              least(sum(down_bytes), 9223372036854775807)::int8 AS "downBytes",
              least(sum(billable_bytes), 9223372036854775807)::int8 AS "billableBytes"
         FROM usage_node_hour
        WHERE ($7::uuid IS NULL OR tenant_id = $7) AND day >= $2 AND day <= $3 AND ($4::uuid IS NULL OR node_id = $4)
          AND ($5::smallint IS NULL OR engine = $5)
        GROUP BY 1 ORDER BY 4 DESC, 1 LIMIT $6) u
     LEFT JOIN node n ON $1 = 'node' AND n.node_id::text = u.key
     LEFT JOIN tenant t ON $1 = 'tenant' AND t.tenant_id::text = u.key
    ORDER BY 5 DESC, 1`,
);

/** Those with the most billable bytes first. `tenantId` null: over all tenants. */
export function listTopNodes({ client }: Acting, days: Days, tenantId: string | null): Promise<TopRow[]> {
  const { by, from, to, nodeId, engine, limit } = days;
  return run(client, topNodes, [by, from, to, nodeId, engine, limit, tenantId]);
}

export function listTopSubscriptions(
  { actor, client }: Acting,
  days: Days,
  subscriptionId: SubscriptionId | null,
): Promise<TopRow[]> {
  const { from, to, nodeId, engine, limit } = days;
  return run(client, topSubscriptions, [actor.tenantId, from, to, nodeId, engine, limit, subscriptionId]);
}
