import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import {
  NO_PERIOD,
  PERIOD_NOT_LOADED,
  PERIOD_RECHECK_MS,
  Periods,
  PERIODS_BACK_MS,
  PLACE_KEPT_MS,
} from './crossing.js';

const key = 'ab'.repeat(32);
const row = (
  id: number,
  startedAtMs: number,
  endsAtMs: number,
  limitBytes: bigint | null,
  usedBytes = 0n,
  awaitsUse = false,
) => ({
  key,
  periodId: Buffer.alloc(16, id),
  startedAtMs,
  endsAtMs,
  limitBytes,
  usedBytes,
  awaitsUse,
});

function loaded(...rows: ReturnType<typeof row>[]): Periods {
  const periods = new Periods();
  periods.load([key], rows, 0);
  return periods;
}

describe('the period of usage', () => {
  it('is the last that began before it, else the first', () => {
    const periods = loaded(row(1, 100, 200, null), row(2, 200, Infinity, null));
    expect(periods.at(key, 50, 0)).toBe(0);
    expect(periods.at(key, 199, 0)).toBe(0);
    expect(periods.at(key, 200, 0)).toBe(1);
  });

  it('is asked for again when the last known one is over', () => {
    const periods = loaded(row(1, 100, 200, null));
    expect(periods.at(key, 300, PERIOD_RECHECK_MS - 1)).toBe(0);
    expect(periods.at(key, 300, PERIOD_RECHECK_MS)).toBe(PERIOD_NOT_LOADED);
    expect(loaded().at(key, 1, 0)).toBe(NO_PERIOD);
  });
});

describe('a period that changed', () => {
  it('is asked for again at once, and takes what the database says of it then', () => {
    const periods = loaded(row(1, 100, Infinity, 50n));
    periods.forget('cd'.repeat(32));
    expect(periods.at(key, 300, 0)).toBe(0);
    for (const said of [key, '']) {
      periods.forget(said);
      expect(periods.at(key, 300, 0)).toBe(PERIOD_NOT_LOADED);
      periods.load([key], [row(1, 100, 250, 50n), row(2, 250, Infinity, 70n)], 0);
      expect([periods.at(key, 249, 0), periods.at(key, 300, 0)]).toEqual([0, 1]);
    }
  });

  it('may begin earlier than it was to begin', () => {
    const periods = loaded(row(1, 100, 500, null), row(2, 500, 900, null));
    periods.load([key], [row(1, 100, 300, null), row(2, 300, 900, null)], 0);
    expect([periods.at(key, 299, 0), periods.at(key, 300, 0)]).toEqual([0, 1]);
  });
});

describe('the first use', () => {
  it('is told once, and again when its transaction failed', () => {
    const periods = loaded(row(1, 100, Infinity, null, 0n, true));
    expect(periods.awaits(0)).toBe(true);
    const begun = periods.begin(0);
    expect(begun).toMatchObject({ cause: 'first_use', period: 0 });
    expect([periods.awaits(0), periods.begin(0)]).toEqual([false, null]);
    if (begun !== null) periods.unreport(begun);
    expect(periods.begin(0)).not.toBeNull();
    expect(loaded(row(1, 100, Infinity, null)).begin(0)).toBeNull();
  });
});

describe('a crossing', () => {
  it('is told once for a period and limit', () => {
    const periods = loaded(row(1, 0, Infinity, 100n, 40n));
    expect(periods.use(0, 59)).toBeNull();
    expect(periods.use(0, 1)).toMatchObject({ cause: 'crossing', period: 0, observedBytes: 100n });
    expect(periods.use(0, 5)).toBeNull();
    periods.refresh(0, 200n, 105n);
    expect(periods.use(0, 1000)).toMatchObject({ period: 0 });
  });

  it('is told again when its transaction failed', () => {
    const periods = loaded(row(1, 0, Infinity, 100n, 90n));
    const crossing = periods.use(0, 10);
    expect(crossing).not.toBeNull();
    periods.unuse(0, 10);
    if (crossing !== null) periods.unreport(crossing);
    expect(periods.use(0, 10)).toMatchObject({ cause: 'crossing', period: 0, observedBytes: 100n });
  });

  it('moves with what others have counted and what was flushed', () => {
    const periods = loaded(row(1, 0, Infinity, 100n));
    periods.use(0, 30);
    periods.flushed(0, 30);
    expect(periods.used(0)).toBe(30n);
    periods.refresh(0, 100n, 80n);
    expect(periods.use(0, 19)).toBeNull();
    expect(periods.use(0, 1)).toMatchObject({ cause: 'crossing', period: 0, observedBytes: 100n });
  });

  it('is not told when the database already held it, or without a limit', () => {
    expect(loaded(row(1, 0, Infinity, 100n, 100n)).use(0, 1)).toBeNull();
    expect(loaded(row(1, 0, Infinity, null)).use(0, 2 ** 50)).toBeNull();
  });
});

const keyOf = (n: number): string => n.toString(16).padStart(64, '0');
const period = (n: number, id = 1, endsAtMs = Infinity) => ({ ...row(id, 0, endsAtMs, null), key: keyOf(n) });

describe('the order of periods', () => {
  it('is that of their keys, however they came', () => {
    const loads = fc.array(fc.array(fc.nat(300), { maxLength: 40 }), { maxLength: 12 });
    fc.assert(
      fc.property(loads, (all) => {
        const periods = new Periods();
        for (const load of all) {
          const keys = [...new Set(load)];
          periods.load(
            keys.map(keyOf),
            keys.map((n) => period(n)),
            0,
          );
          const ranks = periods.order();
          const ordered = Array.from({ length: periods.size() }, (_, i) => i).sort(
            (a, b) => (ranks[a] as number) - (ranks[b] as number),
          );
          const names = ordered.map((p) => periods.keyOf(p));
          expect(names).toEqual([...names].sort());
          expect(new Set(names).size).toBe(periods.size());
        }
      }),
    );
  });

  it('compares only what is new when one period is added to very many', () => {
    const periods = new Periods();
    const many = Array.from({ length: 100_000 }, (_, i) => (i * 7919) % 1_000_003);
    periods.load(
      many.map(keyOf),
      many.map((n) => period(n)),
      0,
    );
    periods.order();
    const compare = vi.spyOn(periods, 'compare');
    periods.load([keyOf(2_000_000)], [period(2_000_000)], 0);
    expect(periods.order()[periods.find(period(2_000_000).key + '01'.repeat(16))]).toBe(100_000);
    expect(compare.mock.calls.length).toBeLessThan(20);
    periods.order();
    expect(compare.mock.calls.length).toBeLessThan(20);
  });
});

describe('periods that nobody needs', () => {
  const turn = (): Promise<void> => Promise.resolve();
  const user = (keys: string[], ...periods: number[]) => ({
    count: keys.length,
    keys,
    period: Int32Array.from(periods),
  });

  it('are forgotten when no stream shows their subscription, and their places used again', async () => {
    const periods = new Periods();
    const all = [0, 1, 2, 3];
    periods.load(
      all.map(keyOf),
      all.map((n) => period(n)),
      0,
    );
    periods.order();
    const stream = user([keyOf(1), keyOf(3)], 1, 3);
    expect(await periods.sweep(() => [stream], 0, turn)).toBe(2);
    expect(periods.size()).toBe(2);
    expect(periods.at(keyOf(0), 5, 5)).toBe(PERIOD_NOT_LOADED);
    expect(periods.at(keyOf(1), 5, 5)).toBe(1);
    // Not before everything that still names them must have arrived.
    periods.load([keyOf(9)], [period(9)], 5);
    expect(periods.at(keyOf(9), 5, 5)).toBe(4);
    const others = user([keyOf(1), keyOf(3), keyOf(9)], 1, 3, 4);
    expect(await periods.sweep(() => [others], PLACE_KEPT_MS, turn)).toBe(0);
    periods.load([keyOf(5), keyOf(6)], [period(5), period(6)], 5);
    expect([periods.at(keyOf(5), 5, 5), periods.at(keyOf(6), 5, 5)].sort()).toEqual([0, 2]);
    const ranks = periods.order();
    const ordered = [1, 3, 5, 6, 9].map((n) => ranks[periods.at(keyOf(n), 5, 5)]);
    expect(ordered).toEqual([0, 1, 2, 3, 4]);
    expect(periods.size()).toBe(5);
  });

  it('are forgotten 40 days after their end, also where a stream remembers one', async () => {
    const periods = new Periods();
    periods.load([keyOf(1)], [period(1, 1, 1000), { ...period(1, 2), startedAtMs: 1000 }], 0);
    const stream = user([keyOf(1)], 0);
    expect(await periods.sweep(() => [stream], PERIODS_BACK_MS + 999, turn)).toBe(0);
    expect(await periods.sweep(() => [stream], PERIODS_BACK_MS + 1001, turn)).toBe(1);
    expect(stream.period[0]).toBe(-1);
    expect(periods.at(keyOf(1), 500, 0)).toBe(1);
  });

  it('stay while they wait to be asked for again, however long ago they began', async () => {
    const periods = new Periods();
    periods.load([keyOf(1)], [period(1)], 0);
    periods.forget(keyOf(1));
    const now = PERIODS_BACK_MS * 2;
    expect(await periods.sweep(() => [user([keyOf(1)], 0)], now, turn)).toBe(0);
    expect(periods.at(keyOf(1), now, now)).toBe(PERIOD_NOT_LOADED);
    periods.load([keyOf(1)], [period(1)], now);
    expect(periods.at(keyOf(1), now, now)).toBe(0);
  });

  it('stay while a stream that opens meanwhile asks for them', async () => {
    const periods = new Periods();
    periods.load([keyOf(1), keyOf(2)], [period(1), period(2)], 0);
    const streams = function* () {
      yield user([], 0);
      // As a replay does between two turns of the sweep.
      periods.at(keyOf(2), 5, 5);
    };
    expect(await periods.sweep(streams, 0, turn)).toBe(1);
    expect(periods.at(keyOf(2), 5, 5)).toBe(1);
  });
});
