// V05: nothing in a token's header is followed. Key ids that are paths, statements or addresses, and headers that bring
// or point to a key, are refused; while they are, this process opens no file and no socket.
import dns from 'node:dns';
import fs from 'node:fs';
import { generateKeyPairSync } from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import net from 'node:net';
import { decodeJwt, decodeProtectedHeader, SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { FakeClock } from '@penstock/domain/clock';
import { createWorld, type World } from '../../apps/control-api/test/world.js';

let world: World;
let token: string;

beforeAll(async () => {
  // Stands still: our own key ring is not read again, so the database's sockets are quiet, too.
  world = await createWorld({ clock: new FakeClock(Date.now()) });
  ({ token } = await world.person(world.platform, 'owner'));
});
afterAll(() => world.close());

const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');

function hostileHeaders(header: Record<string, unknown>, jwk: object): Record<string, unknown>[] {
  const kid = String(header['kid']);
  const kids: unknown[] = [
    ...[
      '../../../../etc/passwd',
      '/dev/null',
      '/proc/self/environ',
      'file:///etc/passwd',
      '..\\..\\x',
      '~/.ssh/id',
    ],
    ...[
      "' OR 1=1 --",
      "x'; DROP TABLE signing_key; --",
      '" UNION SELECT 1',
      '%00',
      '\u0000',
      '$(id)',
      '`id`',
      '${7*7}',
    ],
    ...[
      'http://127.0.0.1:1/key',
      'ldap://127.0.0.1/x',
      '//127.0.0.1/share',
      '',
      ' ',
      kid.toUpperCase(),
      `${kid} `,
    ],
    ...[
      ` ${kid}`,
      `${kid}\n`,
      kid.slice(1),
      `${kid}A`,
      '__proto__',
      'constructor',
      'toString',
      '*',
      '.',
      '\ud800',
    ],
    ...[
      'A'.repeat(43),
      'A'.repeat(3000),
      `${kid}\u0000`,
      `../${kid}`,
      encodeURIComponent(`/${kid}`),
      '[object Object]',
    ],
    ...[0, -1, 1.5, true, false, null, [], [kid], {}, { kid }, { toString: kid }, [[kid]]],
  ];
  const urls = [
    'http://127.0.0.1:1/jwks',
    'https://localhost/x',
    'file:///etc/passwd',
    'data:,x',
    '//evil',
    '',
    7,
    {},
  ];
  const others = [
    'jku',
    'x5u',
    'jwk',
    'x5c',
    'x5t',
    'x5t#S256',
    'crit',
    'b64',
    'zip',
    'enc',
    'cty',
    'url',
    'nonce',
  ];
  return [
    ...kids.map((value) => ({ ...header, kid: value })),
    ...['jku', 'x5u'].flatMap((name) => urls.map((value) => ({ ...header, [name]: value }))),
    ...others.flatMap((name) =>
      [jwk, [jwk], 'x', [], ['exp'], true, null, 1, 'http://127.0.0.1:1/', '../../key.pem'].map((value) => ({
        ...header,
        [name]: value,
      })),
    ),
    ...['typ', 'alg'].flatMap((name) =>
      [null, 1, [], {}, 'JWT', ''].map((value) => ({ ...header, [name]: value })),
    ),
  ];
}

describe('V05 headers of tokens lead nowhere', () => {
  test('200 hostile headers: 401, no file opened, no socket', async () => {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const header = { ...decodeProtectedHeader(token) } as Record<string, unknown>;
    const claims = decodeJwt(token);
    const [, payload = '', signature = ''] = token.split('.');
    const headers = hostileHeaders(header, publicKey.export({ format: 'jwk' }));
    expect(headers.length).toBeGreaterThanOrEqual(200);
    // Each with our signature, and each really signed by the key that it brings where a library will sign it.
    const forged = headers.map((hostile) => `${part(hostile)}.${payload}.${signature}`);
    for (const hostile of headers) {
      const text = await new SignJWT(claims)
        .setProtectedHeader({ ...hostile, alg: 'ES256' } as { alg: string })
        .sign(privateKey)
        .catch(() => null);
      if (text !== null) forged.push(text);
    }
    const server = world.app.getHttpAdapter().getInstance();
    const ask = async (authorization: string): Promise<number> =>
      (await server.inject({ method: 'GET', url: '/api/v1/auth/me', headers: { authorization } })).statusCode;
    expect(await ask(`Bearer ${token}`)).toBe(200);
    const opened = [
      ...(
        ['open', 'openSync', 'readFile', 'readFileSync', 'createReadStream', 'stat', 'statSync'] as const
      ).map((name) => vi.spyOn(fs, name)),
      ...(['open', 'readFile', 'stat'] as const).map((name) => vi.spyOn(fs.promises, name)),
      ...(['connect', 'createConnection'] as const).map((name) => vi.spyOn(net, name)),
      ...[vi.spyOn(net.Socket.prototype, 'connect'), vi.spyOn(dns, 'lookup'), vi.spyOn(globalThis, 'fetch')],
    ];
    syncBuiltinESMExports();
    try {
      // The watch works.
      expect(fs.statSync('/').isDirectory()).toBe(true);
      expect(opened.map((spy) => spy.mock.calls.length).reduce((sum, calls) => sum + calls)).toBe(1);
      vi.clearAllMocks();
      const statuses = [];
      for (const text of forged) statuses.push(await ask(`Bearer ${text}`));
      expect(statuses.filter((status) => status !== 401)).toEqual([]);
      expect(opened.filter((spy) => spy.mock.calls.length > 0).map((spy) => spy.getMockName())).toEqual([]);
    } finally {
      vi.restoreAllMocks();
      syncBuiltinESMExports();
    }
    expect(await ask(`Bearer ${token}`)).toBe(200);
  });
});
