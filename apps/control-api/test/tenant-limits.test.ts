// A tenant's limits hold whoever comes at once; raising one makes room, lowering one takes nothing away.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { make, planTerms, vless } from './scene.js';
import { createWorld, type Answer, type Person, type World } from './world.js';

const LIMIT = 5;
let world: World;
let platform: Person;
let owner: Person;
let planId: string;
let groupId: string;

beforeAll(async () => {
  world = await createWorld();
  platform = await world.person(world.platform, 'owner');
  owner = await world.person(await world.tenant('limited'), 'owner');
  const group = await make(world, owner, '/api/v1/node-groups', { name: 'all' });
  groupId = String(group['nodeGroupId']);
  const plan = await make(world, owner, '/api/v1/plans', { ...planTerms, nodeGroupIds: [groupId] });
  planId = String(plan['planId']);
  await limit({ subscriptions: LIMIT, nodes: 1 });
});
afterAll(() => world.close());

const limit = (limits: object): Promise<Answer> =>
  world.ask('PATCH', `/api/v1/tenants/${owner.tenantId}`, { as: platform, body: { limits } });
const subscribe = (name: string): Promise<Answer> =>
  world.ask('POST', '/api/v1/subscriptions', { as: owner, body: { planId, name } });
const register = (name: string): Promise<Answer> =>
  world.ask('POST', '/api/v1/nodes', {
    as: owner,
    body: { name, address: 'n.example.org', inbounds: [vless], nodeGroupIds: [groupId] },
  });

test('thirty at once for five places: five are made, the rest are told why', async () => {
  const answers = await Promise.all(Array.from({ length: 30 }, (_, n) => subscribe(`c${n}`)));
  expect(answers.filter((answer) => answer.status === 201)).toHaveLength(LIMIT);
  for (const { status, body } of answers.filter((answer) => answer.status !== 201))
    expect([status, body['code']]).toEqual([422, 'limit_reached']);
  expect(
    await world.sql('SELECT count(*)::int AS n FROM subscription WHERE tenant_id = $1', [owner.tenantId]),
  ).toEqual([{ n: LIMIT }]);
});

test('a bulk that does not fit makes none', async () => {
  await limit({ subscriptions: LIMIT + 3 });
  const body = { planId, namePattern: 'bulk-{n}', first: 1, count: 4 };
  const answer = await world.ask('POST', '/api/v1/subscriptions/bulk', { as: owner, body });
  expect(answer.body).toMatchObject({ status: 422, code: 'limit_reached' });
  const fits = await world.ask('POST', '/api/v1/subscriptions/bulk', {
    as: owner,
    body: { ...body, count: 3 },
  });
  expect(fits.status, fits.text).toBeLessThan(300);
});

test('a deleted one makes place; a lowered limit takes nothing away', async () => {
  expect((await subscribe('full')).status).toBe(422);
  const list = await world.ask('GET', '/api/v1/subscriptions', { as: owner });
  const [first] = list.body['items'] as { subscriptionId: string }[];
  await world.ask('DELETE', `/api/v1/subscriptions/${first?.subscriptionId}`, { as: owner });
  expect((await subscribe('again')).status).toBe(201);
  await limit({ subscriptions: 1 });
  const after = await world.ask('GET', '/api/v1/subscriptions', { as: owner });
  expect(after.body['items']).toHaveLength(LIMIT + 3);
  expect((await subscribe('over')).status).toBe(422);
  await limit({ subscriptions: null });
  expect((await subscribe('free')).status).toBe(201);
});

test('nodes too; the operator’s shared nodes count for nobody', async () => {
  const answers = await Promise.all([register('n1'), register('n2'), register('n3')]);
  expect(answers.map((answer) => answer.status).sort()).toEqual([201, 422, 422]);
});
