// What is done with a subscription: each act once, with its audit row, and asked of the scheduler where it concerns
// periods (apps/scheduler/test/lives.test.ts shows that it is carried out once).
import { randomUUID } from 'node:crypto';
import { openSecret } from '@penstock/service/secret-box';
import { newWireguardPrivateKey, wireguardPublicKey } from '@penstock/domain/wireguard-keys';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { actList } from '../src/subscriptions/acts.schema.js';
import { device } from '../src/devices/devices.schema.js';
import { subscription } from '../src/subscriptions/subscriptions.schema.js';
import { make, planTerms, scene, type Scene } from './scene.js';
import { ABSENT, createWorld, type Answer, type Person, type World } from './world.js';

const DAY_MS = 86_400_000;

let world: World;
let own: Scene;
let other: Scene;
let operator: Person;
let auditor: Person;

beforeAll(async () => {
  world = await createWorld();
  own = await scene(world, await world.person(await world.tenant('own'), 'admin'));
  other = await scene(world, await world.person(await world.tenant('other'), 'admin'));
  operator = await world.person(own.admin.tenantId, 'operator');
  auditor = await world.person(own.admin.tenantId, 'auditor');
});
afterAll(() => world.close());

const at = (id: unknown, rest = ''): string => `/api/v1/subscriptions/${String(id)}${rest}`;
const post = (path: string, body?: object, headers: Record<string, string> = {}): Promise<Answer> =>
  world.ask('POST', path, { as: operator, headers, ...(body && { body }) });
const create = async (change: object = {}): Promise<Answer['body']> =>
  make(world, operator, '/api/v1/subscriptions', { planId: own.planId, name: 'somebody', ...change });
const parse = (answer: Answer) => {
  expect(answer.body).not.toHaveProperty('code');
  return subscription.parse(answer.body);
};
const rows = (id: unknown): Promise<{ kind: string; bytes: bigint | null; done: boolean }[]> =>
  world.sql(
    `SELECT kind, bytes, done_at IS NOT NULL AS done FROM subscription_act WHERE subscription_id = $1 ORDER BY requested_at`,
    [id],
  );
const changes = async (id: unknown): Promise<number> =>
  (
    await world.sql<{ n: number }>(
      'SELECT count(*)::int AS n FROM access_change WHERE subscription_id = $1',
      [id],
    )
  )[0]?.n ?? 0;
const audited = async (id: unknown, action: string): Promise<number> =>
  (
    await world.sql<{ n: number }>(
      'SELECT count(*)::int AS n FROM audit_log WHERE entity_id = $1 AND action = $2',
      [id, action],
    )
  )[0]?.n ?? 0;

test('on hold: no end until it starts; an admin starts it once, also when twenty press the button', async () => {
  const made = subscription.parse(await create({ onHold: true, holdDeadline: '2031-01-01T00:00:00Z' }));
  expect(made).toMatchObject({ onHold: true, startedAt: null, expiresAt: null, durationDays: 30 });
  expect(made.holdDeadline).toBe('2031-01-01T00:00:00.000Z');
  const id = made.subscriptionId;
  for (const [verb, body] of [
    ['reset', undefined],
    ['renew', {}],
  ] as const) {
    expect((await post(at(id, `/${verb}`), body)).body).toMatchObject({
      status: 412,
      code: 'failed_precondition',
    });
  }
  const before = await changes(id);
  const pressed = await Promise.all(Array.from({ length: 20 }, () => post(at(id, '/activate'))));
  expect(new Set(pressed.map((answer) => answer.text)).size).toBe(1);
  const started = parse(pressed[0] as Answer);
  expect(started).toMatchObject({ onHold: false, holdDeadline: null, version: 2 });
  expect(Date.parse(started.expiresAt ?? '') - Date.parse(started.startedAt ?? '')).toBe(30 * DAY_MS);
  expect(await rows(id)).toEqual([{ kind: 'start', bytes: null, done: true }]);
  expect([await changes(id), await audited(id, 'subscription.activate')]).toEqual([before + 1, 1]);
});

test('on hold: an end of its own stands, a deadline needs a hold, another tenant’s next plan is none', async () => {
  const made = await create({ onHold: true, expiresAt: '2031-05-06T07:08:09Z' });
  expect(made).toMatchObject({ durationDays: null, expiresAt: '2031-05-06T07:08:09.000Z' });
  expect(parse(await post(at(made['subscriptionId'], '/activate'))).expiresAt).toBe(
    '2031-05-06T07:08:09.000Z',
  );
  const body = { planId: own.planId, name: 'x', holdDeadline: '2031-01-01T00:00:00Z' };
  expect((await post('/api/v1/subscriptions', body)).body).toMatchObject({
    status: 400,
    field: 'holdDeadline',
  });
  const next = { planId: own.planId, name: 'x', nextPlanId: other.planId };
  expect((await post('/api/v1/subscriptions', next)).body).toMatchObject({
    status: 404,
    field: 'nextPlanId',
  });
  const path = at(made['subscriptionId']);
  const patch = (change: object): Promise<Answer> => world.ask('PATCH', path, { as: operator, body: change });
  expect((await patch({ nextPlanId: other.planId })).body).toMatchObject({
    status: 404,
    field: 'nextPlanId',
  });
  expect((await patch({ holdDeadline: null })).body).toMatchObject({ status: 400, field: 'holdDeadline' });
  expect((await patch({ nextPlanId: own.planId, externalRef: 'crm/1' })).body).toMatchObject({
    ...{ nextPlanId: own.planId, externalRef: 'crm/1' },
  });
  expect((await patch({ nextPlanId: null })).body).toMatchObject({ nextPlanId: null });
});

test('reset, top-up and renewal are asked for once each and shown until they are done', async () => {
  const { subscriptionId: id, expiresAt } = subscription.parse(await create());
  expect((await post(at(id, '/reset'))).status).toBe(200);
  expect((await post(at(id, '/top-up'), { bytes: '5000' })).status).toBe(200);
  const renewed = parse(await post(at(id, '/renew'), {}));
  expect(Date.parse(renewed.expiresAt ?? '') - Date.parse(expiresAt ?? '')).toBe(30 * DAY_MS);
  expect(await rows(id)).toEqual([
    { kind: 'reset', bytes: null, done: false },
    { kind: 'top_up', bytes: 5_000n, done: false },
    { kind: 'renew', bytes: null, done: false },
  ]);
  expect(await changes(id)).toBe(4);
  const list = actList.parse((await world.ask('GET', at(id, '/acts'), { as: auditor })).body);
  expect(list.items.map((item) => [item.kind, item.doneAt])).toEqual([
    ['renew', null],
    ['top_up', null],
    ['reset', null],
  ]);
  for (const [body, field] of [
    [{ bytes: '0' }, 'bytes'],
    [{ bytes: 1 }, 'bytes'],
    [{ bytes: '1152921504606846977' }, 'bytes'],
    [{}, 'bytes'],
    [{ bytes: '1', limitBytes: '1' }, 'limitBytes'],
  ] as const) {
    expect((await post(at(id, '/top-up'), body)).body).toMatchObject({ status: 400, field });
  }
  await world.ask('PATCH', at(id), { as: operator, body: { limitBytes: null } });
  expect((await post(at(id, '/top-up'), { bytes: '1' })).body).toMatchObject({ status: 412 });
  expect((await post(at(id, '/reset'), undefined, { 'if-match': '"1"' })).status).toBe(412);
});

test.each<[string, object | undefined, string, object]>([
  ['activate', undefined, 'activate', { onHold: true }],
  ['reset', undefined, 'reset', {}],
  ['renew', {}, 'renew', {}],
  ['top-up', { bytes: '7' }, 'top_up', {}],
  ['rotate', undefined, 'rotate', {}],
  ['disable', undefined, 'disable', {}],
])(
  '%s with one Idempotency-Key, twenty times at once, is one act with one answer',
  async (verb, body, action, made) => {
    const id = (await create(made))['subscriptionId'];
    const headers = { 'idempotency-key': randomUUID() };
    const answers: Answer[] = [];
    // One that is refused because the first still runs comes again.
    const again = async (): Promise<void> => {
      for (;;) {
        const answer = await post(at(id, `/${verb}`), body, headers);
        if (answer.status === 409) continue;
        answers.push(answer);
        return;
      }
    };
    await Promise.all(Array.from({ length: 20 }, again));
    expect(new Set(answers.map((answer) => `${answer.status} ${answer.text}`)).size).toBe(1);
    expect(answers[0]?.status).toBe(200);
    expect((await rows(id)).length).toBeLessThanOrEqual(1);
    expect(await audited(id, `subscription.${action}`)).toBe(1);
  },
);

test('renewal by another plan takes its terms; one that had expired starts from now', async () => {
  const plan = await make(world, own.admin, '/api/v1/plans', {
    ...{ ...planTerms, name: 'Week', durationDays: 7, limitBytes: '70', period: 'none', deviceLimit: 5 },
    ...{ nodeGroupIds: [own.nodeGroupId], nextPlanId: own.planId },
  });
  const { subscriptionId: id } = subscription.parse(await create({ expiresAt: '2020-01-01T00:00:00Z' }));
  const renewed = parse(await post(at(id, '/renew'), { planId: plan['planId'] }));
  expect(renewed).toMatchObject({ planId: plan['planId'], limitBytes: '70', period: 'none', deviceLimit: 5 });
  expect(renewed.nextPlanId).toBe(own.planId);
  const days = (Date.parse(renewed.expiresAt ?? '') - Date.now()) / DAY_MS;
  expect(days).toBeGreaterThan(6.9);
  expect(days).toBeLessThanOrEqual(7);
  for (const planId of [other.planId, ABSENT]) {
    expect((await post(at(id, '/renew'), { planId })).body).toMatchObject({ status: 404, field: 'planId' });
  }
});

test('disable and enable: said twice it is done once', async () => {
  const id = (await create())['subscriptionId'];
  for (const [verb, adminState] of [
    ['disable', 'disabled'],
    ['enable', 'active'],
  ] as const) {
    const [first, second] = [await post(at(id, `/${verb}`)), await post(at(id, `/${verb}`))];
    expect(first.body).toMatchObject({ adminState });
    expect(second.text).toBe(first.text);
    expect(await audited(id, `subscription.${verb}`)).toBe(1);
  }
  expect(await changes(id)).toBe(3);
});

test('rotation: another secret, new keys for our devices, the customer’s own stay, and the old ones are free', async () => {
  const id = (await create())['subscriptionId'];
  const publicKey = wireguardPublicKey(newWireguardPrivateKey());
  const theirs = await make(world, operator, at(id, '/devices'), { name: 'theirs', publicKey });
  const ours = await make(world, operator, at(id, '/devices'), { name: 'ours' });
  const secrets = async (): Promise<Buffer> => {
    const [row] = await world.sql<{ secret: Buffer }>(
      'SELECT secret FROM subscription WHERE subscription_id = $1',
      [id],
    );
    const place = { table: 'subscription', tenant: own.admin.tenantId, row: String(id) };
    return openSecret(world.context.config.DATA_KEY, row?.secret ?? Buffer.alloc(0), place);
  };
  const before = await secrets();
  const answer = await post(at(id, '/rotate'));
  expect(parse(answer).version).toBe(2);
  expect(answer.text).not.toContain('secret');
  expect((await secrets()).equals(before)).toBe(false);
  const get = async (one: Answer['body']) =>
    device.parse(
      (await world.ask('GET', at(id, `/devices/${String(one['deviceId'])}`), { as: operator })).body,
    );
  expect((await get(theirs)).publicKey).toBe(publicKey);
  expect((await get(ours)).publicKey).not.toBe(ours['publicKey']);
  expect((await get(ours)).hasPrivateKey).toBe(true);
  const keys = await world.sql<{ key: string }>(
    `SELECT encode(k.public_key, 'base64') AS key FROM device_key k JOIN device d USING (device_id) WHERE d.subscription_id = $1`,
    [id],
  );
  expect(keys.map((row) => row.key).sort()).toEqual([publicKey, (await get(ours)).publicKey].sort());
  expect(await audited(id, 'subscription.rotate')).toBe(1);
  expect((await world.ask('POST', at(id, '/rotate'), { as: auditor })).status).toBe(403);
});

test('a device is renamed, and its key replaced by the customer’s or by ours', async () => {
  const id = (await create())['subscriptionId'];
  const made = await make(world, operator, at(id, '/devices'), { name: 'phone' });
  const path = at(id, `/devices/${String(made['deviceId'])}`);
  const renamed = await world.ask('PATCH', path, { as: operator, body: { name: 'old phone' } });
  expect(device.parse(renamed.body)).toMatchObject({ name: 'old phone', publicKey: made['publicKey'] });
  const publicKey = wireguardPublicKey(newWireguardPrivateKey());
  expect(device.parse((await post(`${path}/rotate`, { publicKey })).body)).toMatchObject({
    ...{ publicKey, hasPrivateKey: false },
  });
  // Again is harmless; another device may not have it; ours again.
  expect((await post(`${path}/rotate`, { publicKey })).body).toMatchObject({ publicKey });
  const second = await make(world, operator, at(id, '/devices'), { name: 'tablet' });
  expect(
    (await post(at(id, `/devices/${String(second['deviceId'])}/rotate`), { publicKey })).body,
  ).toMatchObject({
    ...{ status: 409, field: 'publicKey' },
  });
  expect(device.parse((await post(`${path}/rotate`, {})).body)).toMatchObject({ hasPrivateKey: true });
  expect(
    (
      await make(world, operator, at((await create())['subscriptionId'], '/devices'), {
        name: 'x',
        publicKey,
      })
    )['publicKey'],
  ).toBe(publicKey);
});

/** Columns that hold this text: every text, JSON and bytes of every table, as a superuser reads them. */
async function placesOf(text: string): Promise<string[]> {
  const columns = await world.sql<{ table: string; column: string; bytes: boolean }>(
    `SELECT c.relname AS table, a.attname AS column, t.typname = 'bytea' AS bytes
       FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid
      WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND a.attnum > 0 AND NOT a.attisdropped AND t.typcategory IN ('S', 'U', 'A')`,
  );
  expect(columns.length).toBeGreaterThan(100);
  expect(columns.filter(({ bytes }) => bytes).length).toBeGreaterThan(10);
  const places: string[] = [];
  for (const { table, column, bytes } of columns) {
    const words = bytes ? `encode("${column}", 'escape')` : `"${column}"::text`;
    const found = await world.sql(`SELECT FROM "${table}" WHERE ${words} ILIKE $1`, [`%${text}%`]);
    if (found.length > 0) places.push(`${table}.${column}`);
  }
  return places;
}

test('erasing forgets names and references, of a tombstone too, and no figure changes [R3-18]', async () => {
  // With a key, as clients send it: the answer is kept for whoever asks again.
  const keyed = { planId: own.planId, name: 'Jane Roe', externalRef: 'crm/jane' };
  const made = await post('/api/v1/subscriptions', keyed, { 'idempotency-key': randomUUID() });
  const id = parse(made).subscriptionId;
  const phone = await make(world, operator, at(id, '/devices'), { name: 'Jane’s phone' });
  const patch = (path: string, body: object): Promise<Answer> =>
    world.ask('PATCH', path, { as: operator, body, headers: { 'idempotency-key': randomUUID() } });
  expect((await patch(at(id), { name: 'Jane Doe', externalRef: 'crm/jane-2' })).status).toBe(200);
  expect((await patch(at(id, `/devices/${String(phone['deviceId'])}`), { name: 'Jane’s old' })).status).toBe(
    200,
  );
  const bulk = { planId: own.planId, namePattern: 'Jane {n}', count: 2 };
  const many = (await post('/api/v1/subscriptions/bulk', bulk, { 'idempotency-key': randomUUID() })).body;
  for (const one of many['subscriptionIds'] as unknown as string[])
    expect((await world.ask('POST', at(one, '/erase'), { as: own.admin })).status).toBe(204);
  await world.sql(
    `INSERT INTO usage_counter VALUES ($1, $2, gen_random_uuid(), 1, 2, 3, '2026-01-01T00:00:00Z')`,
    [own.admin.tenantId, id],
  );
  const sums = (): Promise<unknown[]> =>
    world.sql('SELECT * FROM usage_counter WHERE subscription_id = $1', [id]);
  const before = await sums();
  expect(await placesOf('jane')).toEqual(expect.arrayContaining(['device.name', 'subscription.name']));
  expect((await world.ask('DELETE', at(id), { as: operator })).status).toBe(204);
  expect((await world.ask('POST', at(id, '/erase'), { as: operator })).status).toBe(403);
  const erase = (): Promise<Answer> => world.ask('POST', at(id, '/erase'), { as: own.admin });
  expect((await erase()).status).toBe(204);
  expect((await erase()).status).toBe(204);
  expect(
    await world.sql(
      `SELECT s.name, s.external_ref, d.name AS device FROM subscription s JOIN device d USING (tenant_id, subscription_id)
       WHERE s.subscription_id = $1`,
      [id],
    ),
  ).toEqual([{ name: 'erased', external_ref: null, device: 'erased' }]);
  expect(await sums()).toEqual(before);
  // Nor anywhere else.
  expect(await placesOf('jane')).toEqual([]);
  for (const foreign of [other.subscriptionId, ABSENT]) {
    expect((await world.ask('POST', at(foreign, '/erase'), { as: own.admin })).status).toBe(404);
  }
});

test('422: a tenant with a limit makes no more than it, also when fifty come at once', async () => {
  const admin = await world.person(await world.tenant('small'), 'admin');
  const small = await scene(world, admin);
  await world.sql('UPDATE tenant SET limit_subscriptions = 4 WHERE tenant_id = $1', [admin.tenantId]);
  const ask = (): Promise<Answer> =>
    world.ask('POST', '/api/v1/subscriptions', { as: admin, body: { planId: small.planId, name: 'x' } });
  const raced = await Promise.all(Array.from({ length: 50 }, ask));
  expect(raced.filter((answer) => answer.status === 201)).toHaveLength(3);
  expect(raced.find((answer) => answer.status !== 201)?.body).toMatchObject({
    status: 422,
    code: 'limit_reached',
  });
});
