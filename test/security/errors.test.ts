// What breaks inside is told by a code and a request id: with the database broken under every route in several ways, no
// answer holds a path, a statement, a name of a table, a version or a stack.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { controllers } from '../../apps/control-api/src/app.module.js';
import { routesOf, type Route } from '../../apps/control-api/src/http/routes.js';
import { idsOf, request, type Ids } from '../../apps/control-api/test/attacks.js';
import { scene } from '../../apps/control-api/test/scene.js';
import { createWorld, type Answer, type Person, type World } from '../../apps/control-api/test/world.js';

const routes = routesOf(controllers).filter(
  (route) =>
    // Endless answers; and redirects, which tell a code in their fragment (apps/control-api/test/oidc.test.ts).
    route.declaration.contentType !== 'text/event-stream' &&
    route.path.startsWith('/api/') &&
    !/\/oidc\/.*(start|callback)$/.test(route.path),
);
const inside = [
  ...[
    /node_modules|\/(dist|src|apps|packages|home|root|usr|tmp)\//,
    /\n\s+at |\.(js|ts):\d+|Error:|TypeError/,
  ],
  ...[/\b(SELECT|INSERT INTO|UPDATE \w+ SET|DELETE FROM|relation|column|constraint|syntax error)\b/],
  ...[
    /\b(pg|postgres(ql)?|fastify|nestjs|node)[ /]?v?\d/i,
    /ECONN|ENOENT|EPIPE|42P01|42501|57014|penstock_\w+/,
  ],
  ...[/permission denied|does not exist|row-level|statement timeout|terminating connection/],
];

/** Each way breaks what every request needs or what its own statements need, and is undone. */
const ways: [string, { break: string[]; mend: string[] }][] = [
  [
    'tables that the login may not touch',
    {
      break: ['REVOKE ALL ON ALL TABLES IN SCHEMA public FROM penstock_control_api'],
      mend: [],
    },
  ],
  [
    'tables that are away',
    {
      break: ['CREATE SCHEMA away', ...move('public', 'away')],
      mend: [...move('away', 'public'), 'DROP SCHEMA away'],
    },
  ],
];

/** Statements that move what requests about objects need; people and sessions stay, so that the guard lets them in. */
function move(from: string, to: string): string[] {
  const tables = [
    ...['plan', 'node', 'subscription', 'device', 'usage_counter', 'webhook', 'invitation', 'setting'],
    ...['audit_log', 'statement', 'enforcement', 'join_token', 'node_group', 'usage_day', 'signing_key'],
  ];
  return tables.map((table) => `ALTER TABLE ${from}.${table} SET SCHEMA ${to}`);
}

/** Handlers that none of the ways can break, and why. */
const unbreakable: Record<string, string> = {
  'OpenApiController.get': 'made at the start and kept in memory',
  'OpenApiController.page': 'made at the start and kept in memory',
  'PasskeysController.signInOptions': 'makes a challenge that proves itself, and keeps nothing',
  'MachineTokensController.attenuate': 'the example’s token is none, which is seen before anything is read',
  'OidcController.exchange': 'the example’s code is none, which is seen before anything is read',
};

describe('errors tell nothing of the inside', () => {
  let world: World;
  let person: Person;
  let platform: Person;
  let ids: Ids;

  /** Handlers that answered with 500 or more, in whichever way. */
  const broke = new Set<string>();

  beforeAll(async () => {
    world = await createWorld({ env: { RATE_LIMIT_FACTOR: '10000' } });
    person = await world.person(await world.tenant(), 'owner');
    platform = await world.person(world.platform, 'owner');
    ids = idsOf(await scene(world, person));
  });
  afterAll(() => world.close());

  const send = (route: Route, as: Person | undefined): Promise<Answer> => {
    const { method, path, body } = request(route, ids, ids);
    return world.ask(method, path, { ...(as && { as }), ...(body && { body }) });
  };

  test.each(ways.toReversed())(
    'with %s, whichever route breaks tells a code, a request id, and nothing else [R3-14]',
    { timeout: 120_000 },
    async (_name, way) => {
      // Warm, so that the guard knows the callers and the routes themselves are reached.
      for (const as of [person, platform]) await world.ask('GET', '/api/v1/auth/me', { as });
      for (const sql of way.break) await world.sql(sql);
      let broken = 0;
      try {
        for (const route of routes) {
          for (const as of [person, platform, undefined]) {
            const answer = await send(route, as);
            const told = `${route.method} ${route.path} ${answer.status} ${answer.text.slice(0, 300)}`;
            // What needs none of it answers as always.
            if (answer.status < 500) continue;
            broken += 1;
            broke.add(route.handler);
            expect(Object.keys(answer.body).sort(), told).toEqual(
              expect.arrayContaining(['code', 'detail', 'request_id', 'status', 'title', 'type']),
            );
            expect(answer.body['code'], told).toMatch(/^(internal|unavailable)$/);
            expect(answer.body['request_id'], told).toBe(answer.headers.get('x-request-id'));
            expect(answer.headers.get('content-type'), told).toMatch(/^application\/problem\+json/);
            for (const pattern of inside) expect(answer.text, told).not.toMatch(pattern);
            for (const [name, value] of answer.headers)
              for (const pattern of inside) expect(`${name}: ${value}`, told).not.toMatch(pattern);
          }
        }
      } finally {
        for (const sql of way.mend) await world.sql(sql);
      }
      expect(broken).toBeGreaterThan(routes.length);
    },
  );

  test('every route was broken in one of the ways, but for those that need nothing of it [R3-14]', () => {
    const handlers = [...new Set(routes.map((route) => route.handler))];
    expect(handlers.filter((handler) => !broke.has(handler)).sort()).toEqual(Object.keys(unbreakable).sort());
  });
});
