import { afterAll, beforeAll, expect, test } from 'vitest';
import { plan, planPage } from '../src/plans/plans.schema.js';
import { planTerms, scene, type Scene } from './scene.js';
import { ABSENT, createWorld, type Answer, type Person, type World } from './world.js';

let world: World;
let own: Scene;
let other: Scene;
let operator: Person;

beforeAll(async () => {
  world = await createWorld();
  own = await scene(world, await world.person(await world.tenant('own'), 'admin'));
  other = await scene(world, await world.person(await world.tenant('other'), 'admin'));
  operator = await world.person(own.admin.tenantId, 'operator');
});
afterAll(() => world.close());

let made = 0;
const create = (change: object): Promise<Answer> =>
  world.ask('POST', '/api/v1/plans', {
    as: own.admin,
    body: { ...planTerms, name: `Plan ${++made}`, nodeGroupIds: [own.nodeGroupId], ...change },
  });
const at = (id: unknown): string => `/api/v1/plans/${String(id)}`;
const change = (id: unknown, body: object, headers: Record<string, string> = {}): Promise<Answer> =>
  world.ask('PATCH', at(id), { as: own.admin, body, headers });

test('201 and 200: a plan is made, read and listed with bytes as decimal strings', async () => {
  const made = await create({ limitBytes: '9223372036854775807', name: 'Everything' });
  expect(plan.parse(made.body)).toMatchObject({
    limitBytes: '9223372036854775807',
    nodeGroupIds: [own.nodeGroupId],
  });
  const unlimited = await create({ limitBytes: null });
  expect(plan.parse(unlimited.body)).toMatchObject({ limitBytes: null });
  const list = planPage.parse((await world.ask('GET', '/api/v1/plans', { as: operator })).body);
  expect(list.items).toHaveLength(3);
});

test('400: every wrong value is named', async () => {
  const wrong: [string, unknown][] = [
    ...['-1', '1.5', '1e9', 'NaN', '', '01', '9223372036854775808', '99999999999999999999', 10, -1, true].map(
      (value): [string, unknown] => ['limitBytes', value],
    ),
    ...[[], ['xray', 'xray'], ['openvpn'], 'xray', null].map((value): [string, unknown] => [
      'engines',
      value,
    ]),
    ...[[], [own.nodeGroupId, own.nodeGroupId]].map((value): [string, unknown] => ['nodeGroupIds', value]),
    ...[0, 36_501, 1.5].map((value): [string, unknown] => ['durationDays', value]),
    ...[0, 1001].map((value): [string, unknown] => ['deviceLimit', value]),
    ...['', 'x'.repeat(101), 'a\nb', 7].map((value): [string, unknown] => ['name', value]),
    ['period', 'year'],
    ['tenantId', other.admin.tenantId],
    ['planId', ABSENT],
    ['version', 9],
  ];
  for (const [field, value] of wrong) {
    const { body } = await create({ [field]: value });
    expect(body, `${field} = ${JSON.stringify(value)}`).toMatchObject({ status: 400, code: 'invalid_input' });
    expect(String(body['field']).split('.')[0]).toBe(field);
  }
});

test('400: a number too large for JSON', async () => {
  const body = JSON.stringify({ ...planTerms, nodeGroupIds: [own.nodeGroupId] }).replace(
    '"10000000000"',
    '1e400',
  );
  const answer = await world.ask('POST', '/api/v1/plans', { as: own.admin, body });
  expect(answer.body).toMatchObject({ status: 400, field: 'limitBytes' });
});

test('403: an operator makes no plans', async () => {
  const answer = await world.ask('POST', '/api/v1/plans', { as: operator, body: {} });
  expect(answer.body).toMatchObject({ status: 403, code: 'forbidden' });
});

test('404: an absent plan, another tenant’s plan, and a plan over another tenant’s node group', async () => {
  const get = (id: string): Promise<{ body: object }> =>
    world.ask('GET', `/api/v1/plans/${id}`, { as: own.admin });
  expect((await get(own.planId)).body).toMatchObject({ planId: own.planId });
  expect((await get(ABSENT)).body).toMatchObject({ status: 404, code: 'not_found' });
  expect((await get(other.planId)).body).toMatchObject({ status: 404, code: 'not_found' });
  const before = await world.sql('SELECT count(*)::int AS n FROM plan');
  const planted = await create({ nodeGroupIds: [own.nodeGroupId, other.nodeGroupId] });
  expect(planted.body).toMatchObject({ status: 404, field: 'nodeGroupIds' });
  expect(await world.sql('SELECT count(*)::int AS n FROM plan')).toEqual(before);
});

test('200 and 412: a change holds for later subscriptions, raises the version and does not overwrite another’s', async () => {
  const { planId } = (await create({})).body;
  const subscribe = async (): Promise<Answer['body']> =>
    (await world.ask('POST', '/api/v1/subscriptions', { as: operator, body: { planId, name: 'x' } })).body;
  const before = await subscribe();
  const body = {
    limitBytes: null,
    period: 'none',
    durationDays: null,
    engines: ['xray'],
    startsOnFirstUse: true,
  };
  const changed = await change(planId, body, { 'if-match': '"1"' });
  expect(plan.parse(changed.body)).toMatchObject({ ...body, version: 2, deviceLimit: 2 });
  expect(changed.headers.get('etag')).toBe('"2"');
  expect((await change(planId, { name: 'x' }, { 'if-match': '"1"' })).status).toBe(412);
  expect((await world.ask('GET', at(planId), { as: operator })).headers.get('etag')).toBe('"2"');
  const path = `/api/v1/subscriptions/${String(before['subscriptionId'])}`;
  expect((await world.ask('GET', path, { as: operator })).body).toMatchObject({
    limitBytes: planTerms.limitBytes,
    onHold: false,
  });
  expect(await subscribe()).toMatchObject({ limitBytes: null, onHold: true, expiresAt: null });
  const racing = await Promise.all(
    Array.from({ length: 8 }, (_, i) => change(planId, { deviceLimit: i + 1 }, { 'if-match': '"2"' })),
  );
  expect(racing.filter((answer) => answer.status === 200)).toHaveLength(1);
});

test('other node groups are looked at for everybody, in one row; others’ groups and plans are none', async () => {
  const { planId } = (await create({})).body;
  const group = await world.ask('POST', '/api/v1/node-groups', { as: own.admin, body: { name: 'more' } });
  const wide = (): Promise<{ n: number }[]> =>
    world.sql(
      'SELECT count(*)::int AS n FROM access_change WHERE subscription_id IS NULL AND node_id IS NULL',
    );
  const [before] = await wide();
  const nodeGroupIds = [String(group.body['nodeGroupId'])];
  expect((await change(planId, { nodeGroupIds })).body).toMatchObject({ nodeGroupIds });
  expect(await wide()).toEqual([{ n: (before?.n ?? 0) + 1 }]);
  expect((await change(planId, { nodeGroupIds: [other.nodeGroupId] })).body).toMatchObject({
    ...{ status: 404, field: 'nodeGroupIds' },
  });
  for (const nextPlanId of [other.planId, ABSENT]) {
    expect((await change(planId, { nextPlanId })).body).toMatchObject({ status: 404, field: 'nextPlanId' });
    expect((await create({ nextPlanId })).body).toMatchObject({ status: 404, field: 'nextPlanId' });
  }
  // It may follow itself: it renews itself at each end.
  expect((await change(planId, { nextPlanId: planId })).body).toMatchObject({ nextPlanId: planId });
});

test('409: a name that people take for the same is refused, also when twenty come at once', async () => {
  const { planId } = (await create({ name: 'Gold' })).body;
  for (const name of ['gold', ' ＧＯＬＤ ', 'Gоld']) {
    expect((await create({ name })).body, name).toMatchObject({
      status: 409,
      code: 'conflict',
      field: 'name',
    });
  }
  const silver = (await create({ name: 'Silver' })).body;
  expect((await change(silver['planId'], { name: 'GOLD' })).body).toMatchObject({
    status: 409,
    field: 'name',
  });
  expect((await change(planId, { name: 'GOLD' })).status).toBe(200);
  const raced = await Promise.all(Array.from({ length: 20 }, () => create({ name: 'Platinum' })));
  expect(raced.map((answer) => answer.status).sort()).toEqual([201, ...Array<number>(19).fill(409)]);
});

test('204: an archived plan is offered no more, its name is free, and its subscriptions go on', async () => {
  const { planId } = (await create({ name: 'Old' })).body;
  const body = { planId, name: 'x' };
  const { subscriptionId } = (await world.ask('POST', '/api/v1/subscriptions', { as: operator, body })).body;
  expect((await world.ask('DELETE', at(planId), { as: operator })).status).toBe(403);
  expect(
    (await world.ask('DELETE', at(planId), { as: own.admin, headers: { 'if-match': '"9"' } })).status,
  ).toBe(412);
  expect((await world.ask('DELETE', at(planId), { as: own.admin })).status).toBe(204);
  expect((await world.ask('DELETE', at(planId), { as: own.admin })).status).toBe(404);
  expect((await change(planId, { name: 'x' })).status).toBe(404);
  expect((await world.ask('POST', '/api/v1/subscriptions', { as: operator, body })).body).toMatchObject({
    ...{ status: 404, field: 'planId' },
  });
  const path = `/api/v1/subscriptions/${String(subscriptionId)}`;
  expect((await world.ask('GET', path, { as: operator })).body).toMatchObject({ planId });
  expect((await world.ask('POST', `${path}/renew`, { as: operator, body: {} })).status).toBe(200);
  expect((await create({ name: 'Old' })).status).toBe(201);
  expect((await world.ask('DELETE', at(other.planId), { as: own.admin })).status).toBe(404);
});
