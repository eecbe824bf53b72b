import { describe, expect, it } from 'vitest';
import { NO_PERIOD, PERIOD_NOT_LOADED, PERIOD_RECHECK_MS, Periods } from './crossing.js';

const key = 'ab'.repeat(32);
const row = (
  id: number,
  startedAtMs: number,
  endsAtMs: number,
  limitBytes: bigint | null,
  usedBytes = 0n,
) => ({
  key,
  periodId: Buffer.alloc(16, id),
  startedAtMs,
  endsAtMs,
  limitBytes,
  usedBytes,
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

describe('a crossing', () => {
  it('is told once for a period and limit', () => {
    const periods = loaded(row(1, 0, Infinity, 100n, 40n));
    expect(periods.use(0, 59)).toBeNull();
    expect(periods.use(0, 1)).toEqual({ period: 0, observedBytes: 100n });
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
    expect(periods.use(0, 10)).toEqual({ period: 0, observedBytes: 100n });
  });

  it('moves with what others have counted and what was flushed', () => {
    const periods = loaded(row(1, 0, Infinity, 100n));
    periods.use(0, 30);
    periods.flushed(0, 30);
    expect(periods.used(0)).toBe(30n);
    periods.refresh(0, 100n, 80n);
    expect(periods.use(0, 19)).toBeNull();
    expect(periods.use(0, 1)).toEqual({ period: 0, observedBytes: 100n });
  });

  it('is not told when the database already held it, or without a limit', () => {
    expect(loaded(row(1, 0, Infinity, 100n, 100n)).use(0, 1)).toBeNull();
    expect(loaded(row(1, 0, Infinity, null)).use(0, 2 ** 50)).toBeNull();
  });
});
