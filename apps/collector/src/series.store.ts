// SQL of the series' flush. The hour and the day are the tenant's own (see the migration); sums of the same hour are put
// together before they touch a row, and saturate at 2^63 − 1 rather than fail a flush of everybody's usage. What a node sends has one writer, the holder of its stream, whose watermark has moved
// in the same transaction; released quarantine (release.ts) is the one exception. Measured (load 4): 10 to 13 µs a row,
// of which the upsert of the hour is 6; counters cost 9 to 11 in the same minute.
import type { Client } from '@penstock/db/pool';
import { run, statement } from '@penstock/db/statement';
import { idBytes } from '@penstock/domain/ids';
import { FixedArray } from './binary-array.js';
import { SERIES_BUCKET_MS, type SeriesSums } from './series.js';
import type { Stream } from './stream.js';

/** One statement; a flush has as many as it needs. */
const ROWS_MAX = 20_000;

const addSeries = statement<Record<string, never>>(
  'usage_hour.add',
  `WITH z AS MATERIALIZED (
     SELECT tenant_id, known_zone(time_zone) AS zone FROM tenant WHERE tenant_id = ANY (app_tenants())
   ), row AS MATERIALIZED (
     SELECT t, (a AT TIME ZONE coalesce(z.zone, 'UTC'))::date AS day, s, date_trunc('hour', a, coalesce(z.zone, 'UTC')) AS hour, n, e,
            least(sum(u), 9223372036854775807)::bigint AS u, least(sum(d), 9223372036854775807)::bigint AS d,
            least(sum(b), 9223372036854775807)::bigint AS b
     FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int2[], $5::timestamptz[], $6::int8[], $7::int8[], $8::int8[])
       AS i (t, s, n, e, a, u, d, b)
     LEFT JOIN z ON z.tenant_id = i.t
     GROUP BY 1, 2, 3, 4, 5, 6
   ), fine AS (
     INSERT INTO usage_hour AS h (tenant_id, day, subscription_id, hour, node_id, engine, up_bytes, down_bytes, billable_bytes)
     SELECT t, day, s, hour, n, e, u, d, b FROM row ORDER BY t, day, s
     ON CONFLICT (tenant_id, day, subscription_id, hour, node_id, engine) DO UPDATE SET
       up_bytes = h.up_bytes + least(excluded.up_bytes, 9223372036854775807 - h.up_bytes),
       down_bytes = h.down_bytes + least(excluded.down_bytes, 9223372036854775807 - h.down_bytes),
       billable_bytes = h.billable_bytes + least(excluded.billable_bytes, 9223372036854775807 - h.billable_bytes)
   )
   INSERT INTO usage_node_hour AS h (tenant_id, day, hour, node_id, engine, up_bytes, down_bytes, billable_bytes, updated_at)
   SELECT t, day, hour, n, e, least(sum(u), 9223372036854775807)::bigint, least(sum(d), 9223372036854775807)::bigint,
          least(sum(b), 9223372036854775807)::bigint, clock_timestamp() FROM row
   GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
   ON CONFLICT (tenant_id, day, hour, node_id, engine) DO UPDATE SET
     up_bytes = h.up_bytes + least(excluded.up_bytes, 9223372036854775807 - h.up_bytes),
     down_bytes = h.down_bytes + least(excluded.down_bytes, 9223372036854775807 - h.down_bytes),
     billable_bytes = h.billable_bytes + least(excluded.billable_bytes, 9223372036854775807 - h.billable_bytes),
     updated_at = excluded.updated_at`,
);

/** One statement's worth of sums. */
export type SeriesColumns = Buffer[];

/** The sums of several streams as parameters of as many statements as they need. */
export function* seriesColumns(
  parts: readonly { stream: Stream; sums: SeriesSums | null }[],
): Generator<SeriesColumns> {
  let left = parts.reduce((sum, part) => sum + (part.sums?.count ?? 0), 0);
  let room = 0;
  let made: ReturnType<typeof columns> | null = null;
  for (const { stream, sums } of parts) {
    for (let i = 0; i < (sums?.count ?? 0); i++) {
      if (sums === null) break;
      if (made === null) {
        room = Math.min(left, ROWS_MAX);
        made = columns(room);
      }
      const key = Buffer.from(stream.subscriptions.keys[sums.subscription[i] as number] as string, 'hex');
      made.tenant.uuid(key, 0);
      made.subscription.uuid(key, 16);
      made.node.uuid(stream.nodeBytes);
      made.engine.int2(sums.engine[i] as number);
      made.at.time((sums.bucket[i] as number) * SERIES_BUCKET_MS);
      made.up.count(sums.up[i] as number);
      made.down.count(sums.down[i] as number);
      made.billable.count(sums.billable[i] as number);
      left--;
      if (--room > 0) continue;
      yield Object.values(made).map((array) => array.buffer);
      made = null;
    }
  }
}

/** Released quarantine as parameters of one statement. */
export function releasedColumns(
  rows: readonly {
    tenantId: string;
    subscriptionId: string;
    nodeId: string;
    engine: number;
    atMs: number;
    upBytes: bigint;
    downBytes: bigint;
    billableBytes: bigint;
  }[],
): SeriesColumns {
  const made = columns(rows.length);
  for (const row of rows) {
    made.tenant.uuid(idBytes(row.tenantId));
    made.subscription.uuid(idBytes(row.subscriptionId));
    made.node.uuid(idBytes(row.nodeId));
    made.engine.int2(row.engine);
    made.at.time(row.atMs);
    made.up.int8(row.upBytes);
    made.down.int8(row.downBytes);
    made.billable.int8(row.billableBytes);
  }
  return Object.values(made).map((array) => array.buffer);
}

function columns(n: number) {
  return {
    tenant: new FixedArray('uuid', n),
    subscription: new FixedArray('uuid', n),
    node: new FixedArray('uuid', n),
    engine: new FixedArray('int2', n),
    at: new FixedArray('timestamptz', n),
    up: new FixedArray('int8', n),
    down: new FixedArray('int8', n),
    billable: new FixedArray('int8', n),
  };
}

/** Adds sums to the hours of subscriptions and of nodes. */
export async function addToSeries(client: Client, values: SeriesColumns): Promise<void> {
  await run(client, addSeries, values);
}
