// V21: an allow-list that is missing or empty is nobody, never everybody. The process does not start with one that is
// not set, empty, malformed or of everything; sensitive routes ask for the client's own address.
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { loadConfig } from '@penstock/service/config';
import { controllers } from '../../apps/control-api/src/app.module.js';
import { configSchema } from '../../apps/control-api/src/config.js';
import { routesOf, type Route } from '../../apps/control-api/src/http/routes.js';
import { idsOf, request } from '../../apps/control-api/test/attacks.js';
import { scene } from '../../apps/control-api/test/scene.js';
import { createWorld, signingKey, type World } from '../../apps/control-api/test/world.js';

const entry = fileURLToPath(new URL('../../apps/control-api/dist/main.js', import.meta.url));
const sensitive = routesOf(controllers).filter((route) => route.declaration.sensitive === true);

const env = {
  ...{ NODE_ENV: 'production', PUBLIC_URL: 'http://127.0.0.1', DATABASE_URL: 'postgresql://127.0.0.1:1/x' },
  ...{ DATA_KEY: Buffer.from(Array.from({ length: 32 }, (_, i) => i * 7)).toString('base64') },
  ...{ JWT_KEY: signingKey(), TLS_CERT_FILE: 'c', TLS_KEY_FILE: 'k', TLS_ROOT_FILE: 'r' },
  ...{ SCHEDULER_ADDRESS: 'a:1', NODE_ENROLL_ADDRESS: 'a:1', NODE_ENFORCEMENT_ADDRESS: 'a:1' },
  ...{ NODE_USAGE_ADDRESS: 'a:1' },
};

const wrong: readonly (readonly [string, string])[] = [
  ['empty', ''],
  ['only spaces', '   '],
  ['an empty entry', '10.0.0.0/8,'],
  ['an empty entry in front', ',10.0.0.0/8'],
  ['everything of IPv4', '0.0.0.0/0'],
  ['everything of IPv6', '::/0'],
  ['everything beside something', '10.0.0.0/8,0.0.0.0/0'],
  ['everything in two halves', '0.0.0.0/1,128.0.0.0/1'],
  ['a star', '*'],
  ['a name', 'localhost'],
  ['an address without a length', '10.0.0.1'],
  ['too long', '10.0.0.0/33'],
  ['negative', '10.0.0.0/-8'],
  ['a length of words', '10.0.0.0/eight'],
  ['octal', '010.0.0.0/8'],
  ['two slashes', '10.0.0.0/8/8'],
  ['a mask', '10.0.0.0/255.0.0.0'],
  ['half an address', '10.0/8'],
];

describe('V21 allow-list', async () => {
  const world = await createWorld({
    env: { TRUSTED_PROXIES: '127.0.0.0/8', ADMIN_CIDRS: '192.0.2.0/24,2001:db8:5::/48' },
  });
  // What the scene needs is made from an address that is listed.
  const listed: World = {
    ...world,
    ask: (method, path, ask) =>
      world.ask(method, path, { ...ask, headers: { ...ask?.headers, 'x-forwarded-for': '192.0.2.7' } }),
  };
  const platform = await scene(listed, await world.person(world.platform, 'owner'));
  afterAll(() => world.close());

  test('not set in production: the built process does not start, and says which variable', async () => {
    for (const change of [{}, { ADMIN_CIDRS: '' }, { ADMIN_CIDRS: '0.0.0.0/0' }]) {
      const child = spawn(process.execPath, [entry], {
        env: { ...env, ...change },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      let output = '';
      child.stderr.on('data', (data: Buffer) => (output += data.toString()));
      expect(await new Promise((resolve) => child.once('close', resolve))).toBe(78);
      expect(output).toContain('ADMIN_CIDRS');
    }
  });

  test.each(wrong)('%s is no list', (_name, list) => {
    expect(() => loadConfig(configSchema, { ...env, ADMIN_CIDRS: list })).toThrow(/ADMIN_CIDRS/);
    // Outside production too, wherever something is written at all.
    if (list !== '')
      expect(() => loadConfig(configSchema, { ...env, NODE_ENV: 'development', ADMIN_CIDRS: list })).toThrow(
        /ADMIN_CIDRS/,
      );
  });

  test('a list of the operator’s own ranges is one', () => {
    const config = loadConfig(configSchema, { ...env, ADMIN_CIDRS: '10.0.0.0/8, 203.0.113.7/32,fc00::/7' });
    expect(config.ADMIN_CIDRS?.check('203.0.113.7')).toBe(true);
    expect(config.ADMIN_CIDRS?.check('203.0.113.8')).toBe(false);
  });

  test('there are sensitive routes: keys, recovery, providers', () => {
    expect(sensitive.length).toBeGreaterThan(4);
  });

  const send = (route: Route, ip: string): Promise<{ status: number; body: Record<string, unknown> }> => {
    const { method, path, body } = request(route, idsOf(platform), idsOf(platform));
    const headers = { 'x-forwarded-for': ip, 'idempotency-key': randomUUID() };
    return world.ask(method, path, { as: platform.admin, headers, ...(body && { body }) });
  };

  test.each(sensitive.map((route) => [`${route.method} ${route.path}`, route] as const))(
    '%s is refused from any address that is not listed, and not from one that is [R2-06]',
    async (_name, route) => {
      for (const ip of [
        '192.0.3.1',
        '127.0.0.1',
        '10.0.0.1',
        '::1',
        '2001:db8:6::1',
        '::ffff:192.0.3.1',
        'unknown',
      ]) {
        const answer = await send(route, ip);
        expect(answer.body, ip).toMatchObject({ status: 403, code: 'address_not_allowed' });
      }
      for (const ip of ['192.0.2.7', '::ffff:192.0.2.7', '2001:DB8:5:0:0::1']) {
        expect((await send(route, ip)).body['code'], ip).not.toBe('address_not_allowed');
      }
    },
  );
});
