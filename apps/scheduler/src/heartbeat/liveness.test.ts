import { expect, it } from 'vitest';
import { liveness } from './liveness.js';

it.each([
  [null, 'offline'],
  [0, 'online'],
  [12_500, 'online'],
  [12_501, 'late'],
  [30_000, 'late'],
  [30_001, 'offline'],
] as const)('a heartbeat %s ms ago: %s', (ageMs, state) => {
  expect(liveness(ageMs, 5_000)).toBe(state);
});
