import { expect, test } from 'vitest';
import { multiplierAt } from './multiplier.js';

const history = [
  { fromMs: -Infinity, perMille: 1000 },
  { fromMs: 5_000, perMille: 2000 },
  { fromMs: 9_000, perMille: 0 },
];

test.each([
  [0, 1000],
  [4_999, 1000],
  [5_000, 2000],
  [8_999, 2000],
  [9_000, 0],
  [1e15, 0],
])('at %s', (atMs, perMille) => {
  expect(multiplierAt(history, atMs)).toBe(perMille);
});

test('before the first entry that is kept, the first holds', () => {
  expect(multiplierAt(history.slice(1), 0)).toBe(2000);
});
