import fc from 'fast-check';
import { expect, test } from 'vitest';
import { systemClock } from '@penstock/domain/clock';
import { newWireguardPrivateKey } from '@penstock/domain/wireguard-keys';
import { parseCidr } from '../address.js';
import type { Cidr } from '../address.js';
import { nodeAddresses, renderFirewall } from './firewall.js';
import { checkOptions } from './options.js';
import type { WireguardOptions } from './options.js';

const cidrs = (...texts: string[]): Cidr[] => texts.flatMap((text) => parseCidr(text) ?? []);
const silent = (): void => undefined;
const good: WireguardOptions = {
  wireguardGoBin: null,
  dir: '/run/penstock/wg',
  interfaceName: 'penstock0',
  listenPort: 51820,
  privateKey: newWireguardPrivateKey(),
  subnets: ['10.66.0.0/16', 'fd66::/64'],
  blockPrivateEgress: true,
  allowEgress: [],
  clock: systemClock,
  log: { info: silent, warn: silent, error: silent },
};

test('the table as a whole', () => {
  const text = renderFirewall({
    interfaceName: 'penstock0',
    subnets: cidrs('10.66.0.0/16', 'fd66::/64'),
    blockPrivateEgress: true,
    allowEgress: cidrs('10.1.2.3/24'),
  });
  expect(text).toMatchSnapshot();
});

test('what stays closed when private ranges are opened', () => {
  const text = renderFirewall({
    interfaceName: 'wg0',
    subnets: cidrs('10.66.0.0/16'),
    blockPrivateEgress: false,
    allowEgress: [],
  });
  expect(text).toContain('169.254.0.0/16');
  expect(text).not.toContain('192.168.0.0/16');
  expect(text).toContain('iifname "wg0" oifname "wg0" drop');
});

test('isolation stands before the exceptions, the exceptions before what is closed', () => {
  const text = renderFirewall({
    interfaceName: 'wg0',
    subnets: cidrs('10.66.0.0/16'),
    blockPrivateEgress: true,
    allowEgress: cidrs('10.0.0.0/8'),
  });
  const through = text.slice(text.indexOf('chain through'));
  const places = ['oifname "wg0" drop', '@allowed4 accept', '@blocked4 drop'].map((rule) =>
    through.indexOf(rule),
  );
  expect(places).toEqual([...places].sort((a, b) => a - b));
  expect(places[0]).toBeGreaterThan(0);
});

test('the node takes the first address of each subnet', () => {
  expect(nodeAddresses(cidrs('10.66.0.0/16', 'fd66::/64'))).toEqual(['10.66.0.1/16', 'fd66::1/64']);
});

test.each([
  ['interfaceName', { interfaceName: 'wg0"; flush ruleset' }],
  ['interfaceName', { interfaceName: 'a234567890123456' }],
  ['interfaceName', { interfaceName: '-x' }],
  ['listenPort', { listenPort: 0 }],
  ['listenPort', { listenPort: 65_536 }],
  ['privateKey', { privateKey: 'x' }],
  ['subnets', { subnets: [] }],
  ['subnets', { subnets: ['10.66.0.0/31'] }],
  ['subnets', { subnets: ['10.66.0.0/16; drop'] }],
  ['allowEgress', { allowEgress: ['everything'] }],
])('a bad %s is refused by name', (field, change) => {
  expect(() => checkOptions({ ...good, ...change })).toThrow(
    expect.objectContaining({ code: 'invalid_input', field }),
  );
});

test('no option text reaches the script but as an address or a checked name [V31]', () => {
  const nasty = fc.oneof(
    fc.string(),
    fc.constantFrom('10.0.0.0/8 }', 'wg0" drop', '1.1.1.1\n', 'fe80::1%x', '10.9.0.0/16'),
  );
  fc.assert(
    fc.property(nasty, nasty, nasty, (interfaceName, subnet, allowed) => {
      let checked;
      try {
        checked = checkOptions({ ...good, interfaceName, subnets: [subnet], allowEgress: [allowed] });
      } catch (error) {
        expect(error).toMatchObject({ code: 'invalid_input' });
        return;
      }
      expect(renderFirewall(checked.firewall)).toMatch(/^[a-z0-9_ \-.:/{},"!=&|()@;\n]*$/);
    }),
    { numRuns: 5_000 },
  );
});
