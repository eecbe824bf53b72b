// What the collector remembers of subscriptions' periods: limit and usage, so that a crossing is seen in memory while a
// frame is being appended. It is a hint that makes enforcement fast; the flush's RETURNING (derive.ts) makes it certain.
// used = base + unflushed; base = greatest(counter, observed) as the database last said, unflushed = what this process
// has validated since. One crossing is reported per period and limit. One table a process, shared by all streams.
import { BYTES_MAX } from '@penstock/domain/terms';
import { grown } from './growable.js';

export interface PeriodRow {
  /** Hex of tenant and subscription, 64 digits. */
  key: string;
  periodId: Buffer;
  startedAtMs: number;
  /** Infinity while open. */
  endsAtMs: number;
  limitBytes: bigint | null;
  /** greatest(counter, observed). */
  usedBytes: bigint;
}

/** Accepted usage has reached a limit: becomes an access_change row in the append transaction. */
export interface Crossing {
  period: number;
  observedBytes: bigint;
}

/** A subscription whose last known period is over, or that has none, is asked for again after this. */
export const PERIOD_RECHECK_MS = 1_000;

export const PERIOD_NOT_LOADED = -1;
export const NO_PERIOD = -2;

interface Known {
  /** By start. */
  periods: number[];
  askedAtMs: number;
}

export class Periods {
  private count = 0;
  private capacity = 1024;
  private readonly known = new Map<string, Known>();
  private readonly keys: string[] = [];
  /** Tenant, subscription, period: 16 bytes each. */
  bytes = new Uint8Array(this.capacity * 48);
  private ranks = new Int32Array(0);
  private readonly base: bigint[] = [];
  private readonly limits: (bigint | null)[] = [];
  private readonly reported: (bigint | null)[] = [];
  starts = new Float64Array(this.capacity);
  ends = new Float64Array(this.capacity);
  /** A hint: no longer exact above 2^53 bytes within one flush. */
  private unflushed = new Float64Array(this.capacity);
  /** What `unflushed` may grow to before the exact comparison is made. */
  private room = new Float64Array(this.capacity);

  /**
   * The period that usage at `atMs` counts in: the last one that began before it, else the first (the node's window may
   * begin a moment before its customer's first period). PERIOD_NOT_LOADED: load it and ask again.
   */
  at(key: string, atMs: number, nowMs: number): number {
    const known = this.known.get(key);
    if (known === undefined) return PERIOD_NOT_LOADED;
    const fresh = nowMs - known.askedAtMs < PERIOD_RECHECK_MS;
    let found = known.periods[0];
    if (found === undefined) return fresh ? NO_PERIOD : PERIOD_NOT_LOADED;
    for (const period of known.periods) if ((this.starts[period] as number) <= atMs) found = period;
    if (atMs >= (this.ends[found] as number) && found === known.periods.at(-1) && !fresh)
      return PERIOD_NOT_LOADED;
    return found;
  }

  /** Takes what the database says of `keys`; keys without a row have no period. */
  load(keys: Iterable<string>, rows: readonly PeriodRow[], nowMs: number): void {
    for (const key of keys) {
      const known = this.known.get(key);
      if (known === undefined) this.known.set(key, { periods: [], askedAtMs: nowMs });
      else known.askedAtMs = nowMs;
    }
    for (const row of rows) {
      const known = this.known.get(row.key);
      if (known === undefined) continue;
      const old = known.periods.find((p) =>
        row.periodId.equals(this.bytes.subarray(p * 48 + 32, p * 48 + 48)),
      );
      if (old !== undefined) {
        this.ends[old] = row.endsAtMs;
        this.limits[old] = row.limitBytes;
        this.measure(old);
        continue;
      }
      const period = this.add(row);
      known.periods.push(period);
      known.periods.sort((a, b) => (this.starts[a] as number) - (this.starts[b] as number));
    }
  }

  /** Adds validated usage; tells the crossing when this is the usage that reaches the limit. */
  use(period: number, billable: number): Crossing | null {
    const unflushed = (this.unflushed[period] as number) + billable;
    this.unflushed[period] = unflushed;
    if (unflushed < (this.room[period] as number)) return null;
    const limit = this.limits[period] ?? null;
    const used = this.used(period);
    if (limit === null || used < limit || this.reported[period] === limit) return null;
    this.reported[period] = limit;
    this.room[period] = Infinity;
    return { period, observedBytes: used };
  }

  /** Takes validated usage back: its frame was never committed, or its stream was taken over. */
  unuse(period: number, billable: number): void {
    this.unflushed[period] = Math.max(0, (this.unflushed[period] as number) - billable);
  }

  /** A crossing's transaction failed: it is to be reported again. */
  unreport(crossing: Crossing): void {
    this.reported[crossing.period] = null;
    this.measure(crossing.period);
  }

  /** A flush has put `billable` of our unflushed usage into the counter. */
  flushed(period: number, billable: number): void {
    this.base[period] = clamp((this.base[period] as bigint) + BigInt(billable));
    this.unuse(period, billable);
    this.measure(period);
  }

  /** What the database says after a flush: includes what other collectors counted. */
  refresh(period: number, limitBytes: bigint | null, usedBytes: bigint): void {
    if (usedBytes > (this.base[period] as bigint)) this.base[period] = usedBytes;
    this.limits[period] = limitBytes;
    this.measure(period);
  }

  /** True when this process has already reported that usage of the period reached `limit`. */
  wasReported(period: number, limit: bigint): boolean {
    return this.reported[period] === limit;
  }

  markReported(period: number, limit: bigint): void {
    this.reported[period] = limit;
    this.measure(period);
  }

  /** Index of a period by the hex of tenant, subscription and period; -1 when it is not known. */
  find(name: string): number {
    const id = Buffer.from(name.slice(64), 'hex');
    const known = this.known.get(name.slice(0, 64));
    return known?.periods.find((p) => id.equals(this.bytes.subarray(p * 48 + 32, p * 48 + 48))) ?? -1;
  }

  /** Order of all periods by key: what flushes sort by, so that locks are taken in key order. */
  order(): Int32Array {
    if (this.ranks.length !== this.count) {
      const sorted = Array.from({ length: this.count }, (_, i) => i);
      const name = (p: number): string => this.keys[p] as string;
      sorted.sort((a, b) => {
        if (name(a) !== name(b)) return name(a) < name(b) ? -1 : 1;
        return Buffer.compare(
          this.bytes.subarray(a * 48 + 32, a * 48 + 48),
          this.bytes.subarray(b * 48 + 32, b * 48 + 48),
        );
      });
      this.ranks = new Int32Array(this.count);
      sorted.forEach((period, rank) => (this.ranks[period] = rank));
    }
    return this.ranks;
  }

  /** Hex of tenant and subscription. */
  keyOf(period: number): string {
    return this.keys[period] as string;
  }

  used(period: number): bigint {
    return clamp((this.base[period] as bigint) + BigInt(Math.round(this.unflushed[period] as number)));
  }

  private add(row: PeriodRow): number {
    if (this.count === this.capacity) this.grow();
    const period = this.count++;
    this.keys.push(row.key);
    this.bytes.set(Buffer.from(row.key, 'hex'), period * 48);
    this.bytes.set(row.periodId, period * 48 + 32);
    this.base.push(row.usedBytes);
    this.limits.push(row.limitBytes);
    // What the database already holds was reported by whoever wrote it.
    this.reported.push(row.limitBytes !== null && row.usedBytes >= row.limitBytes ? row.limitBytes : null);
    this.starts[period] = row.startedAtMs;
    this.ends[period] = row.endsAtMs;
    this.measure(period);
    return period;
  }

  private measure(period: number): void {
    const limit = this.limits[period] ?? null;
    this.room[period] =
      limit === null || this.reported[period] === limit
        ? Infinity
        : Number(limit - (this.base[period] as bigint));
  }

  private grow(): void {
    this.capacity *= 2;
    this.bytes = grown(this.bytes, this.capacity * 48);
    this.starts = grown(this.starts, this.capacity);
    this.ends = grown(this.ends, this.capacity);
    this.unflushed = grown(this.unflushed, this.capacity);
    this.room = grown(this.room, this.capacity);
  }
}

function clamp(bytes: bigint): bigint {
  return bytes > BYTES_MAX ? BYTES_MAX : bytes;
}
