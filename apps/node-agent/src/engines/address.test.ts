import fc from 'fast-check';
import { isIP } from 'node:net';
import { expect, test } from 'vitest';
import { contains, firstHost, formatCidr, isReserved, networkOf, parseCidr } from './address.js';
import type { Cidr } from './address.js';

function cidr(text: string): Cidr {
  const parsed = parseCidr(text);
  if (parsed === null) throw new Error(`${text} did not parse`);
  return parsed;
}

test.each([
  ['10.66.0.2/32', '10.66.0.2/32'],
  ['10.66.0.2', '10.66.0.2/32'],
  ['FD00:0::0:1/128', 'fd00::1/128'],
  ['::/0', '::/0'],
  ['::ffff:10.0.0.1', '::ffff:a00:1/128'],
  ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0/128'],
])('%s is %s', (text, canonical) => {
  expect(formatCidr(cidr(text))).toBe(canonical);
});

test.each([
  '',
  '/',
  '10.0.0.1/33',
  '10.0.0.1/',
  '10.0.0.1/08',
  '10.0.0/8',
  '1.2.3.4/-1',
  'fe80::1%eth0',
  '::/129',
  ':::',
  'x',
])('"%s" is no prefix', (text) => {
  expect(parseCidr(text)).toBeNull();
});

test('every address survives the way through numbers', () => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (text) => {
      const once = formatCidr(cidr(text));
      expect(formatCidr(cidr(once))).toBe(once);
      expect(isIP(once.split('/')[0] ?? '')).toBe(isIP(text));
    }),
    { numRuns: 2_000 },
  );
});

test('garbage never throws and never yields anything but an address [V31]', () => {
  const pieces = fc.array(fc.constantFrom('1', '255', '.', ':', '::', '/', 'f', ' ', ';', '\n', '{'), {
    maxLength: 14,
  });
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        pieces.map((parts) => parts.join('')),
      ),
      (text) => {
        const parsed = parseCidr(text);
        if (parsed !== null) expect(formatCidr(parsed)).toMatch(/^[0-9a-f.:]+\/\d{1,3}$/);
      },
    ),
    { numRuns: 5_000 },
  );
});

test('a subnet holds its own addresses and no others', () => {
  const subnet = cidr('10.66.0.0/16');
  expect(contains(subnet, cidr('10.66.255.3'))).toBe(true);
  expect(contains(subnet, cidr('10.67.0.3'))).toBe(false);
  expect(contains(subnet, cidr('10.0.0.0/8'))).toBe(false);
  expect(contains(subnet, cidr('::a42:1'))).toBe(false);
  expect(formatCidr(firstHost(cidr('10.66.7.9/16')))).toBe('10.66.0.1/16');
  expect(formatCidr(networkOf(cidr('fd66::7/64')))).toBe('fd66::/64');
  expect(
    ['10.66.0.0', '10.66.0.1', '10.66.255.255', '10.66.0.2'].map((ip) => isReserved(subnet, cidr(ip))),
  ).toEqual([true, true, true, false]);
});
