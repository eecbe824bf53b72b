import { expect, test } from 'vitest';
import { lifePassed, nextSlotDue, signingSlot } from './slots.js';

const slot = (from: number, to: number) => ({ notBeforeMs: from, notAfterMs: to });

test('the older slot signs for three quarters of its life, the other from then on', () => {
  const [first, second] = [slot(0, 100), slot(50, 150)];
  for (const slots of [
    [first, second],
    [second, first],
  ]) {
    const signs = (at: number) => slots[signingSlot(slots, at)];
    expect([signs(0), signs(60), signs(74)]).toEqual([first, first, first]);
    expect([signs(75), signs(99), signs(120)]).toEqual([second, second, second]);
  }
});

test('a slot alone signs until its end; none before its time or after', () => {
  expect([signingSlot([slot(0, 100)], 99), signingSlot([slot(0, 100)], 100)]).toEqual([0, -1]);
  expect([signingSlot([slot(10, 100)], 9), signingSlot([], 0)]).toEqual([-1, -1]);
  // Both past three quarters: the younger one.
  expect(signingSlot([slot(0, 100), slot(0, 110)], 90)).toBe(1);
});

test('the next slot is due at half life of the youngest', () => {
  expect([nextSlotDue([], 0), nextSlotDue([slot(0, 100)], 49), nextSlotDue([slot(0, 100)], 50)]).toEqual([
    true,
    false,
    true,
  ]);
  expect(nextSlotDue([slot(0, 100), slot(50, 150)], 60)).toBe(false);
  expect(lifePassed(slot(0, 200), 50)).toBe(0.25);
});
