import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Series, type SeriesSums } from './series.js';

function total(sums: SeriesSums): Map<string, [bigint, bigint, bigint]> {
  const found = new Map<string, [bigint, bigint, bigint]>();
  for (let i = 0; i < sums.count; i++) {
    const key = `${sums.subscription[i]}/${sums.engine[i]}/${sums.bucket[i]}`;
    const [up, down, billable] = found.get(key) ?? [0n, 0n, 0n];
    found.set(key, [
      up + BigInt(sums.up[i] as number),
      down + BigInt(sums.down[i] as number),
      billable + BigInt(sums.billable[i] as number),
    ]);
  }
  return found;
}

describe('sums of a stream for the series', () => {
  it('lose and double nothing, whatever is put back in between', () => {
    const usage = fc.record({
      subscription: fc.nat(600),
      engine: fc.constantFrom(1, 2),
      bucket: fc.nat(3),
      bytes: fc.oneof(fc.nat(5000), fc.constant(2 ** 50)),
    });
    const step = fc.oneof(
      { weight: 5, arbitrary: usage.map((value) => ({ add: value })) },
      { weight: 1, arbitrary: fc.constant({ fail: true }) },
      { weight: 1, arbitrary: fc.constant({ flush: true }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const series = new Series();
        const wanted = new Map<string, bigint>();
        const written = new Map<string, bigint>();
        const write = (sums: SeriesSums): void => {
          for (const [key, [up]] of total(sums)) written.set(key, (written.get(key) ?? 0n) + up);
        };
        for (const one of steps) {
          if ('add' in one) {
            const { subscription, engine, bucket, bytes } = one.add;
            series.add(subscription, engine, bucket, bytes, 1, 2);
            const key = `${subscription}/${engine}/${bucket}`;
            wanted.set(key, (wanted.get(key) ?? 0n) + BigInt(bytes));
          } else if ('fail' in one) series.putBack(series.take());
          else write(series.take());
        }
        write(series.take());
        for (const [key, bytes] of wanted) expect(written.get(key) ?? 0n).toBe(bytes);
        for (const key of written.keys()) expect(wanted.has(key)).toBe(true);
      }),
    );
  });

  it('do not pile up while flushes fail', () => {
    const series = new Series();
    for (let turn = 0; turn < 50; turn++) {
      const taken = series.take();
      series.add(3, 1, turn < 25 ? 8 : 9, 1, 1, 2);
      series.putBack(taken);
    }
    const sums = series.take();
    expect(sums.count).toBe(2);
    expect(total(sums)).toEqual(
      new Map([
        ['3/1/8', [25n, 25n, 50n]],
        ['3/1/9', [25n, 25n, 50n]],
      ]),
    );
  });
});
