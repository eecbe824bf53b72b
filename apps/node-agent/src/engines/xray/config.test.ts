import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Access } from '@penstock/domain/access';
import { newId } from '@penstock/domain/ids';
import type { SubscriptionId, TenantId } from '@penstock/domain/ids';
import { maskedId, renderConfig, staticHash, validateAccess, validateInbounds } from './config.js';
import type { ConfigInput, XrayInbound } from './config.js';

const reality: XrayInbound = {
  tag: 'reality',
  listen: '0.0.0.0',
  port: 443,
  security: 'reality',
  reality: {
    privateKey: 'a'.repeat(43),
    shortIds: ['', '0123456789abcdef'],
    serverNames: ['example.com'],
    target: 'example.com:443',
  },
};
const plain: XrayInbound = { tag: 'plain', listen: '127.0.0.1', port: 8080, security: 'none' };
const input: ConfigInput = {
  inbounds: [reality, plain],
  paths: { config: '/run/x/config.json', socket: '/run/x/api.sock', accessLog: '/run/x/access.fifo' },
  blockPrivateEgress: true,
  allowEgress: [],
  ownAddresses: ['198.18.0.1', '2a00::1'],
  mark: 0x5000_0001,
};

function access(flow: '' | 'xtls-rprx-vision' = ''): Access {
  const vlessId = '0123abcd-4567-0000-89ab-0123456789ab';
  return { tenantId: newId<TenantId>(), subscriptionId: newId<SubscriptionId>(), xray: { vlessId, flow } };
}

/** Documents with text that means something to JSON, YAML, INI, a shell or a program's options. */
const TEXTS = process.env['PENSTOCK_TEST_FULL'] === undefined ? 5_000 : 50_000;
const hostile = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string(),
  fc.constantFrom(
    ...['","tag":"x', '"}],"outbounds":[{"protocol":"freedom"', '\\', '\\"', '\u2028', '\ud800', '\u0000'],
    ...['\r\n[Peer]\nAllowedIPs = 0.0.0.0/0', '--config=/etc/passwd', '-x', '$(id)', '`id`', '; id', '| id'],
    ...['__proto__', '{"__proto__":{"a":1}}', 'null', '1e999', '../../etc/passwd', ',0777'],
  ),
);
interface Document {
  log: { access: string };
  inbounds: [
    { listen: string },
    { settings: { clients: object[] }; streamSettings: { realitySettings: object } },
  ];
}

interface Rendered {
  inbounds: {
    tag: string;
    listen: string;
    settings: { clients?: { id: string; email: string; flow: string }[] };
  }[];
  routing: { rules: { inboundTag?: string[]; ip?: string[]; outboundTag: string }[] };
  outbounds: { tag: string }[];
}

describe('the rendered configuration', () => {
  test('the API listens on a 0600 unix socket alone, its rule comes first, nothing catches ordinary traffic', () => {
    const config = JSON.parse(renderConfig(input, [])) as Rendered;
    expect(config.inbounds[0]).toMatchObject({
      tag: 'api',
      listen: '/run/x/api.sock,0600',
      protocol: 'dokodemo-door',
    });
    expect(config.routing.rules.map(({ outboundTag }) => outboundTag)).toEqual(['api', 'blocked']);
    expect(config.routing.rules[0]?.inboundTag).toEqual(['api']);
    expect(config.routing.rules[1]?.ip).toContain('2a00::1/128');
    // The first outbound takes what no rule names.
    expect(config.outbounds[0]).toMatchObject({
      tag: 'direct',
      streamSettings: { sockopt: { mark: 0x5000_0001 } },
    });
    const unmarked = JSON.parse(renderConfig({ ...input, mark: null }, [])) as Rendered;
    expect(unmarked.outbounds[0]).toEqual({ tag: 'direct', protocol: 'freedom', settings: {} });
  });

  test('a user counts under the subscription’s id on every inbound; Vision only where the connection is secured', () => {
    const customer = access('xtls-rprx-vision');
    const config = JSON.parse(
      renderConfig(input, [customer, { ...access(), xray: undefined } as unknown as Access]),
    ) as Rendered;
    const clients = config.inbounds.slice(1).map(({ settings }) => settings.clients);
    const base = { id: customer.xray?.vlessId, email: customer.subscriptionId, level: 0 };
    expect(clients).toEqual([[{ ...base, flow: 'xtls-rprx-vision' }], [{ ...base, flow: '' }]]);
  });

  test('any text stays a JSON string', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const strange: XrayInbound = {
          ...reality,
          reality: { ...(reality.reality as object), serverNames: [text] } as never,
        };
        const config = JSON.parse(renderConfig({ ...input, inbounds: [strange] }, [])) as {
          inbounds: { streamSettings?: { realitySettings?: { serverNames: string[] } } }[];
        };
        expect(config.inbounds.length).toBe(2);
        expect(config.inbounds[1]?.streamSettings?.realitySettings?.serverNames).toEqual([text]);
      }),
    );
  });

  test(
    `in ${TEXTS} documents hostile text in every field stays that field’s text [V31]`,
    { timeout: 300_000 },
    () => {
      const model = JSON.parse(renderConfig({ ...input, inbounds: [reality] }, [access()])) as Document;
      fc.assert(
        fc.property(fc.array(hostile, { minLength: 10, maxLength: 10 }), (texts) => {
          const [tag, listen, privateKey, shortId, serverName, target, socket, accessLog, id, email] =
            texts as [string, string, string, string, string, string, string, string, string, string];
          const strange: XrayInbound = {
            ...{ tag, listen, port: 443, security: 'reality' as const },
            reality: { privateKey, shortIds: [shortId], serverNames: [serverName], target },
          };
          const user = {
            ...access(),
            subscriptionId: email as SubscriptionId,
            xray: { vlessId: id, flow: '' as const },
          };
          const paths = { config: '', socket, accessLog };
          const text = renderConfig({ ...input, inbounds: [strange], paths }, [user]);
          // The document of harmless text with each text in its place: no key, no inbound, no rule more or fewer.
          const expected = structuredClone(model);
          expected.log.access = accessLog;
          expected.inbounds[0].listen = `${socket},0600`;
          Object.assign(expected.inbounds[1], { tag, listen });
          expected.inbounds[1].settings.clients = [{ id, email, level: 0, flow: '' }];
          Object.assign(expected.inbounds[1].streamSettings.realitySettings, strange.reality);
          expect(isDeepStrictEqual(JSON.parse(text), expected)).toBe(true);
        }),
        { numRuns: TEXTS },
      );
    },
  );

  test('users and own addresses change no hash, everything else does', () => {
    const hash = staticHash(input);
    expect(staticHash({ ...input, ownAddresses: [] })).toBe(hash);
    expect(staticHash({ ...input, allowEgress: ['10.0.0.0/8'] })).not.toBe(hash);
    expect(staticHash({ ...input, blockPrivateEgress: false })).not.toBe(hash);
    expect(staticHash({ ...input, inbounds: [plain] })).not.toBe(hash);
  });
});

describe('what is refused', () => {
  const bad: [string, XrayInbound[]][] = [
    ['no inbound', []],
    ['our own tag', [{ ...plain, tag: 'api' }]],
    ['a tag that could break a log line', [{ ...plain, tag: 'a b' }]],
    ['one tag twice', [plain, { ...plain, port: 1 }]],
    ['one port twice', [plain, { ...plain, tag: 'other', listen: '127.0.0.2' }]],
    ['port 0', [{ ...plain, port: 0 }]],
    ['REALITY without settings', [{ ...plain, security: 'reality' }]],
    ['settings without REALITY', [{ ...reality, security: 'none' }]],
    [
      'a short private key',
      [{ ...reality, reality: { ...(reality.reality as never as object), privateKey: 'x' } as never }],
    ],
    [
      'an odd short id',
      [{ ...reality, reality: { ...(reality.reality as never as object), shortIds: ['abc'] } as never }],
    ],
    [
      'no server name',
      [{ ...reality, reality: { ...(reality.reality as never as object), serverNames: [] } as never }],
    ],
    [
      'a target without a port',
      [{ ...reality, reality: { ...(reality.reality as never as object), target: 'x' } as never }],
    ],
  ];
  test.each(bad)('%s', (_name, inbounds) => {
    expect(() => validateInbounds(inbounds)).toThrow(expect.objectContaining({ code: 'invalid_input' }));
  });

  test('good ones pass', () => {
    validateInbounds([reality, plain]);
    validateAccess(access('xtls-rprx-vision'), [reality, plain]);
  });

  test('no string but a lower-case UUID is an id', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.uuid().map((id) => id.toUpperCase()),
        ),
        (vlessId) => {
          if (!/[A-Za-z]/.test(vlessId)) return;
          const one = access();
          expect(() => validateAccess({ ...one, xray: { vlessId, flow: '' } }, [plain])).toThrow(
            /lower-case UUID/,
          );
        },
      ),
    );
  });

  test('a masked id ignores bytes 6 and 7 only', () => {
    expect(maskedId('0123abcd-4567-89ab-cdef-0123456789ab')).toBe('0123abcd-4567-0000-cdef-0123456789ab');
  });
});
