// V24: a request without an id, with two, or with something that is none reaches nobody's object; a body counts only
// under a content type that says JSON and nothing else.
import { afterAll, describe, expect, test } from 'vitest';
import { controllers } from '../../apps/control-api/src/app.module.js';
import { routesOf, type Route } from '../../apps/control-api/src/http/routes.js';
import { exampleBody, fingerprint, idsOf, request, type Ids } from '../../apps/control-api/test/attacks.js';
import { scene } from '../../apps/control-api/test/scene.js';
import { createWorld } from '../../apps/control-api/test/world.js';
import { rawRequest } from './raw-http.js';

const routes = routesOf(controllers).filter((route) => route.declaration.access !== 'public');
const byId = routes.filter((route) => /:\w+Id\b/.test(route.path));
const withBody = routes.filter((route) => route.body !== undefined);
const named = (list: Route[]): [string, Route][] =>
  list.map((route) => [`${route.method} ${route.path}`, route]);

const noIds = ['null', 'undefined', 'NaN', '0', '-1', '1', '[]', '{}', 'true', 'me', 'all', '*', "1'--"];
const types = [
  ...['', 'text/plain', 'application/json x', 'application/json;', 'application/json; charset=utf-16'],
  ...['application/json, text/plain', 'application/jsonx', 'application/x-json', 'application/json\tx'],
  ...[
    'application/json; charset=utf-8; x=y',
    'application/merge-patch+json',
    'text/json',
    'multipart/form-data',
  ],
  ...['application/x-www-form-urlencoded', 'application/json;boundary=a', '"application/json"'],
];

describe('V24 ids and content types', async () => {
  const world = await createWorld();
  const tenantId = await world.tenant();
  const own = await scene(world, await world.person(tenantId, 'owner'));
  const ids: Ids = idsOf(own);
  afterAll(() => world.close());

  test.each(named(byId))(
    '%s: what is no id, none, or two are refused, and nothing changes',
    async (_name, route) => {
      const before = await fingerprint(world, ids);
      const { method, path, body } = request(route, ids, ids);
      const mine = Object.values(ids).find((id) => path.includes(id)) ?? '';
      const wrong = [
        ...noIds.map((text) => path.replace(mine, encodeURIComponent(text))),
        path.replace(mine, ''),
        path.replace(`/${mine}`, ''),
        path.replace(mine, `${mine},${mine}`),
        path.replace(mine, `${mine}${mine}`),
        path.replace(mine, `${mine}/${mine}`),
        path.replace(mine, `{${mine}}`),
        path.replace(mine, `urn:uuid:${mine}`),
        path.replace(mine, '00000000-0000-0000-0000-000000000000'),
      ];
      for (const target of new Set(wrong)) {
        // The collection itself is another route with its own rules.
        if (routes.some((each) => each.method === method && each.path === target)) continue;
        const answer = await world.ask(method, target, { as: own.admin, ...(body && { body }) });
        expect([400, 403, 404], `${target} ${answer.text.slice(0, 200)}`).toContain(answer.status);
        expect(['invalid_input', 'not_found', 'forbidden']).toContain(answer.body['code']);
      }
      expect(await fingerprint(world, ids)).toBe(before);
    },
  );

  test.each(named(withBody))(
    '%s: an id in the body that is empty, a list, an object or there twice is refused',
    async (_name, route) => {
      const before = await fingerprint(world, ids);
      const { method, path, body } = request(route, ids, ids);
      const names = Object.entries(exampleBody(route) ?? {}).filter(
        ([name, value]) => name.endsWith('Id') && typeof value === 'string',
      );
      for (const [name, value] of names) {
        for (const wrong of ['', [], [value], [value, value], {}, { $ne: null }, 0, true]) {
          const answer = await world.ask(method, path, { as: own.admin, body: { ...body, [name]: wrong } });
          if (answer.body['code'] === 'forbidden') break;
          expect(answer.body, `${name} ${JSON.stringify(wrong)}`).toMatchObject({
            status: 400,
            code: 'invalid_input',
          });
        }
      }
      for (const wrong of ['[]', 'null', '""', '0', '[{}]', '{"":1}']) {
        const answer = await world.ask(method, path, { as: own.admin, body: wrong });
        if (answer.body['code'] === 'forbidden') continue;
        expect(answer.body, wrong).toMatchObject({ status: 400, code: 'invalid_input' });
      }
      expect(await fingerprint(world, ids)).toBe(before);
    },
  );

  test.each(named(withBody))(
    '%s: 415 for any content type that is not JSON in UTF-8',
    async (_name, route) => {
      const { method, path, body } = request(route, ids, ids);
      const before = await fingerprint(world, ids);
      for (const type of types) {
        const answer = await rawRequest(
          ...([world.url, method, path] as const),
          [`Authorization: Bearer ${own.admin.token}`, `Content-Type: ${type}`],
          JSON.stringify(body),
        );
        expect(answer.body, type).toMatchObject({ status: 415, code: 'unsupported_media_type' });
      }
      expect(await fingerprint(world, ids)).toBe(before);
    },
  );

  test('400: a key that is there twice, a name that means something to JavaScript, depth, broken text', async () => {
    const post = (body: string | Buffer): Promise<{ status: number; body: Record<string, unknown> }> =>
      world.ask('POST', '/api/v1/node-groups', { as: own.admin, body: body as string });
    const wrong: [string, string | undefined][] = [
      ['{"name":"a","name":"b"}', 'name'],
      ['{"name":"a","n\\u0061me":"b"}', 'name'],
      ['{"a":{"b":[{"c":1,"c":2}]}}', 'a.b.0.c'],
      ['{"__proto__":{"x":1},"name":"a"}', '__proto__'],
      ['{"constructor":1}', 'constructor'],
      ['{"a":{"prototype":1}}', 'a.prototype'],
      [`${'['.repeat(100_000)}`, undefined],
      [`${'{"a":'.repeat(100)}1${'}'.repeat(100)}`, undefined],
      ['{"name":"a\\u0000b"}', 'name'],
      ['{"name":"a\\u001bb"}', 'name'],
      ['{"name":"\\ud800"}', 'name'],
      ['\ufeff{"name":"a"}', undefined],
      ['{"name":"a"}{"name":"b"}', undefined],
      ['{"name":"a",}', undefined],
      ["{'name':'a'}", undefined],
      ['{"name":NaN}', undefined],
      ['{"name":1e400}', 'name'],
      ['{"name":9007199254740993}', 'name'],
    ];
    for (const [body, field] of wrong) {
      const answer = await post(body);
      expect(answer.body, body.slice(0, 60)).toMatchObject({ status: 400, code: 'invalid_input' });
      if (field !== undefined) expect(answer.body['field'], body).toContain(field.split('.').at(0));
    }
    const bytes = await fetch(`${world.url}/api/v1/node-groups`, {
      method: 'POST',
      headers: { authorization: `Bearer ${own.admin.token}`, 'content-type': 'application/json' },
      body: Buffer.from([0x7b, 0x22, 0x6e, 0x22, 0x3a, 0x22, 0xff, 0x22, 0x7d]),
    });
    expect(bytes.status).toBe(400);
  });

  test('a compressed body, a second header of a kind, a body or a query that nobody reads', async () => {
    const ask = (
      headers: string[],
      target = '/api/v1/node-groups',
      body = '{"name":"a"}',
    ): Promise<{ status: number; body: Record<string, unknown> }> =>
      rawRequest(
        world.url,
        'POST',
        target,
        [`Authorization: Bearer ${own.admin.token}`, 'Content-Type: application/json', ...headers],
        body,
      );
    expect((await ask(['Content-Encoding: gzip'])).body).toMatchObject({
      status: 415,
      field: 'content-encoding',
    });
    expect((await ask(['Content-Type: application/json'])).body).toMatchObject({
      status: 400,
      field: 'content-type',
    });
    expect((await ask(['Authorization: Bearer other'])).body).toMatchObject({
      status: 400,
      field: 'authorization',
    });
    expect((await ask(['Idempotency-Key: a', 'Idempotency-Key: b'])).body).toMatchObject({
      status: 400,
      field: 'idempotency-key',
    });
    expect((await ask(['Host: elsewhere.example'])).status).toBeGreaterThanOrEqual(400);
    expect((await ask([], '/api/v1/node-groups?x=1')).body).toMatchObject({ status: 400, field: 'x' });
    expect((await ask([], '/api/v1/node-groups?%00=1')).body).toMatchObject({ status: 400, field: 'query' });
    expect((await ask([], '/api/v1/node-groups?x=%ff')).body).toMatchObject({ status: 400, field: 'query' });
  });
});
