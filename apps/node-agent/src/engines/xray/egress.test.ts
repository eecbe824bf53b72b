import { BlockList, isIPv4 } from 'node:net';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { blockedEgress as render } from './egress.js';

function blockedEgress(allowed: string[], ownAddresses: string[] = [], blockPrivate = true): string[] {
  return render({ allowed, ownAddresses, blockPrivate });
}

function contains(ranges: readonly string[], address: string): boolean {
  const list = new BlockList();
  for (const range of ranges) {
    const [start = '', prefix = ''] = range.split('/');
    list.addSubnet(start, Number(prefix), isIPv4(start) ? 'ipv4' : 'ipv6');
  }
  return list.check(address, isIPv4(address) ? 'ipv4' : 'ipv6');
}

describe('blocked egress', () => {
  test('special ranges are blocked, public addresses are not', () => {
    const ranges = blockedEgress([]);
    const special = [
      '127.0.0.1',
      '10.1.2.3',
      '172.31.255.255',
      '192.168.0.1',
      '169.254.169.254',
      '100.100.100.200',
    ];
    for (const address of [
      ...special,
      '168.63.129.16',
      '0.0.0.0',
      '::1',
      'fe80::1',
      'fd00:ec2::254',
      '224.0.0.1',
    ]) {
      expect([address, contains(ranges, address)]).toEqual([address, true]);
    }
    for (const address of ['1.1.1.1', '172.32.0.1', '100.128.0.1', '2606:4700::1111', '168.63.129.17']) {
      expect([address, contains(ranges, address)]).toEqual([address, false]);
    }
  });

  test('private ranges can be opened; metadata, loopback and own addresses stay closed', () => {
    const ranges = blockedEgress([], ['1.2.3.4'], false);
    expect(contains(ranges, '10.0.0.1')).toBe(false);
    for (const address of ['169.254.169.254', '127.0.0.1', '::1', '1.2.3.4'])
      expect(contains(ranges, address)).toBe(true);
  });

  test('the allowed part is cut out, nothing else', () => {
    const ranges = blockedEgress(['10.231.0.0/24', '127.0.0.1', 'fd12::/16'], ['203.0.114.9']);
    for (const address of ['10.231.0.1', '10.231.0.255', '127.0.0.1', 'fd12::5'])
      expect(contains(ranges, address)).toBe(false);
    for (const address of ['10.231.1.0', '10.230.255.255', '127.0.0.2', 'fd13::', '203.0.114.9']) {
      expect(contains(ranges, address)).toBe(true);
    }
    expect(blockedEgress(['0.0.0.0/0', '::/0'])).toEqual([]);
  });

  test('for any allowed range: blocked before and not allowed = blocked', () => {
    const before = blockedEgress([]);
    const octet = fc.integer({ min: 0, max: 255 });
    const ipv4 = fc
      .tuple(fc.constantFrom(10, 127, 172, 192, 8), octet, octet, octet)
      .map((parts) => parts.join('.'));
    fc.assert(
      fc.property(ipv4, fc.integer({ min: 4, max: 32 }), ipv4, (allowed, prefix, probe) => {
        const hole = `${allowed}/${prefix}`;
        const expected = contains(before, probe) && !contains([hole], probe);
        expect(contains(blockedEgress([hole]), probe)).toBe(expected);
      }),
      { numRuns: 2_000 },
    );
  });

  test.each(['', 'x', '10.0.0.0/33', '10.0.0.0/-1', '1.2.3', '::/129', '10.0.0.0/8/9x'])(
    'refuses %j',
    (text) => {
      expect(() => blockedEgress([text])).toThrow(expect.objectContaining({ code: 'invalid_input' }));
    },
  );
});
