// SQL of the flush. The watermark moves first, and only for streams that are still ours and stand where we left them;
// then counters grow by sets, in key order (INSERT … ON CONFLICT takes its rows in the order given, so two collectors
// with common subscriptions cannot deadlock; an UPDATE … FROM may join in any order).
import type { Client } from '@penstock/db/pool';
import { run, statement } from '@penstock/db/statement';
import { FixedArray, variableArray } from './binary-array.js';
import type { Periods } from './crossing.js';
import type { Meters } from './meters.js';
import type { Position, Stream } from './stream.js';
import type { Sums } from './subscriptions.js';

const moveMarks = statement<{ nodeId: string }>(
  'stream_watermark.move',
  `UPDATE stream_watermark AS w SET epoch = i.te, seq = i.tq
   FROM unnest($2::uuid[], $3::bigint[], $4::int4[], $5::bigint[], $6::int4[], $7::bigint[]) AS i (n, f, fe, fq, te, tq)
   WHERE w.node_id = i.n AND w.kind = $1 AND w.epoch = i.fe AND w.seq = i.fq AND w.fence = i.f
   RETURNING w.node_id AS "nodeId"`,
);

const lockMarks = statement<{ nodeId: string }>(
  'stream_watermark.lock',
  `SELECT node_id AS "nodeId" FROM stream_watermark WHERE kind = $1 AND node_id = ANY ($2::uuid[])
   ORDER BY node_id FOR UPDATE`,
);

export interface MarkMove {
  stream: Stream;
  fence: bigint;
  from: Position;
  to: Position;
}

/** Moves watermarks; returns the nodes whose watermark moved. */
export async function moveWatermarks(
  client: Client,
  kind: 'counter' | 'meter' | 'series',
  moves: readonly MarkMove[],
): Promise<Set<string>> {
  const nodes = moves.map((m) => m.stream.nodeId);
  await run(client, lockMarks, [kind, nodes]);
  const moved = await run(client, moveMarks, [
    kind,
    nodes,
    moves.map((m) => m.fence.toString()),
    moves.map((m) => m.from.epoch),
    moves.map((m) => m.from.seq.toString()),
    moves.map((m) => m.to.epoch),
    moves.map((m) => m.to.seq.toString()),
  ]);
  return new Set(moved.map((row) => row.nodeId));
}

export interface NearLimit {
  /** Hex of tenant, subscription and period, 96 digits. */
  name: string;
  billableBytes: bigint;
  limitBytes: bigint;
  observedBytes: bigint;
}

// Numbers saturate at 2^63 − 1 rather than fail. Only counters within a tenth of their limit come back: they refresh the
// memory's hint and tell the crossings; all others would cost their parsing for nothing.
const addCounters = statement<NearLimit>(
  'usage_counter.add',
  `WITH counted AS (
     INSERT INTO usage_counter AS c (tenant_id, subscription_id, period_id, up_bytes, down_bytes, billable_bytes, updated_at)
     SELECT t, s, p, u, d, b, $7 FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int8[], $5::int8[], $6::int8[]) AS i (t, s, p, u, d, b)
     ON CONFLICT (tenant_id, subscription_id, period_id) DO UPDATE SET
       up_bytes = c.up_bytes + least(excluded.up_bytes, 9223372036854775807 - c.up_bytes),
       down_bytes = c.down_bytes + least(excluded.down_bytes, 9223372036854775807 - c.down_bytes),
       billable_bytes = c.billable_bytes + least(excluded.billable_bytes, 9223372036854775807 - c.billable_bytes),
       updated_at = excluded.updated_at
     RETURNING c.tenant_id, c.subscription_id, c.period_id, c.billable_bytes
   )
   SELECT replace(n.tenant_id::text || n.subscription_id::text || n.period_id::text, '-', '') AS name,
          n.billable_bytes AS "billableBytes", p.limit_bytes AS "limitBytes", p.observed_bytes AS "observedBytes"
   FROM counted n JOIN usage_period p USING (tenant_id, subscription_id, period_id)
   WHERE p.limit_bytes IS NOT NULL AND n.billable_bytes >= p.limit_bytes - p.limit_bytes / 10`,
);

/** Adds sums to counters. `indexes`: which sums, in key order, each period once. */
export function addToCounters(
  client: Client,
  periods: Periods,
  sums: Sums,
  indexes: Int32Array,
  at: Date,
): Promise<NearLimit[]> {
  const n = indexes.length;
  const tenant = new FixedArray('uuid', n);
  const subscription = new FixedArray('uuid', n);
  const period = new FixedArray('uuid', n);
  const up = new FixedArray('int8', n);
  const down = new FixedArray('int8', n);
  const billable = new FixedArray('int8', n);
  for (const i of indexes) {
    const id = (sums.period[i] as number) * 48;
    tenant.uuid(periods.bytes, id);
    subscription.uuid(periods.bytes, id + 16);
    period.uuid(periods.bytes, id + 32);
    up.count(sums.up[i] as number);
    down.count(sums.down[i] as number);
    billable.count(sums.billable[i] as number);
  }
  return run(client, addCounters, [
    tenant.buffer,
    subscription.buffer,
    period.buffer,
    up.buffer,
    down.buffer,
    billable.buffer,
    at,
  ]);
}

const upsertMeters = statement<Record<string, never>>(
  'meter.upsert',
  `INSERT INTO meter AS m (tenant_id, node_id, epoch, meter, engine, boot, subscription_id, device_id, cumulative_up, cumulative_down)
   SELECT t, $1, e, n, g, b, s, nullif(v, '00000000-0000-0000-0000-000000000000'), u, d
   FROM unnest($2::uuid[], $3::int4[], $4::int8[], $5::int2[], $6::bytea[], $7::uuid[], $8::uuid[], $9::int8[], $10::int8[])
     AS i (t, e, n, g, b, s, v, u, d)
   ON CONFLICT (tenant_id, node_id, epoch, meter) DO UPDATE SET boot = excluded.boot, device_id = excluded.device_id,
     cumulative_up = excluded.cumulative_up, cumulative_down = excluded.cumulative_down`,
);

/** One statement's worth of meters, as they stood when it was made. */
export interface MeterColumns {
  nodeId: string;
  columns: Buffer[];
}

/**
 * Takes down how far meters have come, at once: frames that are committed while the flush is under way must not get
 * into a checkpoint whose watermark lies before them.
 */
export function meterColumns(stream: Stream, indexes: readonly number[]): MeterColumns {
  const { meters, subscriptions } = stream;
  const n = indexes.length;
  const tenant = new FixedArray('uuid', n);
  const epoch = new FixedArray('int4', n);
  const number = new FixedArray('int8', n);
  const engine = new FixedArray('int2', n);
  const subscription = new FixedArray('uuid', n);
  const device = new FixedArray('uuid', n);
  const up = new FixedArray('int8', n);
  const down = new FixedArray('int8', n);
  for (const i of indexes) {
    const key = Buffer.from(subscriptions.keys[meters.subscription[i] as number] as string, 'hex');
    tenant.uuid(key, 0);
    epoch.int4(meters.epoch[i] as number);
    number.words(meters.high[i] as number, meters.low[i] as number);
    engine.int2(meters.engine[i] as number);
    subscription.uuid(key, 16);
    device.uuid(meters.identity, i * 32 + 16);
    up.words(meters.keptUpHigh[i] as number, meters.keptUpLow[i] as number);
    down.words(meters.keptDownHigh[i] as number, meters.keptDownLow[i] as number);
  }
  return {
    nodeId: stream.nodeId,
    columns: [
      tenant.buffer,
      epoch.buffer,
      number.buffer,
      engine.buffer,
      variableArray('bytea', bootsOf(meters, indexes)),
      subscription.buffer,
      device.buffer,
      up.buffer,
      down.buffer,
    ],
  };
}

/** Writes meters; a meter has one writer, the holder of its stream. */
export async function writeMeters(client: Client, meters: MeterColumns): Promise<void> {
  await run(client, upsertMeters, [meters.nodeId, ...meters.columns]);
}

function bootsOf(meters: Meters, indexes: readonly number[]): Uint8Array[] {
  return indexes.map((i) => meters.identity.subarray(i * 32, i * 32 + 16));
}
