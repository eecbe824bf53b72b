import { expect, test } from 'vitest';
import { dice, draw } from './draw.js';

test('a seed gives the same run again, and another seed another', () => {
  expect(draw(7, ['xray', 'wireguard'])).toEqual(draw(7, ['xray', 'wireguard']));
  expect(draw(7, ['xray', 'wireguard'])).not.toEqual(draw(8, ['xray', 'wireguard']));
});

test('a seed means the same transfers over Xray wherever it runs', () => {
  const both = draw(7, ['xray', 'wireguard']);
  const alone = draw(7, ['xray']);
  expect(alone.crosser.transfers.get('xray')).toEqual(both.crosser.transfers.get('xray'));
  expect(alone.neighbour.transfers.get('xray')).toEqual(both.neighbour.transfers.get('xray'));
});

test('A crosses while he streams, and B never comes near', () => {
  for (let seed = 0; seed < 2_000; seed += 1) {
    const { crosser, neighbour } = draw(seed, ['xray', 'wireguard']);
    const files = [...crosser.transfers.values()].reduce(
      (sum, one) => sum + one.uploadBytes + one.downloadBytes,
      0,
    );
    const rate = [...crosser.transfers.values()].reduce((sum, one) => sum + one.streamBytesPerSecond, 0);
    expect(Number(crosser.quotaBytes)).toBeGreaterThan(files * 1.1 + rate * 2);
    expect(Number(crosser.quotaBytes)).toBeLessThan(files * 1.1 + rate * 6);
    expect(neighbour.quotaBytes).toBeGreaterThan(200_000_000n);
  }
});

test('the dice stay within their bounds and reach both', () => {
  const roll = dice(1);
  const rolls = new Set(Array.from({ length: 500 }, () => roll(3, 6)));
  expect([...rolls].sort()).toEqual([3, 4, 5, 6]);
});
