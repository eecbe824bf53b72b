import { afterAll, beforeAll, expect, test } from 'vitest';
import { tenant, tenantPage } from '../src/tenants/tenants.schema.js';
import { ABSENT, createWorld, type Person, type World } from './world.js';

let world: World;
let owner: Person;
let operator: Person;
let outsider: Person;

beforeAll(async () => {
  world = await createWorld();
  owner = await world.person(world.platform, 'owner');
  operator = await world.person(world.platform, 'operator');
  outsider = await world.person(await world.tenant('customer'), 'owner');
});
afterAll(() => world.close());

test('201: the platform makes a tenant, and its audit log says so', async () => {
  const answer = await world.ask('POST', '/api/v1/tenants', {
    as: owner,
    body: { name: 'Nord', timeZone: 'Europe/Oslo' },
  });
  expect(answer.status).toBe(201);
  expect(tenant.parse(answer.body)).toMatchObject({
    name: 'Nord',
    kind: 'customer',
    timeZone: 'Europe/Oslo',
  });
  const [row] = await world.sql(
    `SELECT tenant_id, action, account_id, after FROM audit_log WHERE action = 'tenant.create'
    AND entity_id = $1`,
    [answer.body['tenantId']],
  );
  expect(row).toMatchObject({
    tenant_id: world.platform,
    account_id: owner.accountId,
    after: { name: 'Nord' },
  });
});

test('200: one tenant, and pages of them', async () => {
  for (const name of ['a', 'b', 'c'])
    await world.ask('POST', '/api/v1/tenants', { as: owner, body: { name } });
  const first = await world.ask('GET', '/api/v1/tenants?limit=2', { as: operator });
  expect(tenantPage.parse(first.body).items).toHaveLength(2);
  const next = await world.ask(
    'GET',
    `/api/v1/tenants?limit=200&cursor=${String(first.body['nextCursor'])}`,
    { as: operator },
  );
  expect(next.body['nextCursor']).toBeNull();
  const ids = [first, next].flatMap((page) =>
    (page.body['items'] as { tenantId: string }[]).map((t) => t.tenantId),
  );
  expect(new Set(ids).size).toBe(ids.length);
  expect(ids).toContain(world.platform);
  const one = await world.ask('GET', `/api/v1/tenants/${outsider.tenantId}`, { as: operator });
  expect(one.body).toMatchObject({ name: 'customer' });
});

test('400: a time zone that is none', async () => {
  const answer = await world.ask('POST', '/api/v1/tenants', {
    as: owner,
    body: { name: 'x', timeZone: 'Mars/Base' },
  });
  expect(answer.body).toMatchObject({ status: 400, field: 'timeZone' });
});

test('403: a customer’s owner, and an operator who would make one', async () => {
  for (const [method, path] of [
    ['GET', '/api/v1/tenants'],
    ['GET', `/api/v1/tenants/${outsider.tenantId}`],
  ] as const) {
    expect((await world.ask(method, path, { as: outsider })).body).toMatchObject({
      status: 403,
      code: 'forbidden',
    });
  }
  expect(
    (await world.ask('POST', '/api/v1/tenants', { as: operator, body: { name: 'x' } })).body,
  ).toMatchObject({
    ...{ status: 403, code: 'forbidden' },
  });
});

test('404: no such tenant', async () => {
  expect((await world.ask('GET', `/api/v1/tenants/${ABSENT}`, { as: owner })).body).toMatchObject({
    status: 404,
  });
});
