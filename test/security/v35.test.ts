// V35: no page of another site changes anything here, and no name that an attacker points at us is ours. Every change is
// refused with a foreign Origin or Host before it is looked at; a bearer is never sent by a browser by itself.
import { afterAll, describe, expect, test } from 'vitest';
import { controllers } from '../../apps/control-api/src/app.module.js';
import { routesOf } from '../../apps/control-api/src/http/routes.js';
import { fingerprint, idsOf, request } from '../../apps/control-api/test/attacks.js';
import { scene } from '../../apps/control-api/test/scene.js';
import { createWorld } from '../../apps/control-api/test/world.js';
import { rawRequest } from './raw-http.js';

const mutations = routesOf(controllers).filter((route) => !['GET', 'HEAD'].includes(route.method));

const foreignOrigins = [
  ...[
    'null',
    'https://evil.example',
    'http://penstock.example.evil.example',
    'https://evil-penstock.example',
  ],
  ...['https://penstock.example.', 'https://penstock.example:8443', 'http://penstock.example', 'file://'],
  ...['chrome-extension://abc', 'https://penstock.example@evil.example', 'https://penstock.example/', ''],
];
const foreignHosts = [
  ...['evil.example', 'penstock.example.evil.example', 'evil.example:443', 'x.penstock.example', '', 'a b'],
  ...[
    'penstock.example@evil.example',
    'penstock.example/evil',
    '[::1',
    'localhost.evil.example',
    'penstock_example',
  ],
];

describe('V35 foreign pages and names', async () => {
  const world = await createWorld({ env: { PUBLIC_URL: 'https://penstock.example' } });
  const own = await scene(world, await world.person(await world.tenant(), 'owner'));
  const ids = idsOf(own);
  afterAll(() => world.close());

  const send = (route: (typeof mutations)[number], headers: string[]): ReturnType<typeof rawRequest> => {
    const { method, path, body } = request(route, ids, ids);
    const all = [`Authorization: Bearer ${own.admin.token}`, ...headers];
    return body === undefined
      ? rawRequest(world.url, method, path, all)
      : rawRequest(world.url, method, path, ['Content-Type: application/json', ...all], JSON.stringify(body));
  };

  test.each(mutations.map((route) => [`${route.method} ${route.path}`, route] as const))(
    '%s: a foreign Origin and a foreign Host are refused, and nothing changes',
    async (_name, route) => {
      const before = await fingerprint(world, ids);
      for (const origin of foreignOrigins) {
        const answer = await send(route, ['Host: penstock.example', `Origin: ${origin}`]);
        expect(answer.body, origin).toMatchObject({ status: 403, code: 'forbidden', field: 'origin' });
      }
      for (const host of foreignHosts) {
        const { status } = await send(route, [`Host: ${host}`]);
        expect([400, 403], host).toContain(status);
      }
      const { status } = await send(route, ['Host: penstock.example', 'Sec-Fetch-Site: cross-site']);
      expect(status).toBe(403);
      expect(await fingerprint(world, ids)).toBe(before);
    },
  );

  test('our own pages and programs are served: by name, by address, with and without Origin', async () => {
    const { port } = new URL(world.url);
    const headers: string[][] = [
      ['Host: penstock.example', 'Origin: https://penstock.example'],
      ['Host: penstock.example'],
      ['Host: PENSTOCK.example', 'Origin: https://penstock.example', 'Sec-Fetch-Site: same-origin'],
      [`Host: 127.0.0.1:${port}`, `Origin: http://127.0.0.1:${port}`],
      [`Host: localhost:${port}`, `Origin: http://localhost:${port}`],
      [`Host: [::1]:${port}`],
    ];
    for (const [i, lines] of headers.entries()) {
      const all = ['Content-Type: application/json', `Authorization: Bearer ${own.admin.token}`, ...lines];
      const body = JSON.stringify({ name: `group ${i}` });
      const made = await rawRequest(world.url, 'POST', '/api/v1/node-groups', all, body);
      expect(made.body, lines.join()).toMatchObject({ name: `group ${i}` });
    }
  });

  test('no answer sets a cookie of a session or lets another site read it', async () => {
    for (const origin of ['https://evil.example', 'null', 'https://penstock.example']) {
      for (const method of ['GET', 'OPTIONS']) {
        const { head } = await rawRequest(world.url, method, '/api/v1/plans', [
          ...[`Authorization: Bearer ${own.admin.token}`, `Origin: ${origin}`],
          'Access-Control-Request-Method: POST',
        ]);
        expect(head).not.toMatch(/access-control-allow|set-cookie/i);
      }
    }
    // Without the header there is nobody, whatever else is sent along.
    const { status } = await rawRequest(world.url, 'GET', '/api/v1/plans', [
      `Cookie: access_token=${own.admin.token}`,
    ]);
    expect(status).toBe(401);
  });
});
