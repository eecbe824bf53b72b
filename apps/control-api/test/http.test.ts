import { createHash } from 'node:crypto';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { Controller, Get } from '@nestjs/common';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { registeredStatements } from '@penstock/db/statement';
import { createPool } from '@penstock/db/pool';
import { AppModule, controllers } from '../src/app.module.js';
import { homePage } from '../src/http/home.page.js';
import { routesOf } from '../src/http/routes.js';
import { changedSettings } from '../src/settings/settings.schema.js';
import { createWorld, type Person, type World } from './world.js';

let world: World;
let admin: Person;

beforeAll(async () => {
  world = await createWorld();
  admin = await world.person(await world.tenant(), 'admin');
});
afterAll(() => world.close());

class Undeclared {
  everything(): string {
    return 'all secrets';
  }
}
// As the decorators would, which are compiled in src only.
Controller('open')(Undeclared);
const everything = Object.getOwnPropertyDescriptor(Undeclared.prototype, 'everything') as PropertyDescriptor;
Get()(Undeclared.prototype, 'everything', everything);

test('a route without a declared permission keeps the process from starting', () => {
  expect(() => AppModule.with(world.context, [...controllers, Undeclared])).toThrow(
    'Undeclared.everything declares no permission',
  );
});

test('the root is a page of ours that runs nothing, leads to the reference and tells nothing of this installation', async () => {
  const answer = await world.ask('GET', '/');
  expect(answer.status).toBe(200);
  expect(answer.headers.get('content-type')).toBe('text/html; charset=utf-8');
  const policy = answer.headers.get('content-security-policy') ?? '';
  const style = /<style>([^]*)<\/style>/.exec(answer.text)?.[1] ?? '';
  expect(policy).toContain(`style-src 'sha256-${createHash('sha256').update(style).digest('base64')}'`);
  expect(policy).toContain(`default-src 'none'`);
  expect(policy).not.toMatch(/script-src|connect-src|unsafe/);
  expect(answer.text).not.toMatch(/<script|src=|https?:/);
  expect(answer.text).toContain('./penstock login');
  // On a narrow window the commands are wrapped: neither they nor the page have a scrollbar.
  expect(/^pre \{[^}]*white-space: pre-wrap; overflow-wrap: anywhere;/m.test(style)).toBe(true);
  expect(style).toMatch(/^body \{[^}]*grid-template-columns: minmax\(0, 1fr\)/m);
  const links = [...answer.text.matchAll(/href="([^"]+)"/g)].map((match) => match[1] ?? '');
  expect(links).toEqual(['api/v1/reference', 'api/v1/openapi.json']);
  for (const link of links) expect((await world.ask('GET', `/${link}`)).status).toBe(200);
  // The same for who is signed in, and before and after there is an owner: it is made when the program is loaded.
  expect((await world.ask('GET', '/', { as: admin })).text).toBe(answer.text);
  expect(answer.text).toBe(homePage.html);
});

test('without a token every guarded route answers 401 and nothing else', async () => {
  const guarded = routesOf(controllers).filter((route) => route.declaration.access !== 'public');
  expect(guarded.length).toBeGreaterThan(20);
  for (const route of guarded) {
    const path = route.path.replace(/:\w+/g, '018f0000-0000-7000-8000-0000000000ff');
    const answer = await world.ask(route.method, path, route.body === undefined ? {} : { body: {} });
    expect(answer.body, route.handler).toMatchObject({ status: 401, code: 'unauthenticated' });
  }
});

test('the OpenAPI document and the router are the same, with permission and codes on each route', async () => {
  const { body } = await world.ask('GET', '/api/v1/openapi.json');
  const paths = body['paths'] as Record<string, Record<string, Record<string, unknown>>>;
  const documented = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, route]) => {
      expect(route['x-permission']).toBeTypeOf('string');
      return `${method.toUpperCase()} ${path}`;
    }),
  );
  const routed = routesOf(controllers).map(
    (route) => `${route.method} ${route.path.replace(/:(\w+)/g, '{$1}')}`,
  );
  expect(documented.sort()).toEqual(routed.sort());
  // What the router itself prints, so that no route exists beside the table.
  const printed = world.app.getHttpAdapter().getInstance().printRoutes({ commonPrefix: false });
  const served = [...printed.matchAll(/\(([A-Z, ]+)\)/g)].flatMap(([, list]) => list?.split(', ') ?? []);
  expect(served.filter((method) => method !== 'HEAD')).toHaveLength(routed.length);
  const create = paths['/api/v1/plans']?.['post'] as { responses: Record<string, { 'x-codes'?: string[] }> };
  expect(create.responses['400']?.['x-codes']).toEqual(['invalid_input']);
  expect(create.responses['404']?.['x-codes']).toEqual(['not_found']);
});

test('400: an unknown field is named', async () => {
  const body = { name: 'a', owner: 'me' };
  const answer = await world.ask('POST', '/api/v1/node-groups', { as: admin, body });
  expect(answer.headers.get('content-type')).toBe('application/problem+json; charset=utf-8');
  expect(answer.body).toMatchObject({
    ...{ type: 'urn:penstock:problem:invalid_input', title: 'Invalid input', status: 400 },
    ...{ code: 'invalid_input', detail: 'owner: unknown field', field: 'owner' },
  });
});

test('400: broken JSON, prototype keys, control characters, repeated query fields, a path that is no id', async () => {
  const post = (body: string): Promise<{ body: object }> =>
    world.ask('POST', '/api/v1/node-groups', { as: admin, body });
  expect((await post('{"name":')).body).toMatchObject({ status: 400, code: 'invalid_input' });
  expect((await post('{"name":"a","__proto__":{"role":"owner"}}')).body).toMatchObject({ status: 400 });
  expect((await post('{"name":"a","constructor":{"prototype":{"x":1}}}')).body).toMatchObject({
    status: 400,
  });
  expect((await post('{"name":"a\\u0000b"}')).body).toMatchObject({ status: 400, field: 'name' });
  expect((await post('{"name":"\\ud800"}')).body).toMatchObject({ status: 400, field: 'name' });
  expect((await post('[]')).body).toMatchObject({ status: 400 });
  expect((await post('')).body).toMatchObject({ status: 400 });
  const get = (path: string): Promise<{ body: object }> => world.ask('GET', path, { as: admin });
  expect((await get('/api/v1/plans?limit=5&limit=6')).body).toMatchObject({ status: 400, field: 'limit' });
  expect((await get('/api/v1/plans?limit=0')).body).toMatchObject({ status: 400, field: 'limit' });
  expect((await get('/api/v1/plans?limit=201')).body).toMatchObject({ status: 400, field: 'limit' });
  expect((await get('/api/v1/plans/all')).body).toMatchObject({ status: 400, field: 'planId' });
});

test('400: a refusal says in words of people what the field must be', async () => {
  const told = async (path: string, body: object): Promise<unknown> =>
    (await world.ask('POST', path, { as: admin, body })).body['detail'];
  const groups = '/api/v1/node-groups';
  expect(await told(groups, { name: 'n'.repeat(101) })).toBe('name: must be at most 100 characters');
  expect(await told(groups, { name: '' })).toBe('name: must not be empty');
  expect(await told(groups, { name: 7 })).toBe('name: must be text');
  expect(await told(groups, {})).toBe('name: is missing');
  const plan = { name: 'p', limitBytes: '1' };
  expect(await told('/api/v1/plans', { ...plan, period: 'year' })).toMatch(
    /^period: must be one of none, day, /,
  );
  expect(await told('/api/v1/plans', { ...plan, deviceLimit: null })).toBe('deviceLimit: must be a number');
  expect(await told('/api/v1/plans', { ...plan, deviceLimit: 0 })).toBe('deviceLimit: must be at least 1');
  const key = { name: 'k', scopes: ['usage.read'] };
  expect(await told('/api/v1/api-keys', { ...key, expiresAt: 'soon' })).toBe(
    'expiresAt: must be a time such as 2026-01-31T12:00:00Z',
  );
  expect(await told('/api/v1/api-keys', { ...key, scopes: ['all'] })).toMatch(
    /^scopes\.0: must be one of ([a-z_.]+, )+[a-z_.]+ and \d+ more$/,
  );
  const day = await world.ask('GET', '/api/v1/usage/top?from=x&to=2026-01-31', { as: admin });
  expect(day.body['detail']).toBe('from: must be a day such as 2026-01-31');
  const settings = (change: object): unknown =>
    changedSettings.safeParse(change).error?.issues.map((issue) => issue.message);
  expect(settings({ supportUrl: 'http://x.example' })).toEqual(['must be an https address']);
  expect(settings({ supportName: 'n'.repeat(101) })).toEqual(['must be at most 100 characters']);
  expect(settings({ minPasswordLength: 11 })).toEqual(['must be at least 12']);
});

test('404: paths that only look like ours', async () => {
  for (const path of [
    '/api/v1/plans/',
    '/API/v1/plans',
    '//api/v1/plans',
    '/api/v1/plans/..%2fnodes',
    '/api/v1/plan%00s',
  ]) {
    const answer = await world.ask('GET', path, { as: admin });
    expect([400, 404], path).toContain(answer.status);
    expect(answer.body['code'], path).toMatch(/not_found|invalid_input/);
  }
  expect((await world.ask('TRACE', '/api/v1/plans').catch(() => ({ status: 404 }))).status).toBe(404);
});

test('413 at the first line of a body that says it is too large: nothing of it is waited for [R1-16]', async () => {
  for (const length of ['1048577', '1000000000', '99999999999999']) {
    const socket = connect(Number(new URL(world.url).port), '127.0.0.1');
    const head = ['POST /api/v1/node-groups HTTP/1.1', 'host: 127.0.0.1', 'content-type: application/json'];
    head.push(
      `authorization: Bearer ${admin.token}`,
      `content-length: ${length}`,
      'connection: close',
      '',
      '',
    );
    socket.write(head.join('\r\n'));
    expect(await text(socket), length).toMatch(/^HTTP\/1\.1 413 /);
  }
});

test('413: a body over 1 MiB; 415: any other content type [R1-16]', async () => {
  const large = await world.ask('POST', '/api/v1/node-groups', {
    as: admin,
    body: { name: 'x'.repeat(1024 * 1024) },
  });
  expect(large.body).toMatchObject({ status: 413, code: 'payload_too_large' });
  for (const type of [
    'text/plain',
    'application/json x',
    'application/json; charset=utf-16',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=a',
    '',
  ]) {
    const answer = await world.ask('POST', '/api/v1/node-groups', {
      ...{ as: admin, body: '{"name":"a"}', headers: { 'content-type': type } },
    });
    expect(answer.body, type).toMatchObject({ status: 415, code: 'unsupported_media_type' });
  }
});

test('every answer has a request id of version 4, ours or the caller’s, and the headers that close a browser', async () => {
  const given = '7c9e6679-7425-40de-944b-e07fc1f90ae7';
  const answer = await world.ask('GET', '/api/v1/plans', { as: admin, headers: { 'x-request-id': given } });
  expect(answer.headers.get('x-request-id')).toBe(given);
  const foreign = await world.ask('GET', '/nothing', { headers: { 'x-request-id': '1\t2' } });
  expect(foreign.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{14}4/);
  expect(foreign.body['request_id']).toBe(foreign.headers.get('x-request-id'));
  expect(Object.fromEntries(answer.headers)).toMatchObject({
    ...{ 'cache-control': 'no-store', 'x-content-type-options': 'nosniff', 'x-frame-options': 'DENY' },
    ...{ 'referrer-policy': 'no-referrer' },
  });
  expect(answer.headers.get('server')).toBeNull();
});

test('a request id of anybody’s that is no UUID v4 is replaced, whatever it is [R2-25]', async () => {
  const v4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
  const foreign = [
    ...['', ' ', '1', 'null', '00000000-0000-0000-0000-000000000000', '018f0000-0000-7000-8000-0000000000ff'],
    ...[
      '6ba7b810-9dad-11d1-80b4-00c04fd430c8',
      '7c9e6679-7425-40de-044b-e07fc1f90ae7',
      '<script>',
      '{"a":1}',
    ],
    ...[
      '7c9e6679-7425-40de-944b-e07fc1f90ae7 x',
      '7c9e6679-7425-40de-944b-e07fc1f90ae7,1',
      'x'.repeat(8_000),
    ],
  ];
  for (const value of foreign) {
    const answer = await world.ask('GET', '/api/v1/plans', { headers: { 'x-request-id': value } });
    const id = answer.headers.get('x-request-id') ?? '';
    expect(id, value).toMatch(v4);
    expect(id, value).not.toBe(value);
    expect(answer.body['request_id'], value).toBe(id);
  }
  // Two of them, a line break in it, and one of 200 kB: refused or replaced, never shown again.
  const raw = async (header: string): Promise<string> => {
    const socket = connect(Number(new URL(world.url).port), '127.0.0.1');
    socket.write(`GET /api/v1/setup HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n${header}\r\n\r\n`);
    return text(socket).catch(() => '');
  };
  const given = '7c9e6679-7425-40de-944b-e07fc1f90ae7';
  for (const header of [
    `x-request-id: ${given}\r\nx-request-id: ${given.replace('7c', '8c')}`,
    `x-request-id: ${given}\n planted: yes`,
    `x-request-id: a\rplanted: yes`,
    `x-request-id: ${'x'.repeat(200_000)}`,
  ]) {
    const answer = await raw(header);
    expect(answer, header.slice(0, 80)).not.toMatch(/planted|x{40}/);
    const [, id] = /x-request-id: (.*)\r\n/i.exec(answer) ?? [];
    if (id !== undefined) expect(id, header.slice(0, 80)).toMatch(v4);
  }
});

test('a malformed request line is answered without a stack', async () => {
  const socket = connect(Number(new URL(world.url).port), '127.0.0.1');
  socket.write('GET /api/v1/%zz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n');
  const answer = await text(socket);
  expect(answer).toMatch(/^HTTP\/1\.1 4\d\d /);
  expect(answer).not.toMatch(/at .*\.js|stack|node_modules/);
});

test('500: what breaks inside is logged once and shown as nothing', async () => {
  await world.sql('ALTER TABLE plan RENAME TO plan_away');
  try {
    const before = world.lines.length;
    const answer = await world.ask('GET', '/api/v1/plans', { as: admin });
    expect(answer.body).toMatchObject({
      status: 500,
      code: 'internal',
      detail: 'something failed on our side',
    });
    expect(answer.text).not.toMatch(/plan_away|relation|SELECT/);
    const logged = world.lines.slice(before).filter((line) => line['level'] === 'error');
    expect(logged).toHaveLength(1);
    expect(logged[0]).toMatchObject({ requestId: answer.body['request_id'], msg: 'request failed' });
  } finally {
    await world.sql('ALTER TABLE plan_away RENAME TO plan');
  }
});

test('requests are counted by route template, method and status, and by nothing a caller can choose', async () => {
  await world.ask('GET', '/api/v1/plans/018f0000-0000-7000-8000-0000000000ff', { as: admin });
  await world.ask('GET', '/random/one');
  const metrics = await world.context.metrics.registry.metrics();
  expect(metrics).toMatch(
    /http_requests_total\{method="GET",route="\/api\/v1\/plans\/:planId",status="404"\} \d+/,
  );
  expect(metrics).toMatch(/http_requests_total\{method="other",route="none",status="404"\} \d+/);
  expect(metrics).not.toContain('random');
});

test('every statement is good SQL on the migrated schema, for the role that runs it', async () => {
  const pool = createPool(world.database.url('penstock_control_api'), { applicationName: 'test', max: 1 });
  try {
    expect(registeredStatements().size).toBeGreaterThan(40);
    for (const [name, sql] of registeredStatements()) {
      await expect(pool.query(`PREPARE "${name}" AS ${sql}`), name).resolves.toBeDefined();
    }
  } finally {
    await pool.end();
  }
});
