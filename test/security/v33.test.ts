// V33: what sorts, filters or groups comes from closed lists; no text of a request becomes SQL.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { controllers } from '../../apps/control-api/src/app.module.js';
import { jsonSchema } from '../../apps/control-api/src/http/openapi-components.js';
import { routesOf } from '../../apps/control-api/src/http/routes.js';
import { idsOf, request, type Ids } from '../../apps/control-api/test/attacks.js';
import { scene } from '../../apps/control-api/test/scene.js';
import { createWorld, type Person, type World } from '../../apps/control-api/test/world.js';

type Property = { enum?: unknown[]; anyOf?: Property[] };
const injections = [
  ...[
    "'",
    "''",
    '"',
    '`',
    '\\',
    ';',
    '--',
    '/*',
    '*/',
    '$1',
    '$$',
    '%',
    '\0',
    "' OR '1'='1",
    "'; DROP TABLE plan; --",
  ],
  ...[
    'name; SELECT pg_sleep(5)',
    '(SELECT 1)',
    'name DESC, (SELECT 1)',
    '1 UNION SELECT password_hash FROM account',
  ],
  ...["E'\\x27'", 'ｎａｍｅ', '\u02bc OR 1=1', 'created_at::text', 'pg_catalog.version()', '1e1', '0x1'],
];

describe('V33 identifiers come from closed lists', () => {
  let world: World;
  let ids: Ids;
  let person: Person;
  const lists = routesOf(controllers).filter(
    ({ method, path, query, declaration }) =>
      // Sign-in elsewhere answers by redirects.
      method === 'GET' &&
      query !== undefined &&
      !path.includes('/oidc/') &&
      declaration.contentType !== 'text/event-stream',
  );

  beforeAll(async () => {
    world = await createWorld({ env: { RATE_LIMIT_FACTOR: '10000' } });
    const made = await scene(world, await world.person(await world.tenant(), 'owner'));
    [ids, person] = [idsOf(made), made.admin];
  });
  afterAll(() => world.close());

  test('every parameter that names a column or an order is an enum', () => {
    for (const route of lists) {
      const { properties = {} } = jsonSchema(route.query as never) as {
        properties?: Record<string, Property>;
      };
      for (const [name, property] of Object.entries(properties)) {
        if (!/^(sort|order|by|step|group|groupBy|format|scope)$/.test(name)) continue;
        expect(
          property.enum ?? property.anyOf?.some((each) => each.enum),
          `${route.path} ${name}`,
        ).toBeTruthy();
      }
    }
  });

  test('injected text in every parameter of every list is refused or searched for; no statement breaks', async () => {
    const before = await world.sql<{ count: bigint }>('SELECT count(*) AS count FROM plan');
    let asked = 0;
    for (const route of lists) {
      const { properties = {} } = jsonSchema(route.query as never) as {
        properties?: Record<string, Property>;
      };
      const { path } = request(route, ids, ids);
      for (const name of Object.keys(properties)) {
        for (const text of injections) {
          const url = `${path}${path.includes('?') ? '&' : '?'}${name}=${encodeURIComponent(text)}`;
          const answer = await world.ask('GET', url, { as: person });
          expect(answer.status, `${url} ${answer.text.slice(0, 200)}`).toBeLessThan(500);
          asked += 1;
        }
      }
    }
    expect(asked).toBeGreaterThan(300);
    // Where a statement breaks the log says so: an internal error with its cause.
    expect(world.lines.filter((line) => line['msg'] === 'request failed')).toEqual([]);
    expect(await world.sql<{ count: bigint }>('SELECT count(*) AS count FROM plan')).toEqual(before);
  }, 300_000);
});
