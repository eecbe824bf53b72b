import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Lanes } from './lanes.js';

interface Item {
  bytes: number;
  name: string;
}

function fill(lanes: Lanes<Item>, lane: ReturnType<Lanes<Item>['lane']>, name: string, count: number): void {
  for (let i = 0; i < count; i++) lanes.push(lane, { bytes: 10, name: `${name}${i}` });
}

describe('lanes', () => {
  it('are emptied one item of each in turn', () => {
    const lanes = new Lanes<Item>(100, 10_000);
    const [a, b] = [lanes.lane(), lanes.lane()];
    fill(lanes, a, 'a', 5);
    fill(lanes, b, 'b', 2);
    expect(lanes.take(4, 1000).items.map((i) => i.name)).toEqual(['a0', 'b0', 'a1', 'b1']);
  });

  it('let a node that floods make the others wait at most twice as long [R1-21]', () => {
    const counts = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(counts, fc.integer({ min: 1, max: 32 }), fc.nat(20), (others, atOnce, place) => {
        const flood = 100 * Math.max(...others);
        /** Name → how many frames were written until it was, in groups of `atOnce`. */
        const served = (withFlood: boolean): Map<string, number> => {
          const lanes = new Lanes<Item>(1_000_000, 1_000_000_000);
          const order = others.map((count, i) => ({ name: `n${i}.`, count }));
          if (withFlood) order.splice(place % (order.length + 1), 0, { name: 'flood', count: flood });
          for (const { name, count } of order) fill(lanes, lanes.lane(), name, count);
          const at = new Map<string, number>();
          while (lanes.frames > 0) {
            const taken = lanes.take(atOnce, 1_000_000);
            for (const { name } of taken.items) at.set(name, at.size + 1);
            lanes.release(taken.lanes);
          }
          return at;
        };
        const [idle, flooded] = [served(false), served(true)];
        for (const [name, at] of idle) expect(flooded.get(name)).toBeLessThanOrEqual(2 * at);
        expect(flooded.size).toBe(idle.size + flood);
      }),
      { numRuns: 500 },
    );
  });

  it('are passed over while their items are being written, and keep their order', () => {
    const lanes = new Lanes<Item>(100, 10_000);
    const [a, b] = [lanes.lane(), lanes.lane()];
    fill(lanes, a, 'a', 3);
    const first = lanes.take(1, 1000);
    fill(lanes, b, 'b', 1);
    expect(lanes.take(10, 1000).items.map((i) => i.name)).toEqual(['b0']);
    expect(lanes.take(10, 1000).items).toEqual([]);
    lanes.release(first.lanes);
    expect(lanes.take(10, 1000).items.map((i) => i.name)).toEqual(['a1', 'a2']);
    expect(lanes.frames).toBe(0);
    expect(lanes.bytes).toBe(0);
  });

  it('are full by count or by bytes, but an empty queue takes anything', () => {
    const lanes = new Lanes<Item>(2, 25);
    expect(lanes.fits(1_000_000)).toBe(true);
    const lane = lanes.lane();
    fill(lanes, lane, 'a', 1);
    expect(lanes.fits(10)).toBe(true);
    expect(lanes.fits(16)).toBe(false);
    fill(lanes, lane, 'a', 1);
    expect(lanes.fits(1)).toBe(false);
  });

  it('give one lane a quarter of the queue, so that a node that fills its share keeps nobody else out', () => {
    const lanes = new Lanes<Item>(100, 400);
    const [greedy, small] = [lanes.lane(), lanes.lane()];
    let taken = 0;
    while (lanes.fits(10, greedy)) {
      fill(lanes, greedy, 'g', 1);
      taken++;
    }
    expect(taken).toBe(10);
    expect(lanes.fits(10, small)).toBe(true);
    // A frame as large as the share is one that waits alone.
    expect(lanes.fits(300, small)).toBe(true);
    fill(lanes, small, 's', 1);
    expect(lanes.fits(100, small)).toBe(false);
    lanes.take(4, 1000);
    expect(lanes.fits(10, greedy)).toBe(true);
  });

  it('give one lane a quarter of the places', () => {
    const lanes = new Lanes<Item>(8, 1_000_000);
    const greedy = lanes.lane();
    fill(lanes, greedy, 'g', 2);
    expect(lanes.fits(1, greedy)).toBe(false);
    expect(lanes.fits(1, lanes.lane())).toBe(true);
  });

  it('can be cleared', () => {
    const lanes = new Lanes<Item>(100, 1000);
    const lane = lanes.lane();
    fill(lanes, lane, 'a', 3);
    expect(lanes.clear(lane)).toHaveLength(3);
    expect(lanes.take(10, 1000).items).toEqual([]);
    fill(lanes, lane, 'b', 1);
    expect(lanes.take(10, 1000).items).toHaveLength(1);
  });
});
