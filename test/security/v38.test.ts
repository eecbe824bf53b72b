// V38: nobody says by a header where he comes from. The address is the socket's; behind a proxy that is named it is the
// right-most one that is no such proxy; no spelling of any forwarding header widens the allow-list, the limits or the log.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadConfig } from '@penstock/service/config';
import { configSchema } from '../../apps/control-api/src/config.js';
import { clientAddress } from '../../apps/control-api/src/http/client-address.js';
import { createWorld, signingKey, type Person, type World } from '../../apps/control-api/test/world.js';
import { rawRequest } from './raw-http.js';

const ADMIN = '192.0.2.7';
const names = [
  ...[
    'X-Forwarded-For',
    'X-Real-IP',
    'CF-Connecting-IP',
    'True-Client-IP',
    'X-Client-IP',
    'X-Cluster-Client-IP',
  ],
  ...[
    'X-Original-Forwarded-For',
    'Fastly-Client-IP',
    'X-Forwarded',
    'Forwarded-For',
    'X-Remote-IP',
    'X-Remote-Addr',
  ],
  ...[
    'X-ProxyUser-Ip',
    'Client-IP',
    'X-Host',
    'X-Forwarded-Host',
    'Via',
    'Forwarded',
    'X-Envoy-External-Address',
  ],
];
const values = [
  ...[
    ADMIN,
    `${ADMIN}, ${ADMIN}`,
    ` ${ADMIN} `,
    `::ffff:${ADMIN}`,
    '::ffff:c000:207',
    `${ADMIN}:443`,
    `"${ADMIN}"`,
  ],
  ...[`for=${ADMIN}`, `for="${ADMIN}";proto=https`, '127.0.0.1', '::1', `unknown, ${ADMIN}`, `${ADMIN}\t`],
];
/** Headers that are meant to make us believe a request came from the admin's address. */
const variants = names.flatMap((name) => values.map((value) => `${name}: ${value}`));
const isRefused = { status: 403, code: 'address_not_allowed' };
const sensitive = '/api/v1/api-keys';
const body = JSON.stringify({ name: 'k', scopes: ['plan.read'], expiresAt: '2030-01-01T00:00:00Z' });

const post = (world: World, { token }: Person, headers: string[]): ReturnType<typeof rawRequest> =>
  rawRequest(
    ...([world.url, 'POST', sensitive] as const),
    [`Authorization: Bearer ${token}`, 'Content-Type: application/json', ...headers],
    body,
  );

describe('V38 forwarded headers, nobody in between', () => {
  let direct: World;
  let owner: Person;

  beforeAll(async () => {
    direct = await createWorld({ env: { ADMIN_CIDRS: '192.0.2.0/24' } });
    owner = await direct.person(await direct.tenant(), 'owner');
  });
  afterAll(() => direct.close());

  test('direct: 200 and more headers that name an admin’s address change nothing [R2-06]', async () => {
    expect(variants.length).toBeGreaterThan(200);
    for (const header of variants)
      expect((await post(direct, owner, [header])).body, header).toMatchObject(isRefused);
  });

  test('direct: none of them is logged as the address of a change, and none opens another limit', async () => {
    const answer = await rawRequest(
      ...([direct.url, 'POST', '/api/v1/node-groups'] as const),
      [`Authorization: Bearer ${owner.token}`, 'Content-Type: application/json', ...variants.slice(0, 30)],
      '{"name":"a"}',
    );
    expect(answer.status).toBe(201);
    const rows = await direct.sql<{ ip: string }>(
      `SELECT DISTINCT host(ip) AS ip FROM audit_log WHERE tenant_id = $1`,
      [owner.tenantId],
    );
    expect(rows).toEqual([{ ip: '127.0.0.1' }]);
  });
});

describe('V38 forwarded headers, behind a proxy', () => {
  let behind: World;
  let proxied: Person;

  beforeAll(async () => {
    behind = await createWorld({
      env: { ADMIN_CIDRS: '192.0.2.0/24', TRUSTED_PROXIES: '127.0.0.1/32,10.9.0.0/16' },
    });
    proxied = await behind.person(await behind.tenant(), 'owner');
  });
  afterAll(() => behind.close());

  test('behind a proxy: the right-most address that is no proxy counts, what stands left of it was written by anybody [R2-06]', async () => {
    const to = (forwarded: string): ReturnType<typeof rawRequest> =>
      post(behind, proxied, [`X-Forwarded-For: ${forwarded}`]);
    for (const forwarded of [
      ...[
        `${ADMIN}, 203.0.113.9`,
        `${ADMIN},203.0.113.9,10.9.0.1`,
        `${ADMIN}, unknown`,
        `${ADMIN}, 203.0.113.9 x`,
      ],
      ...[
        `${ADMIN}, 203.0.113.9:${ADMIN}`,
        `203.0.113.9, 10.9.0.1`,
        'garbage',
        `${ADMIN} 203.0.113.9`,
        `${ADMIN}:443`,
      ],
      ...[`10.9.0.1`, `::ffff:203.0.113.9`, `${ADMIN}, 010.9.0.1`, `${ADMIN}, 0x7f000001`, `${ADMIN}, 127.1`],
    ])
      expect((await to(forwarded)).body, forwarded).toMatchObject(isRefused);
    for (const forwarded of [
      ADMIN,
      `203.0.113.9, ${ADMIN}`,
      `${ADMIN}, 10.9.0.1`,
      `::ffff:${ADMIN}`,
      `garbage, ${ADMIN}`,
    ])
      expect((await to(forwarded)).body['code'], forwarded).not.toBe('address_not_allowed');
  });

  test('behind a proxy: no other header than the one it sets is read', async () => {
    for (const header of variants.filter((each) => !each.startsWith('X-Forwarded-For')))
      expect(
        (await post(behind, proxied, ['X-Forwarded-For: 203.0.113.9', header])).body,
        header,
      ).toMatchObject(isRefused);
    // Nor two of it: the second is what the proxy wrote.
    const two = await post(behind, proxied, [`X-Forwarded-For: ${ADMIN}`, 'X-Forwarded-For: 203.0.113.9']);
    expect(two.body).toMatchObject(isRefused);
  });

  test('one spelling for each address; what is none is nobody', () => {
    const same = (spellings: string[], address: string | null): void => {
      for (const text of spellings) expect(clientAddress(text), text).toBe(address);
    };
    same(
      ['192.0.2.7', '::ffff:192.0.2.7', '::FFFF:192.0.2.7', '::ffff:c000:207', '0:0:0:0:0:ffff:c000:0207'],
      '192.0.2.7',
    );
    same(['2001:db8::1', '2001:DB8:0:0:0:0:0:1', '2001:0db8::0001%eth0'], '2001:db8::1');
    same(
      ['', 'unknown', '192.0.2', '192.0.2.07', '192.0.2.7:80', '[::1]', '_hidden', '0x7f.1', '1', '::g'],
      null,
    );
    expect(clientAddress(undefined)).toBeNull();
  });

  test.each([
    '0.0.0.0/0',
    '::/0',
    '10.0.0.0/8,0.0.0.0/0',
    'any',
    '10.0.0.1',
    '10.0.0.0/33',
    ',',
    '10.0.0.0/8,',
  ])('a list of trusted proxies that is everybody or nobody keeps the process from starting: %s', (list) => {
    const env = {
      ...{ NODE_ENV: 'test', PUBLIC_URL: 'http://127.0.0.1', DATABASE_URL: 'postgresql://127.0.0.1:1/x' },
      ...{ DATA_KEY: Buffer.from(Array.from({ length: 32 }, (_, i) => i * 7)).toString('base64') },
      ...{ JWT_KEY: signingKey(), TLS_CERT_FILE: 'c', TLS_KEY_FILE: 'k', TLS_ROOT_FILE: 'r' },
      ...{ SCHEDULER_ADDRESS: 'a:1', NODE_ENROLL_ADDRESS: 'a:1', NODE_ENFORCEMENT_ADDRESS: 'a:1' },
      ...{ NODE_USAGE_ADDRESS: 'a:1', TRUSTED_PROXIES: list },
    };
    expect(() => loadConfig(configSchema, env)).toThrow(/TRUSTED_PROXIES/);
  });
});
