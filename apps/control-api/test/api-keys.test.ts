import { afterAll, beforeAll, expect, test } from 'vitest';
import { FakeClock } from '@penstock/domain/clock';
import { createSibling, untilStatus, type Sibling } from './sibling.js';
import { ABSENT, createWorld, type Answer, type Person, type World } from './world.js';

const keysPath = '/api/v1/api-keys';
const plans = '/api/v1/plans';
const DAY_MS = 86_400_000;
// Stands still: only the database can tell the other process of a change.
const clock = new FakeClock(Date.now());
let world: World;
let sibling: Sibling;
let admin: Person;

beforeAll(async () => {
  world = await createWorld({ clock });
  sibling = await createSibling(world);
  admin = await world.person(await world.tenant(), 'admin');
});
afterAll(async () => {
  await sibling.close();
  await world.close();
});

const make = (change: object = {}, as: Person = admin): Promise<Answer> =>
  world.ask('POST', keysPath, { as, body: { name: 'Billing', scopes: ['plan.read'], ...change } });

async function key(change: object = {}, as: Person = admin): Promise<{ keyId: string; key: string }> {
  const answer = await make(change, as);
  expect(answer.body).not.toHaveProperty('code');
  return answer.body as never;
}

test('201: a key is shown once, works within its scopes, and says when it was used', async () => {
  const made = await make();
  expect(made.status).toBe(201);
  expect(made.headers.get('cache-control')).toBe('no-store');
  const { key: text, keyId } = made.body as unknown as { key: string; keyId: string };
  expect(text).toMatch(/^pak1\.[A-Za-z0-9_-]{43}$/);
  expect((await world.ask('GET', plans, { as: text })).status).toBe(200);
  const got = await world.ask('GET', `${keysPath}/${keyId}`, { as: admin });
  expect(got.body).toMatchObject({
    prefix: text.slice(0, 10),
    scopes: ['plan.read'],
    accountId: admin.accountId,
  });
  expect(got.body['lastUsedAt']).toBe(new Date(clock.now()).toISOString());
  const listed = await world.ask('GET', keysPath, { as: admin });
  expect(listed.text).not.toContain(text);
  const everything = await world.sql<{ text: string }>(
    `SELECT (SELECT string_agg(k::text, ' ') FROM api_key k) || (SELECT string_agg(a::text, ' ') FROM audit_log a) AS text`,
  );
  expect(everything[0]?.text).not.toContain(text.slice(5));
});

test('403: no scope beyond its own, nothing about people, keys or itself', async () => {
  const { key: text } = await key();
  const refused: [string, string][] = [
    ...([['GET', '/api/v1/subscriptions']] as [string, string][]),
    ...([
      ['GET', keysPath],
      ['POST', keysPath],
      ['GET', '/api/v1/auth/me'],
    ] as [string, string][]),
    ...([
      ['GET', '/api/v1/signing-keys'],
      ['GET', '/api/v1/machine-tokens'],
    ] as [string, string][]),
  ];
  for (const [method, path] of refused) {
    const body = method === 'POST' ? { name: 'x', scopes: ['plan.read'] } : undefined;
    const answer = await world.ask(method, path, { as: text, body });
    expect(answer.body, `${method} ${path}`).toMatchObject({ code: 'forbidden' });
  }
});

test('403: nobody gives a key what he may not do himself; 400: what no key may hold, too long, no network', async () => {
  const beyond = await make({ scopes: ['tenant.create'] });
  expect(beyond.body).toMatchObject({ code: 'forbidden', field: 'scopes' });
  const wrong = [
    { scopes: ['api_key.create'] },
    { scopes: ['member.read'] },
    { scopes: [] },
    { scopes: ['plan.read', 'plan.read'] },
    { expiresAt: new Date(clock.now() + 400 * DAY_MS).toISOString() },
    { expiresAt: new Date(clock.now() - 1_000).toISOString() },
    { cidrs: ['0.0.0.0/0'] },
    { cidrs: ['::/0'] },
    { cidrs: ['10.0.0.1'] },
    { cidrs: ['300.0.0.0/8'] },
    { keyId: ABSENT },
  ];
  for (const change of wrong) {
    const answer = await make(change);
    expect(answer.body, JSON.stringify(change)).toMatchObject({ code: 'invalid_input' });
    expect(answer.body['field']).toContain(Object.keys(change)[0]);
  }
  const operator = await world.person(admin.tenantId, 'operator');
  expect((await make({}, operator)).status).toBe(403);
});

test('a key is good from its networks only', async () => {
  const inside = await key({ cidrs: ['127.0.0.0/8', '2001:db8::/32'] });
  const outside = await key({ cidrs: ['192.0.2.0/24'] });
  expect((await world.ask('GET', plans, { as: inside.key })).status).toBe(200);
  const answer = await world.ask('GET', plans, { as: outside.key });
  expect(answer.body).toMatchObject({ status: 403, code: 'address_not_allowed' });
});

test('a key expires', async () => {
  const { key: text } = await key({ expiresAt: new Date(clock.now() + 60_000).toISOString() });
  expect((await world.ask('GET', plans, { as: text })).status).toBe(200);
  clock.advance(60_001);
  expect((await world.ask('GET', plans, { as: text })).status).toBe(401);
});

test('a revoked key is refused in every process within a second', async () => {
  const { key: text, keyId } = await key();
  expect(await sibling.get(plans, text)).toBe(200);
  expect((await world.ask('DELETE', `${keysPath}/${keyId}`, { as: admin })).status).toBe(204);
  expect((await world.ask('GET', plans, { as: text })).status).toBe(401);
  expect(await untilStatus(() => sibling.get(plans, text), 401, 1_000)).toBeLessThan(1_000);
  expect((await world.ask('DELETE', `${keysPath}/${keyId}`, { as: admin })).status).toBe(404);
});

test('a key has what its maker has today: demoted, removed, disabled', async () => {
  const maker = await world.person(admin.tenantId, 'admin');
  const { key: text } = await key({ scopes: ['plan.read', 'plan.create'] }, maker);
  const status = (): Promise<number> => sibling.get(plans, text);
  const create = (): Promise<Answer> => world.ask('POST', plans, { as: text, body: {} });
  expect(await status()).toBe(200);
  expect((await create()).status).toBe(400);
  const { accountId } = maker;
  await world.sql(`UPDATE member SET role = 'auditor' WHERE account_id = $1`, [accountId]);
  await untilStatus(async () => (await create()).status, 403, 1_000);
  expect(await status()).toBe(200);
  await world.sql(`DELETE FROM member WHERE account_id = $1`, [accountId]);
  expect(await untilStatus(status, 403, 1_000)).toBeLessThan(1_000);
  await world.sql(`UPDATE account SET disabled_at = now() WHERE account_id = $1`, [accountId]);
  expect(await untilStatus(status, 401, 1_000)).toBeLessThan(1_000);
});

test('404: another tenant’s key is not there', async () => {
  const { keyId, key: text } = await key();
  const foreign = await world.person(await world.tenant('other'), 'owner');
  expect((await world.ask('GET', `${keysPath}/${keyId}`, { as: foreign })).status).toBe(404);
  expect((await world.ask('DELETE', `${keysPath}/${keyId}`, { as: foreign })).status).toBe(404);
  expect((await world.ask('GET', keysPath, { as: foreign })).body['items']).toEqual([]);
  expect((await world.ask('GET', plans, { as: text })).status).toBe(200);
});

test('401: keys that are none', async () => {
  for (const text of [
    `pak1.${'A'.repeat(43)}`,
    'pak1.',
    `pak1.${'A'.repeat(42)}`,
    `pak2.${'A'.repeat(43)}`,
  ]) {
    expect((await world.ask('GET', plans, { as: text })).status, text).toBe(401);
  }
});
