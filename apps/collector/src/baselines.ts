// The last committed cumulatives of a node's meters: the meter table, page by page, overlaid with what memory has beyond
// the last checkpoint.
import type { Pool } from '@penstock/db/pool';
import { run } from '@penstock/db/statement';
import { withTransaction } from '@penstock/db/transaction';
import { idBytes, type NodeId } from '@penstock/domain/ids';
import { pageMeters, type MeterRow } from './load.store.js';
import type { Stream } from './stream.js';

export interface Baseline {
  meter: bigint;
  engine: number;
  boot: Buffer;
  tenantId: Buffer;
  subscriptionId: Buffer;
  /** All zero where there is none. */
  deviceId: Buffer;
  cumulativeUp: bigint;
  cumulativeDown: bigint;
}

const PAGE_METERS = 2_000;
const NO_DEVICE = Buffer.alloc(16);

/** Pages of at most PAGE_METERS meters, each meter once. `stream` null: the node has none yet. */
export async function* baselinePages(
  pool: Pool,
  stream: Stream | null,
  nodeId: NodeId,
  tenantIds: readonly string[],
): AsyncGenerator<Baseline[]> {
  const shown = new Set<number>();
  let after = 0n;
  for (;;) {
    const rows = await withTransaction(
      pool,
      (client) => run(client, pageMeters, [nodeId, after, PAGE_METERS]),
      { tenantIds },
    );
    const last = rows.at(-1);
    if (last === undefined) break;
    yield rows.map((row) => {
      const index = stream?.meters.find(Number(row.meter >> 32n), Number(row.meter & 0xffff_ffffn)) ?? -1;
      if (stream === null || index < 0) return ofRow(row);
      shown.add(index);
      return ofMemory(stream, index);
    });
    after = last.meter;
  }
  if (stream === null) return;
  let page: Baseline[] = [];
  for (let index = 0; index < stream.meters.count; index++) {
    if (shown.has(index) || !stream.meters.isKept(index)) continue;
    page.push(ofMemory(stream, index));
    if (page.length < PAGE_METERS) continue;
    yield page;
    page = [];
  }
  if (page.length > 0) yield page;
}

function ofRow(row: MeterRow): Baseline {
  return {
    meter: row.meter,
    engine: row.engine,
    boot: row.boot,
    tenantId: Buffer.from(idBytes(row.tenantId)),
    subscriptionId: Buffer.from(idBytes(row.subscriptionId)),
    deviceId: row.deviceId === null ? NO_DEVICE : Buffer.from(idBytes(row.deviceId)),
    cumulativeUp: row.cumulativeUp,
    cumulativeDown: row.cumulativeDown,
  };
}

function ofMemory(stream: Stream, index: number): Baseline {
  const { meters, subscriptions } = stream;
  const key = Buffer.from(subscriptions.keys[meters.subscription[index] as number] as string, 'hex');
  const number = (high: Uint32Array, low: Uint32Array): bigint =>
    (BigInt(high[index] as number) << 32n) | BigInt(low[index] as number);
  return {
    meter: number(meters.high, meters.low),
    engine: meters.engine[index] as number,
    boot: Buffer.from(meters.identity.subarray(index * 32, index * 32 + 16)),
    tenantId: key.subarray(0, 16),
    subscriptionId: key.subarray(16),
    deviceId: Buffer.from(meters.identity.subarray(index * 32 + 16, index * 32 + 32)),
    cumulativeUp: number(meters.keptUpHigh, meters.keptUpLow),
    cumulativeDown: number(meters.keptDownHigh, meters.keptDownLow),
  };
}
