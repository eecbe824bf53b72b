// The rows of a frame against the stream's meters: the hot path of the collector. Pure: reads the state, fills columns
// of the checked frame, changes nothing. Σ deltas = cumulative is checked for every row, as start = cumulative − delta
// against the meter's last value, in 32-bit words (no bigint is made for a row that is in order: 0.1 µs against 0.6).
import { AppError } from '@penstock/domain/errors';
import { engineNumber } from '@penstock/domain/terms';
import { OPENED_BYTES, openedMeters, type FrameView, type SliceView } from '@penstock/ledger/frame';
import { NO_PERIOD, PERIOD_NOT_LOADED, type Periods } from './crossing.js';
import type { MeterIdentity, Meters } from './meters.js';
import type { Stream } from './stream.js';

const WORD = 4_294_967_296;
const engines: ReadonlySet<number> = new Set(Object.values(engineNumber));
const NO_ID = Buffer.alloc(16);
/** No frame holds more than this; above, sums are no longer exact as doubles. It is quarantined. */
export const FRAME_USAGE_BYTES_MAX = 2 ** 50;
/** Distinct meters and subscriptions that one stream may show. */
export const METERS_MAX = 2_000_000;
export const SUBSCRIPTIONS_MAX = 1_000_000;

export const BILLED = 0;
export const NOT_ASSIGNED = 1;
export const NO_PERIOD_FOUND = 2;

/** What must be read from the database before the frame can be judged. */
export interface Missing {
  tenants: Set<string>;
  meters: Map<string, bigint>;
  /** Indexes in stream.subscriptions. */
  assignments: Set<number>;
  periods: Set<number>;
  certificate: Buffer | null;
}

/** What was asked for and is not there. */
export interface Known {
  absentMeters: ReadonlySet<string>;
  /** Tenants that the node never served. */
  absentTenants: ReadonlySet<string>;
}

export interface FreshMeter extends MeterIdentity {
  /** Index of a meter that is known already (only boot and device are filled), else -1. */
  existing: number;
  /** The frame has a row of it. */
  rowed: boolean;
}

/** The rows of a whole frame as columns, in order of slices. */
export interface RowColumns {
  count: number;
  /** Index in stream.meters, or -1 - index in fresh. */
  meter: Int32Array;
  subscription: Int32Array;
  /** Index in Periods, or -1 when the row is not billed. */
  period: Int32Array;
  state: Uint8Array;
  /** cumulative − last value: delta, and after a gap what healed. */
  up: Float64Array;
  down: Float64Array;
  /** What counts against the limit; filled when the frame is applied. */
  billable: Float64Array;
  fresh: FreshMeter[];
  upTotal: number;
  downTotal: number;
}

export function newMissing(): Missing {
  return {
    tenants: new Set(),
    meters: new Map(),
    assignments: new Set(),
    periods: new Set(),
    certificate: null,
  };
}

export function anyMissing(missing: Missing): boolean {
  return (
    missing.tenants.size + missing.meters.size + missing.assignments.size + missing.periods.size > 0 ||
    missing.certificate !== null
  );
}

function allocate(count: number): RowColumns {
  const bytes = new ArrayBuffer(count * 37);
  return {
    count,
    up: new Float64Array(bytes, 0, count),
    down: new Float64Array(bytes, count * 8, count),
    billable: new Float64Array(bytes, count * 16, count),
    meter: new Int32Array(bytes, count * 24, count),
    subscription: new Int32Array(bytes, count * 28, count),
    period: new Int32Array(bytes, count * 32, count),
    state: new Uint8Array(bytes, count * 36, count),
    fresh: [],
    upTotal: 0,
    downTotal: 0,
  };
}

export interface RowContext {
  stream: Stream;
  periods: Periods;
  known: Known;
  /** Time that usage counts at (window end; acceptance when the clock is implausible). */
  billAtMs: number;
  windowStartMs: number;
  nowMs: number;
  /** Replay of accepted frames: what was accepted is not judged again. */
  trusted: boolean;
  missing: Missing;
}

function malformed(message: string): AppError {
  return new AppError('frame_malformed', message, { field: 'frame' });
}

/** Resolves and checks all rows. When `context.missing` is not empty afterwards, load it and call again. */
export function checkRows(view: FrameView, context: RowContext): RowColumns {
  let count = 0;
  for (const slice of view.slices) count += slice.rows;
  const rows = allocate(count);
  const opened = new Map<string, number>();
  context.stream.validation++;
  let at = 0;
  for (const slice of view.slices) {
    const tenant = slice.tenantId.toString('hex');
    if (slice.opened > 0) openMeters(slice, tenant, view.header.epoch, context, rows.fresh, opened);
    checkSlice(slice, tenant, view, context, rows, at, opened);
    at += slice.rows;
  }
  return rows;
}

function openMeters(
  slice: SliceView,
  tenant: string,
  epoch: number,
  context: RowContext,
  fresh: FreshMeter[],
  opened: Map<string, number>,
): void {
  const { stream, missing, known } = context;
  for (const meter of openedMeters(slice)) {
    if (meter.meter === 0n || meter.meter > 0x7fff_ffff_ffff_ffffn)
      throw malformed('a meter number is out of range');
    if (!engines.has(meter.engine)) throw malformed('an engine is not known');
    const name = meter.meter.toString();
    if (opened.has(name)) throw malformed('a meter is opened twice in one frame');
    const high = Number(meter.meter >> 32n);
    const low = Number(meter.meter & 0xffff_ffffn);
    const existing = stream.meters.find(high, low);
    const subscription = subscriptionOf(stream, tenant, meter.subscription);
    if (existing >= 0) {
      requireSameIdentity(stream.meters, existing, meter.engine, subscription, meter.boot, meter.device);
    } else if (!known.absentMeters.has(name)) {
      missing.meters.set(name, meter.meter);
    }
    opened.set(name, fresh.length);
    fresh.push({
      rowed: false,
      existing,
      high,
      low,
      engine: meter.engine,
      subscription,
      epoch,
      boot: meter.boot,
      device: meter.device,
    });
  }
}

/** A meter belongs to one engine, subscription and device for ever; boot and device may be unknown after a gap. */
function requireSameIdentity(
  meters: Meters,
  index: number,
  engine: number,
  subscription: number,
  boot: Buffer,
  device: Buffer,
): void {
  const oldBoot = meters.identity.subarray(index * 32, index * 32 + 16);
  const oldDevice = meters.identity.subarray(index * 32 + 16, index * 32 + 32);
  const unknown = NO_ID.equals(oldBoot);
  const same =
    meters.engine[index] === engine &&
    meters.subscription[index] === subscription &&
    (unknown || (boot.equals(oldBoot) && device.equals(oldDevice)));
  if (!same) throw malformed('a meter is opened again as another one');
}

function subscriptionOf(stream: Stream, tenant: string, id: Buffer): number {
  const key = tenant + id.toString('hex');
  const found = stream.subscriptions.find(key);
  if (found >= 0) return found;
  if (stream.subscriptions.count >= SUBSCRIPTIONS_MAX)
    throw new AppError('payload_too_large', 'the stream shows too many subscriptions');
  return stream.subscriptions.add(key, id);
}

function checkSlice(
  slice: SliceView,
  tenant: string,
  view: FrameView,
  context: RowContext,
  rows: RowColumns,
  first: number,
  opened: Map<string, number>,
): void {
  const { stream, periods, missing, billAtMs, windowStartMs, trusted } = context;
  const { meters, subscriptions, validation } = stream;
  const n = slice.rows;
  const bytes = new DataView(slice.payload.buffer, slice.payload.byteOffset, slice.payload.length);
  const atSubscription = slice.opened * OPENED_BYTES;
  const atEngine = atSubscription + n * 16;
  const atMeter = atSubscription + n * 17;
  const atDeltaUp = atSubscription + n * 25;
  const atDeltaDown = atSubscription + n * 33;
  const atUp = atSubscription + n * 41;
  const atDown = atSubscription + n * 49;
  for (let i = 0; i < n; i++) {
    const row = first + i;
    const high = bytes.getUint32(atMeter + i * 8);
    const low = bytes.getUint32(atMeter + i * 8 + 4);
    const engine = bytes.getUint8(atEngine + i);
    let meter = meters.find(high, low);
    let lastUpHigh = 0;
    let lastUpLow = 0;
    let lastDownHigh = 0;
    let lastDownLow = 0;
    let healable: boolean;
    let s: number;
    if (meter >= 0) {
      if (meters.seen[meter] === validation) throw malformed('a meter has two rows in one frame');
      meters.seen[meter] = validation;
      s = meters.subscription[meter] as number;
      if (meters.engine[meter] !== engine) throw malformed('a row names another engine than its meter');
      const words = subscriptions.words;
      const at = atSubscription + i * 16;
      if (
        words[s * 4] !== bytes.getUint32(at) ||
        words[s * 4 + 1] !== bytes.getUint32(at + 4) ||
        words[s * 4 + 2] !== bytes.getUint32(at + 8) ||
        words[s * 4 + 3] !== bytes.getUint32(at + 12)
      ) {
        throw malformed('a row names another subscription than its meter');
      }
      lastUpHigh = meters.lastUpHigh[meter] as number;
      lastUpLow = meters.lastUpLow[meter] as number;
      lastDownHigh = meters.lastDownHigh[meter] as number;
      lastDownLow = meters.lastDownLow[meter] as number;
      healable = (meters.gap[meter] as number) < stream.gaps;
    } else {
      const found = freshMeter(slice, tenant, view, context, rows, i, high, low, engine, opened);
      if (found < 0) continue;
      meter = -1 - found;
      s = (rows.fresh[found] as FreshMeter).subscription;
      healable = stream.gaps > 0;
    }
    const upHigh = bytes.getUint32(atUp + i * 8);
    const upLow = bytes.getUint32(atUp + i * 8 + 4);
    const downHigh = bytes.getUint32(atDown + i * 8);
    const downLow = bytes.getUint32(atDown + i * 8 + 4);
    const sumUpLow = lastUpLow + bytes.getUint32(atDeltaUp + i * 8 + 4);
    const sumUpHigh = lastUpHigh + bytes.getUint32(atDeltaUp + i * 8) + (sumUpLow >= WORD ? 1 : 0);
    const sumDownLow = lastDownLow + bytes.getUint32(atDeltaDown + i * 8 + 4);
    const sumDownHigh = lastDownHigh + bytes.getUint32(atDeltaDown + i * 8) + (sumDownLow >= WORD ? 1 : 0);
    if (upHigh > 0x7fff_ffff || downHigh > 0x7fff_ffff) throw malformed('a counter is out of range');
    if (
      (sumUpLow >>> 0 !== upLow ||
        sumUpHigh !== upHigh ||
        sumDownLow >>> 0 !== downLow ||
        sumDownHigh !== downHigh) &&
      !trusted
    ) {
      const startsHigher =
        heals(bytes, atUp + i * 8, atDeltaUp + i * 8, lastUpHigh, lastUpLow) &&
        heals(bytes, atDown + i * 8, atDeltaDown + i * 8, lastDownHigh, lastDownLow);
      if (!healable || !startsHigher) {
        throw new AppError('sum_mismatch', 'a row does not start where its meter ended', { field: 'frame' });
      }
    }
    const up = (upHigh - lastUpHigh) * WORD + (upLow - lastUpLow);
    const down = (downHigh - lastDownHigh) * WORD + (downLow - lastDownLow);
    if (up < 0 || down < 0) throw new Error('the ledger says less than the checkpoint of a meter');
    rows.meter[row] = meter;
    rows.subscription[row] = s;
    rows.up[row] = up;
    rows.down[row] = down;
    rows.upTotal += up;
    rows.downTotal += down;

    if (!trusted) {
      const from = subscriptions.from[s] as number;
      if (Number.isNaN(from)) {
        missing.assignments.add(s);
      } else if (billAtMs < from || windowStartMs > (subscriptions.until[s] as number)) {
        rows.state[row] = NOT_ASSIGNED;
        rows.period[row] = -1;
        continue;
      }
    }
    let period = subscriptions.period[s] as number;
    if (
      period < 0 ||
      billAtMs < (periods.starts[period] as number) ||
      billAtMs >= (periods.ends[period] as number)
    ) {
      period = periods.at(subscriptions.keys[s] as string, billAtMs, context.nowMs);
      if (period === PERIOD_NOT_LOADED) {
        missing.periods.add(s);
        continue;
      }
    }
    rows.period[row] = period;
    if (period === NO_PERIOD) {
      rows.state[row] = NO_PERIOD_FOUND;
      rows.period[row] = -1;
    }
  }
}

/** Index in `rows.fresh` of a row's meter that the stream does not have yet; -1 when it must be looked up first. */
function freshMeter(
  slice: SliceView,
  tenant: string,
  view: FrameView,
  context: RowContext,
  rows: RowColumns,
  i: number,
  high: number,
  low: number,
  engine: number,
  opened: Map<string, number>,
): number {
  const { stream, missing, known } = context;
  const number = (BigInt(high) << 32n) | BigInt(low);
  const name = number.toString();
  const atRows = slice.opened * OPENED_BYTES;
  const id = slice.payload.subarray(atRows + i * 16, atRows + i * 16 + 16);
  const index = opened.get(name);
  if (index !== undefined) {
    const meter = rows.fresh[index] as FreshMeter;
    const subscription = stream.subscriptions.find(tenant + id.toString('hex'));
    if (meter.engine !== engine || meter.subscription !== subscription) {
      throw malformed('a row names another subscription or engine than its meter');
    }
    if (meter.rowed) throw malformed('a meter has two rows in one frame');
    meter.rowed = true;
    return missing.meters.has(name) ? -1 : index;
  }
  if (number === 0n || number > 0x7fff_ffff_ffff_ffffn || !engines.has(engine))
    throw malformed('a row names no meter');
  if (!known.absentMeters.has(name)) {
    missing.meters.set(name, number);
    return -1;
  }
  // After a gap the opening may be what was lost; subscription and engine then come from the row.
  if (stream.gaps === 0 && !context.trusted) throw malformed('a row names a meter that was never opened');
  opened.set(name, rows.fresh.length);
  const subscription = subscriptionOf(stream, tenant, id);
  rows.fresh.push({
    rowed: true,
    existing: -1,
    high,
    low,
    engine,
    subscription,
    epoch: view.header.epoch,
    boot: NO_ID,
    device: NO_ID,
  });
  return rows.fresh.length - 1;
}

/** True when the row starts at or above the last value: cumulative − delta ≥ last. */
function heals(
  bytes: DataView,
  atCumulative: number,
  atDelta: number,
  lastHigh: number,
  lastLow: number,
): boolean {
  const start = bytes.getBigUint64(atCumulative) - bytes.getBigUint64(atDelta);
  return start >= ((BigInt(lastHigh) << 32n) | BigInt(lastLow));
}
