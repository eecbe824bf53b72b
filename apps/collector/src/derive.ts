// Usage counters, meters and time series out of committed frames: summed in memory per stream, flushed as sets at least
// every second (meters and series: every 30 s).
// A flush is one transaction that moves each stream's watermark from where we left it (and only while the fence is ours)
// before it writes that stream's sums, so every frame is counted exactly once: after a failed or unknown COMMIT the same
// move is tried again, and a watermark that is not where we left it means that the stream is read again from the ledger.
import type { Client, Pool } from '@penstock/db/pool';
import { withTransaction } from '@penstock/db/transaction';
import type { Clock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import type { Logger } from '@penstock/service/logger';
import { writeCrossings } from './append.store.js';
import type { Crossing, Periods } from './crossing.js';
import {
  addToCounters,
  meterColumns,
  moveWatermarks,
  writeMeters,
  type MarkMove,
  type MeterColumns,
  type NearLimit,
} from './derive.store.js';
import type { CollectorMetrics } from './metrics.js';
import type { SeriesSums } from './series.js';
import { addToSeries, seriesColumns } from './series.store.js';
import { after, type Stream } from './stream.js';
import { addToMonths, TenantSums } from './months.store.js';
import type { Sums } from './subscriptions.js';

export const FLUSH_MS = 1_000;
/** Meters and series are flushed with the counters, but this often only. */
export const METERS_FLUSH_MS = 30_000;
/** One statement; a flush has as many as it needs. */
const ROWS_MAX = 20_000;
/** Streams of one transaction together have about this many sums. */
const TRANSACTION_ROWS_MAX = 100_000;
const SUM_MAX = 2 ** 52;

interface Part {
  move: MarkMove;
  sums: Sums;
  /** Meters to checkpoint: which, and what they stood at. */
  meters: number[] | null;
  columns: MeterColumns[];
  series: SeriesSums | null;
}

export class Deriver {
  private running: Promise<void> = Promise.resolve();
  /** When the last flush of everything ended well. */
  flushedAtMs: number;

  constructor(
    private readonly pool: Pool,
    private readonly periods: Periods,
    private readonly clock: Clock,
    private readonly log: Logger,
    private readonly metrics: CollectorMetrics,
  ) {
    this.flushedAtMs = clock.now();
  }

  /**
   * Flushes what is committed of these streams, series with the meters; one flush at a time. Throws when the database
   * fails.
   */
  flush(streams: Iterable<Stream>, withMeters: boolean): Promise<void> {
    const next = this.running.catch(() => undefined).then(() => this.flushAll([...streams], withMeters));
    this.running = next;
    return next;
  }

  private async flushAll(streams: readonly Stream[], withMeters: boolean): Promise<void> {
    let batch: Part[] = [];
    let rows = 0;
    for (const stream of streams) {
      const behind =
        after(stream.kept, stream.counterMark) || (withMeters && after(stream.kept, stream.meterMark));
      if (stream.ended !== null || !behind) continue;
      const part = takePart(stream, withMeters);
      batch.push(part);
      rows += part.sums.count;
      if (rows < TRANSACTION_ROWS_MAX) continue;
      await this.write(batch);
      batch = [];
      rows = 0;
    }
    if (batch.length > 0) await this.write(batch);
    this.flushedAtMs = this.clock.now();
  }

  private async write(parts: readonly Part[]): Promise<void> {
    const started = this.clock.monotonic();
    const tenantIds = [...new Set(parts.flatMap((p) => [...p.move.stream.tenants.values()]))];
    const at = new Date(this.clock.now());
    try {
      const result = await withTransaction(this.pool, (client) => this.writeAll(client, parts, at), {
        tenantIds,
      });
      for (const part of parts) this.finish(part, result.moved.has(part.move.stream.nodeId));
      this.learn(result.near, result.crossings);
    } catch (error) {
      for (const part of parts) this.putBack(part);
      throw error;
    } finally {
      this.metrics.transaction.observe({ step: 'flush' }, (this.clock.monotonic() - started) / 1000);
    }
  }

  private async writeAll(client: Client, parts: readonly Part[], at: Date) {
    const moved = await moveWatermarks(
      client,
      'counter',
      parts.map((p) => p.move),
    );
    const good = parts.filter((p) => moved.has(p.move.stream.nodeId));
    const checkpoints = good.filter((p) => p.meters !== null);
    if (checkpoints.length > 0) {
      const moves = checkpoints.map((p) => ({ ...p.move, from: p.move.stream.meterMark }));
      const metersMoved = await moveWatermarks(client, 'meter', moves);
      for (const part of checkpoints) {
        if (!metersMoved.has(part.move.stream.nodeId))
          throw new Error('the meter watermark is not where the fence says');
        for (const columns of part.columns) await writeMeters(client, columns);
      }
      await this.moveSeries(client, checkpoints);
    }
    const near: NearLimit[] = [];
    const crossings: Crossing[] = [];
    const months = new TenantSums(this.periods);
    const order = this.periods.order();
    for (const sums of merge(
      good.map((p) => p.sums),
      order.length,
    )) {
      const sorted = sortByKey(sums, order);
      months.add(sums);
      for (let i = 0; i < sorted.length; i += ROWS_MAX) {
        const found = await addToCounters(client, this.periods, sums, sorted.subarray(i, i + ROWS_MAX), at);
        near.push(...found);
        crossings.push(...this.crossed(found, sums));
      }
    }
    await addToMonths(client, months.rows());
    for (const columns of seriesColumns(checkpoints.map((p) => ({ stream: p.move.stream, sums: p.series }))))
      await addToSeries(client, columns);
    await writeCrossings(client, this.periods, crossings);
    return { moved, near, crossings };
  }

  private async moveSeries(client: Client, parts: readonly Part[]): Promise<void> {
    const moves = parts.map((p) => ({ ...p.move, from: p.move.stream.seriesMark }));
    const moved = await moveWatermarks(client, 'series', moves);
    if (moved.size !== parts.length) throw new Error('the series watermark is not where the fence says');
  }

  /** Counters that this flush brought to their limit and that memory has not reported. */
  private crossed(found: readonly NearLimit[], sums: Sums): Crossing[] {
    if (found.length === 0) return [];
    const added = new Map<number, number>();
    for (let i = 0; i < sums.count; i++) added.set(sums.period[i] as number, sums.billable[i] as number);
    const crossings: Crossing[] = [];
    for (const row of found) {
      const period = this.periods.find(row.name);
      const before = row.billableBytes - BigInt(added.get(period) ?? 0);
      const crossed = row.billableBytes >= row.limitBytes && before < row.limitBytes;
      if (period < 0 || !crossed || this.periods.wasReported(period, row.limitBytes)) continue;
      crossings.push({
        cause: 'crossing',
        period,
        observedBytes: row.billableBytes > row.observedBytes ? row.billableBytes : row.observedBytes,
      });
    }
    return crossings;
  }

  private finish(part: Part, moved: boolean): void {
    const { stream, fence, to } = part.move;
    if (moved) {
      for (let i = 0; i < part.sums.count; i++) {
        this.periods.flushed(part.sums.period[i] as number, part.sums.billable[i] as number);
      }
      stream.counterMark = to;
      if (part.meters !== null) stream.meterMark = stream.seriesMark = to;
      return;
    }
    this.putBack(part);
    // The same process may have opened the stream again meanwhile: then the next flush tries with the new fence.
    if (stream.ended !== null || stream.fence !== fence) return;
    this.log.warn(
      { nodeId: stream.nodeId, fence, epoch: to.epoch, seq: to.seq },
      'the watermark was moved by somebody else',
    );
    stream.end(new AppError('fenced', 'a newer connection of the node took over'));
  }

  private putBack(part: Part): void {
    const { stream } = part.move;
    stream.subscriptions.rollBack(part.sums);
    if (part.series !== null) stream.series.putBack(part.series);
    for (const meter of part.meters ?? []) stream.meters.change(meter);
    if (stream.ended !== null) forgetSums(stream, this.periods);
  }

  private learn(near: readonly NearLimit[], crossings: readonly Crossing[]): void {
    for (const row of near) {
      const period = this.periods.find(row.name);
      const used = row.billableBytes > row.observedBytes ? row.billableBytes : row.observedBytes;
      if (period >= 0) this.periods.refresh(period, row.limitBytes, used);
      const reported = crossings.some((c) => c.period === period);
      if (reported) this.periods.markReported(period, row.limitBytes);
    }
    if (crossings.length > 0) this.metrics.crossings.inc({ found: 'flush' }, crossings.length);
  }
}

/** Usage of a stream that was thrown away no longer counts in the hints. */
export function forgetSums(stream: Stream, periods: Periods): void {
  const sums = stream.subscriptions.takeSums();
  for (let i = 0; i < sums.count; i++) periods.unuse(sums.period[i] as number, sums.billable[i] as number);
}

/** Everything up to one committed frame, taken at once. */
function takePart(stream: Stream, withMeters: boolean): Part {
  const meters = withMeters ? stream.meters.takeChanges() : null;
  const columns: MeterColumns[] = [];
  for (let i = 0; i < (meters?.length ?? 0); i += ROWS_MAX) {
    columns.push(meterColumns(stream, (meters ?? []).slice(i, i + ROWS_MAX)));
  }
  return {
    move: { stream, fence: stream.fence, from: stream.counterMark, to: stream.kept },
    sums: stream.subscriptions.takeSums(),
    meters,
    columns,
    series: withMeters ? stream.series.take() : null,
  };
}

/** Sums of several streams, each period once a set; a second set only where a number would no longer be exact. */
function merge(parts: readonly Sums[], periods: number): Sums[] {
  const total = parts.reduce((sum, p) => sum + p.count, 0);
  if (total === 0) return [];
  const place = new Int32Array(periods).fill(-1);
  const merged: Sums = {
    count: 0,
    period: new Int32Array(total),
    up: new Float64Array(total),
    down: new Float64Array(total),
    billable: new Float64Array(total),
  };
  const rest: [number, number, number, number][] = [];
  for (const part of parts) {
    for (let i = 0; i < part.count; i++) {
      const period = part.period[i] as number;
      const up = part.up[i] as number;
      const down = part.down[i] as number;
      const billable = part.billable[i] as number;
      let at = place[period] as number;
      if (at < 0) {
        at = place[period] = merged.count++;
        merged.period[at] = period;
      } else if (
        (merged.up[at] as number) + (merged.down[at] as number) + up + down > SUM_MAX ||
        (merged.billable[at] as number) + billable > SUM_MAX
      ) {
        rest.push([period, up, down, billable]);
        continue;
      }
      merged.up[at] = (merged.up[at] as number) + up;
      merged.down[at] = (merged.down[at] as number) + down;
      merged.billable[at] = (merged.billable[at] as number) + billable;
    }
  }
  if (rest.length === 0) return [merged];
  const others: Sums = {
    count: rest.length,
    period: Int32Array.from(rest, (r) => r[0]),
    up: Float64Array.from(rest, (r) => r[1]),
    down: Float64Array.from(rest, (r) => r[2]),
    billable: Float64Array.from(rest, (r) => r[3]),
  };
  return [merged, ...merge([others], periods)];
}

/** Indexes of the sums in the order of their keys. */
function sortByKey(sums: Sums, order: Int32Array): Int32Array {
  const ranks = new Float64Array(sums.count);
  for (let i = 0; i < sums.count; i++) ranks[i] = (order[sums.period[i] as number] as number) * 2 ** 21 + i;
  ranks.sort();
  return Int32Array.from(ranks, (rank) => rank % 2 ** 21);
}
