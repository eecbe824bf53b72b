import { afterAll, beforeAll, expect, test } from 'vitest';
import { plan, planPage } from '../src/plans/plans.schema.js';
import { planTerms, scene, type Scene } from './scene.js';
import { ABSENT, createWorld, type Person, type World } from './world.js';

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

const create = (change: object): Promise<{ body: object }> =>
  world.ask('POST', '/api/v1/plans', {
    as: own.admin,
    body: { ...planTerms, nodeGroupIds: [own.nodeGroupId], ...change },
  });

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
    expect(String((body as { field: string }).field).split('.')[0]).toBe(field);
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
