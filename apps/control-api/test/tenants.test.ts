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

test('a change of name, zone and limits, by version; the log has both sides', async () => {
  const made = await world.ask('POST', '/api/v1/tenants', {
    as: owner,
    body: { name: 'Süd', limits: { subscriptions: 5, poolBytes: '9007199254740993' } },
  });
  expect(made.body).toMatchObject({ timeZone: 'UTC', limits: { subscriptions: 5, nodes: null } });
  const path = `/api/v1/tenants/${String(made.body['tenantId'])}`;
  const headers = { 'if-match': made.headers.get('etag') ?? '' };
  const changed = await world.ask('PATCH', path, {
    ...{ as: owner, headers },
    body: { timeZone: 'Europe/Rome', limits: { subscriptions: null, nodes: 2 } },
  });
  expect(tenant.parse(changed.body)).toMatchObject({
    ...{ timeZone: 'Europe/Rome', version: 2 },
    limits: { subscriptions: null, nodes: 2, poolBytes: '9007199254740993', apiPerMinute: null },
  });
  expect((await world.ask('PATCH', path, { as: owner, headers, body: { name: 'X' } })).status).toBe(412);
  // The new midnight moves the ends of periods: the scheduler looks at everything of the tenant.
  const rows = await world.sql(
    `SELECT subscription_id, node_id, cause FROM access_change WHERE tenant_id = $1`,
    [made.body['tenantId']],
  );
  expect(rows).toEqual([{ subscription_id: null, node_id: null, cause: 'tenant' }]);
});

test('409: a name that people take for one that is there', async () => {
  await world.ask('POST', '/api/v1/tenants', { as: owner, body: { name: 'Harbour Net' } });
  for (const name of ['harbour net', ' HARBOUR  NET', 'Hаrbоur Net', 'Ｈarbour Net']) {
    const answer = await world.ask('POST', '/api/v1/tenants', { as: owner, body: { name } });
    expect(answer.body, name).toMatchObject({ status: 409, code: 'conflict', field: 'name' });
  }
  // A tenant cannot take another's name either, and is told no more than that.
  const own = await world.ask('PATCH', '/api/v1/tenant', { as: outsider, body: { name: 'harbour net' } });
  expect(own.body).toMatchObject({ status: 409, field: 'name' });
});

test('the own tenant: everybody reads it, its admins name it, nobody there sets its limits', async () => {
  const auditor = await world.person(outsider.tenantId, 'auditor');
  expect((await world.ask('GET', '/api/v1/tenant', { as: auditor })).body).toMatchObject({
    tenantId: outsider.tenantId,
  });
  const body = { name: 'Renamed', timeZone: 'Asia/Tokyo' };
  expect((await world.ask('PATCH', '/api/v1/tenant', { as: auditor, body })).status).toBe(403);
  expect((await world.ask('PATCH', '/api/v1/tenant', { as: outsider, body })).body).toMatchObject(body);
  const limits = await world.ask('PATCH', '/api/v1/tenant', {
    ...{ as: outsider, body: { limits: { subscriptions: 1 } } },
  });
  expect(limits.body).toMatchObject({ status: 400, field: 'limits' });
});

test('suspended in one act: one row for the scheduler, nobody changes anything in it, and it comes back', async () => {
  const tenantId = await world.tenant('to suspend');
  const person = await world.person(tenantId, 'owner');
  const path = `/api/v1/tenants/${tenantId}`;
  const suspended = await world.ask('POST', `${path}/suspend`, { as: owner, body: { reason: 'unpaid' } });
  expect(suspended.body).toMatchObject({ state: 'suspended', version: 2 });
  expect(suspended.body['suspendedAt']).not.toBeNull();
  // Twice is once.
  await world.ask('POST', `${path}/suspend`, { as: owner, body: {} });
  const change = await world.ask('POST', '/api/v1/node-groups', { as: person, body: { name: 'g' } });
  expect(change.body).toMatchObject({ status: 403, detail: 'this tenant is suspended' });
  expect((await world.ask('POST', `${path}/resume`, { as: person })).status).toBe(403);
  expect((await world.ask('POST', `${path}/resume`, { as: owner })).body).toMatchObject({
    ...{ state: 'active', suspendedAt: null },
  });
  expect(await world.sql(`SELECT cause FROM access_change WHERE tenant_id = $1`, [tenantId])).toEqual([
    { cause: 'tenant' },
    { cause: 'tenant' },
  ]);
  const log = await world.sql(
    `SELECT action, after ->> 'reason' AS reason FROM audit_log WHERE entity_id = $1 AND action <> 'tenant.create' ORDER BY seq`,
    [tenantId],
  );
  expect(log).toEqual([
    { action: 'tenant.suspend', reason: 'unpaid' },
    { action: 'tenant.resume', reason: null },
  ]);
  const platform = await world.ask('POST', `/api/v1/tenants/${world.platform}/suspend`, {
    as: owner,
    body: {},
  });
  expect(platform.body).toMatchObject({ status: 403 });
});
