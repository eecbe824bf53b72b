// What the collector remembers of subscriptions' periods: limit and usage, so that a crossing is seen in memory while a
// frame is being appended. It is a hint that makes enforcement fast; the flush's RETURNING (derive.ts) makes it certain.
// used = base + unflushed; base = greatest(counter, observed) as the database last said, unflushed = what this process
// has validated since. One crossing is reported per period and limit. A period that waits for its subscription's first use
// reports that too, in the transaction that accepts it. One table a process, shared by all streams; what no stream knows
// any more, or ended long ago, is forgotten (sweep).
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
  /** Its subscription is on hold until it is used. */
  awaitsUse: boolean;
}

/** Accepted usage has reached a limit, or is the first of one on hold: an access_change row of the append transaction. */
export interface Crossing {
  cause: 'crossing' | 'first_use';
  period: number;
  observedBytes: bigint;
}

/** A subscription whose last known period is over, or that has none, is asked for again after this. */
export const PERIOD_RECHECK_MS = 1_000;

export const PERIOD_NOT_LOADED = -1;
export const NO_PERIOD = -2;

/** Usage of a period that ended before this cannot arrive any more: windows that are older count as of now. */
export const PERIODS_BACK_MS = 40 * 86_400_000;
/**
 * A forgotten period's place is given to another one after this: longer than any frame or sum that still names it can be
 * on its way to the database.
 */
export const PLACE_KEPT_MS = 30 * 60_000;
/** Keys looked at by a sweep before others get their turn. */
const SWEEP_KEYS_MAX = 20_000;

interface Known {
  /** By start. */
  periods: number[];
  askedAtMs: number;
  /** Number of the sweep in which a stream was last seen to use it. */
  seen: number;
}

/** Places that were given up, and when they may be used again. */
interface Left {
  periods: number[];
  freeAtMs: number;
}

/** The subscriptions of a stream, as far as a sweep is concerned. */
export interface PeriodUser {
  count: number;
  readonly keys: readonly string[];
  /** Index of the period of the last row; -1: none. */
  period: Int32Array;
}

export class Periods {
  private count = 0;
  private capacity = 1024;
  private readonly known = new Map<string, Known>();
  private readonly keys: string[] = [];
  /** Tenant, subscription, period: 16 bytes each. */
  bytes = new Uint8Array(this.capacity * 48);
  /** Places in the order of their keys, and each place's rank; both without `unranked`. */
  private sorted = new Int32Array(0);
  private ranks = new Int32Array(this.capacity);
  private unranked: number[] = [];
  private readonly left: Left[] = [];
  private readonly free: number[] = [];
  private sweepNumber = 0;
  private readonly base: bigint[] = [];
  private readonly limits: (bigint | null)[] = [];
  private readonly reported: (bigint | null)[] = [];
  starts = new Float64Array(this.capacity);
  ends = new Float64Array(this.capacity);
  /** A hint: no longer exact above 2^53 bytes within one flush. */
  private unflushed = new Float64Array(this.capacity);
  /** 1: waits for the first use. */
  private awaiting = new Uint8Array(this.capacity);
  /** Index in `tenants`. */
  tenantOf = new Int32Array(this.capacity);
  /** Hex, 32 digits. */
  readonly tenants: string[] = [];
  private readonly tenantIndex = new Map<string, number>();
  /** What `unflushed` may grow to before the exact comparison is made. */
  private room = new Float64Array(this.capacity);

  /**
   * The period that usage at `atMs` counts in: the last one that began before it, else the first (the node's window may
   * begin a moment before its customer's first period). PERIOD_NOT_LOADED: load it and ask again.
   */
  at(key: string, atMs: number, nowMs: number): number {
    const known = this.known.get(key);
    if (known === undefined) return PERIOD_NOT_LOADED;
    known.seen = this.sweepNumber;
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
      if (known === undefined) this.known.set(key, { periods: [], askedAtMs: nowMs, seen: this.sweepNumber });
      else {
        known.askedAtMs = nowMs;
        known.seen = this.sweepNumber;
      }
    }
    for (const row of rows) {
      const known = this.known.get(row.key);
      if (known === undefined) continue;
      const old = known.periods.find((p) =>
        row.periodId.equals(this.bytes.subarray(p * 48 + 32, p * 48 + 48)),
      );
      if (old !== undefined) {
        this.starts[old] = row.startedAtMs;
        known.periods.sort((a, b) => (this.starts[a] as number) - (this.starts[b] as number));
        this.awaiting[old] = row.awaitsUse ? 1 : 0;
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

  /** The periods of a subscription (hex of tenant and subscription; '' for all) changed: they are asked for again. */
  forget(key: string): void {
    if (key === '') for (const each of this.known.keys()) this.forgetOne(each);
    else this.forgetOne(key);
  }

  private forgetOne(key: string): void {
    const known = this.known.get(key);
    if (known === undefined) return;
    known.askedAtMs = -Infinity;
    // Whatever falls into the last one is looked up; earlier ones are over and stay as they are.
    const last = known.periods.at(-1);
    if (last !== undefined) this.ends[last] = this.starts[last] as number;
  }

  /** The first real use in a period that waits for it; null ever after. */
  begin(period: number): Crossing | null {
    if (this.awaiting[period] === 0) return null;
    this.awaiting[period] = 0;
    return { cause: 'first_use', period, observedBytes: 0n };
  }

  awaits(period: number): boolean {
    return this.awaiting[period] === 1;
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
    return { cause: 'crossing', period, observedBytes: used };
  }

  /** Takes validated usage back: its frame was never committed, or its stream was taken over. */
  unuse(period: number, billable: number): void {
    this.unflushed[period] = Math.max(0, (this.unflushed[period] as number) - billable);
  }

  /** A crossing's transaction failed: it is to be reported again. */
  unreport(crossing: Crossing): void {
    if (crossing.cause === 'first_use') {
      this.awaiting[crossing.period] = 1;
      return;
    }
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

  /**
   * Rank of each period by key: what flushes sort by, so that locks are taken in key order. Only periods that are new
   * since the last call are compared (sorting all 200,000 when one was added held the loop for a second); a copy of the
   * ranks is what is left, 0.3 ms.
   */
  order(): Int32Array {
    if (this.unranked.length > 0) {
      const fresh = this.unranked.sort((a, b) => this.compare(a, b));
      this.unranked = [];
      this.sorted = this.merged(fresh);
      this.sorted.forEach((period, rank) => (this.ranks[period] = rank));
    }
    return this.ranks;
  }

  /** Order of two periods by tenant, subscription and period. Byte by byte: ten times as fast as two views of them. */
  compare(a: number, b: number): number {
    const { bytes } = this;
    for (let i = a * 48, j = b * 48, end = i + 48; i < end; i++, j++) {
      const difference = (bytes[i] as number) - (bytes[j] as number);
      if (difference !== 0) return difference;
    }
    return 0;
  }

  /** `sorted` with `fresh`, which is sorted too: each finds its place by halves. */
  private merged(fresh: readonly number[]): Int32Array<ArrayBuffer> {
    const { sorted } = this;
    const next = new Int32Array(sorted.length + fresh.length);
    let from = 0;
    fresh.forEach((period, i) => {
      let low = from;
      let high = sorted.length;
      while (low < high) {
        const middle = (low + high) >>> 1;
        if (this.compare(sorted[middle] as number, period) < 0) low = middle + 1;
        else high = middle;
      }
      next.set(sorted.subarray(from, low), from + i);
      next[low + i] = period;
      from = low;
    });
    next.set(sorted.subarray(from), from + fresh.length);
    return next;
  }

  /**
   * Forgets keys that none of `streams` shows and periods that ended before PERIODS_BACK_MS, in turns, and gives their
   * places away later. `streams`: for each stream of the process, those that are being opened first, its keys and the
   * period that it remembers for each; asked twice. Returns how many periods were forgotten. Sums must have been flushed
   * lately: a place is not given away while one could still name it.
   */
  async sweep(
    streams: () => Iterable<PeriodUser>,
    nowMs: number,
    turn: () => Promise<void>,
  ): Promise<number> {
    this.reuse(nowMs);
    const number = ++this.sweepNumber;
    let looked = 0;
    for (const user of streams()) {
      for (let i = 0; i < user.count; i++) {
        const known = this.known.get(user.keys[i] as string);
        if (known !== undefined) known.seen = number;
        if (++looked % SWEEP_KEYS_MAX === 0) await turn();
      }
    }
    const gone: number[] = [];
    for (const [key, known] of this.known) {
      if (known.seen !== number) {
        this.known.delete(key);
        gone.push(...known.periods);
      } else if (known.askedAtMs !== -Infinity) {
        // Not of one that is to be asked for again: its end is not the true one (forget), and the same period in a
        // second place would be one row twice in a flush.
        const isOver = (p: number): boolean => (this.ends[p] as number) < nowMs - PERIODS_BACK_MS;
        const over = known.periods.filter(isOver);
        if (over.length > 0) known.periods = known.periods.filter((p) => !isOver(p));
        gone.push(...over);
      }
      if (++looked % SWEEP_KEYS_MAX === 0) await turn();
    }
    if (gone.length === 0) return 0;
    // In one turn: whoever still remembers one of them asks again.
    const leaving = new Uint8Array(this.count);
    for (const period of gone) leaving[period] = 1;
    for (const user of streams()) {
      for (let i = 0; i < user.count; i++) if (leaving[user.period[i] as number] === 1) user.period[i] = -1;
    }
    this.left.push({ periods: gone, freeAtMs: nowMs + PLACE_KEPT_MS });
    return gone.length;
  }

  /** How many periods are known. */
  size(): number {
    return this.count - this.free.length - this.left.reduce((sum, left) => sum + left.periods.length, 0);
  }

  private reuse(nowMs: number): void {
    const due: number[] = [];
    while ((this.left[0]?.freeAtMs ?? Infinity) <= nowMs) due.push(...(this.left.shift()?.periods ?? []));
    if (due.length === 0) return;
    const freed = new Set(due);
    this.unranked = this.unranked.filter((period) => !freed.has(period));
    this.sorted = this.sorted.filter((period) => !freed.has(period));
    this.free.push(...freed);
  }

  /** Hex of tenant and subscription. */
  keyOf(period: number): string {
    return this.keys[period] as string;
  }

  used(period: number): bigint {
    return clamp((this.base[period] as bigint) + BigInt(Math.round(this.unflushed[period] as number)));
  }

  private add(row: PeriodRow): number {
    if (this.free.length === 0 && this.count === this.capacity) this.grow();
    const period = this.free.pop() ?? this.count++;
    this.keys[period] = row.key;
    this.bytes.set(Buffer.from(row.key, 'hex'), period * 48);
    this.bytes.set(row.periodId, period * 48 + 32);
    this.base[period] = row.usedBytes;
    this.limits[period] = row.limitBytes;
    // What the database already holds was reported by whoever wrote it.
    this.reported[period] =
      row.limitBytes !== null && row.usedBytes >= row.limitBytes ? row.limitBytes : null;
    this.unflushed[period] = 0;
    this.unranked.push(period);
    this.starts[period] = row.startedAtMs;
    this.ends[period] = row.endsAtMs;
    this.awaiting[period] = row.awaitsUse ? 1 : 0;
    this.tenantOf[period] = this.tenant(row.key.slice(0, 32));
    this.measure(period);
    return period;
  }

  private tenant(hex: string): number {
    const known = this.tenantIndex.get(hex);
    if (known !== undefined) return known;
    this.tenantIndex.set(hex, this.tenants.length);
    return this.tenants.push(hex) - 1;
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
    this.awaiting = grown(this.awaiting, this.capacity);
    this.tenantOf = grown(this.tenantOf, this.capacity);
    this.ranks = grown(this.ranks, this.capacity);
  }
}

function clamp(bytes: bigint): bigint {
  return bytes > BYTES_MAX ? BYTES_MAX : bytes;
}
