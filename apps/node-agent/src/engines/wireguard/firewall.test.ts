import fc from 'fast-check';
import { expect, test } from 'vitest';
import { systemClock } from '@penstock/domain/clock';
import { newWireguardPrivateKey } from '@penstock/domain/wireguard-keys';
import { formatCidr, networkOf, parseCidr } from '../address.js';
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

const harmless = {
  interfaceName: ['wgmodel', 'wgmodel'],
  subnets: ['10.201.0.0/16', 'fd01::/64'],
  allowEgress: ['10.202.0.0/16', 'fd02::/64'],
} as const;
type Field = keyof typeof harmless;
const TEXTS = 6_000;
/** So many of them must come as far as a script. */
const SCRIPTS_MIN = 500;

/** Good text, text of the same shape, and good text with what nft reads as syntax before, behind or between. */
function hostile(field: Field): fc.Arbitrary<string> {
  const goods = fc.constantFrom(...harmless[field], 'wg0', '10.9.0.0/16', '1.1.1.1', '');
  const syntax = [' }', '" drop', '"', '\n', ';', '%x', '#', '\\', ' accept', ', ::/0', '\nflush ruleset\n'];
  const address = fc.oneof(fc.ipV4(), fc.ipV6());
  return fc.oneof(
    fc.string(),
    fc.stringMatching(/^[a-z0-9_]{1,17}$/),
    fc.tuple(address, fc.integer({ min: -1, max: 130 })).map((parts) => parts.join('/')),
    fc.tuple(goods, fc.constantFrom(...syntax), goods).map((parts) => parts.join('')),
  );
}

const scriptOf = (field: Field, text: string): string =>
  renderFirewall(
    checkOptions({
      ...{ ...good, interfaceName: 'wgother', subnets: ['10.203.0.0/16'], allowEgress: ['10.204.0.0/16'] },
      [field]: field === 'interfaceName' ? text : [text],
    }).firewall,
  );

/** What stands in the script for a text that was accepted. */
function written(field: Field, text: string): string {
  if (field === 'interfaceName') {
    expect(text).toMatch(/^[a-z][a-z0-9_]*$/);
    return text;
  }
  expect(text).toMatch(/^([0-9.]+|[0-9a-fA-F:]+(:[0-9.]+)?)(\/[0-9]{1,3})?$/);
  return cidrs(text)
    .map((cidr) => formatCidr(networkOf(cidr)))
    .join();
}

test.each(Object.keys(harmless) as Field[])(
  'a hostile %s, the others good, is refused or stands in the script of a harmless one, and nothing else is there [V31]',
  (field) => {
    let scripts = 0;
    fc.assert(
      fc.property(hostile(field), (text) => {
        let script;
        try {
          script = scriptOf(field, text);
        } catch (error) {
          expect(error).toMatchObject({ code: 'invalid_input', field });
          return;
        }
        scripts += 1;
        const model = harmless[field][text.includes(':') ? 1 : 0];
        const value = written(field, text);
        expect(script).toBe(scriptOf(field, model).replaceAll(model, () => value));
      }),
      { numRuns: TEXTS },
    );
    expect(scripts).toBeGreaterThan(SCRIPTS_MIN);
  },
);
