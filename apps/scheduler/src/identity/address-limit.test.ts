import { expect, test } from 'vitest';
import { FakeClock } from '@penstock/domain/clock';
import { AddressLimit } from './address-limit.js';

const rule = { perSecond: 1, burst: 3, addressesMax: 100 };

test('a burst is allowed, then one try a second, for each address by itself', () => {
  const clock = new FakeClock();
  const limit = new AddressLimit(rule, clock);
  expect([1, 2, 3, 4].map(() => limit.take('192.0.2.1'))).toEqual([0, 0, 0, 1000]);
  expect(limit.take('192.0.2.2')).toBe(0);
  clock.advance(400);
  expect(limit.take('192.0.2.1')).toBe(600);
  clock.advance(600);
  expect([limit.take('192.0.2.1'), limit.take('192.0.2.1')]).toEqual([0, 1000]);
  clock.advance(60_000);
  expect([1, 2, 3, 4].map(() => limit.take('192.0.2.1'))).toEqual([0, 0, 0, 1000]);
});

test('addresses of one /64 share a bucket, and an IPv4 address has one however it is written', () => {
  const limit = new AddressLimit(rule, new FakeClock());
  expect(
    ['2001:db8::1', '2001:db8:0:0:ffff::2', '2001:DB8::3', '2001:db8::4'].map((a) => limit.take(a)),
  ).toEqual([0, 0, 0, 1000]);
  expect(limit.take('2001:db8:0:1::1')).toBe(0);
  expect(
    ['192.0.2.9', '::ffff:192.0.2.9', '192.0.2.9', '::FFFF:192.0.2.9'].map((a) => limit.take(a)),
  ).toEqual([0, 0, 0, 1000]);
});

test('a flood of addresses takes no more memory than the bound', () => {
  const limit = new AddressLimit(rule, new FakeClock());
  for (let i = 0; i < 10_000; i += 1) limit.take(`10.0.${i >> 8}.${i & 255}`);
  expect((limit as unknown as { fullAt: Map<string, number> }).fullAt.size).toBe(rule.addressesMax);
});
