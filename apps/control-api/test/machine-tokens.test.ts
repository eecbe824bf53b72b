import { afterAll, beforeAll, expect, test } from 'vitest';
import { decodeJwt, decodeProtectedHeader } from 'jose';
import { FakeClock } from '@penstock/domain/clock';
import { SigningKeys } from '../src/signing-keys/signing-keys.service.js';
import { createSibling, untilStatus, type Sibling } from './sibling.js';
import { createWorld, type Answer, type Person, type World } from './world.js';

const tokensPath = '/api/v1/machine-tokens';
const plans = '/api/v1/plans';
const DAY_MS = 86_400_000;
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

interface Made {
  keyId: string;
  token: string;
}

const ask = (as: string, path = plans): Promise<Answer> => world.ask('GET', path, { as });
const create = (change: object = {}): Promise<Answer> =>
  world.ask('POST', tokensPath, { as: admin, body: { scopes: ['plan.read'], ...change } });
const attenuate = (token: string, change: object = {}): Promise<Answer> =>
  world.ask('POST', `${tokensPath}/attenuate`, { body: { token, scopes: ['plan.read'], ...change } });

async function made(answer: Promise<Answer>): Promise<Made> {
  const { body } = await answer;
  expect(body).not.toHaveProperty('code');
  return body as never;
}

test('201: a machine token is signed, names its tenant, scope, audience, path and end, and works within them', async () => {
  const answer = await create({ pathPrefix: plans });
  expect(answer.status).toBe(201);
  const token = String(answer.body['token']);
  expect(decodeProtectedHeader(token)).toMatchObject({ alg: 'ES256', typ: 'mt+jwt' });
  expect(decodeJwt(token)).toMatchObject({
    ...{ tid: admin.tenantId, sub: admin.accountId, scope: 'plan.read', path: plans, aud: 'penstock-api' },
  });
  expect((await ask(token)).status).toBe(200);
  expect((await ask(token, '/api/v1/node-groups')).body).toMatchObject({ code: 'forbidden' });
  expect((await ask(token, '/api/v1/auth/me')).body).toMatchObject({ code: 'forbidden' });
  const again = await world.ask('POST', tokensPath, { as: token, body: { scopes: ['plan.read'] } });
  expect(again.body).toMatchObject({ code: 'forbidden' });
});

test('a changed or dropped claim, or another token type, is 401 and is counted [R1-25]', async () => {
  const { token } = await made(create());
  const [head = '', payload = '', signature = ''] = token.split('.');
  const claims = decodeJwt(token) as Record<string, unknown>;
  const encoded = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const failures = async (): Promise<number> => {
    const text = await world.context.metrics.registry.metrics();
    return Number(/auth_failures_total\{reason="unauthenticated"\} (\d+)/.exec(text)?.[1] ?? 0);
  };
  const before = await failures();
  let tried = 0;
  for (const name of Object.keys(claims)) {
    const rest = Object.fromEntries(Object.entries(claims).filter(([key]) => key !== name));
    for (const changed of [rest, { ...claims, [name]: 'other' }]) {
      expect((await ask(`${head}.${encoded(changed)}.${signature}`)).status, name).toBe(401);
      tried++;
    }
  }
  const otherType = encoded({ ...decodeProtectedHeader(token), typ: 'at+jwt' });
  expect((await ask(`${otherType}.${payload}.${signature}`)).status).toBe(401);
  expect(await failures()).toBe(before + tried + 1);
});

test('401: a token for another audience; 403: outside its path or scope', async () => {
  const other = await made(create({ audience: 'https://exporter.example.org' }));
  expect((await ask(other.token)).status).toBe(401);
  const narrow = await made(create({ pathPrefix: '/api/v1/plan' }));
  expect((await ask(narrow.token)).status).toBe(403);
  expect((await ask(narrow.token, '/api/v1/plan/../plans')).status).not.toBe(200);
});

test('a single-use token is good once, however many ask at once, in two processes', async () => {
  const { token } = await made(create({ singleUse: true }));
  const all = await Promise.all(
    Array.from({ length: 20 }, (_, i) =>
      i % 2 === 0 ? sibling.get(plans, token) : ask(token).then((answer) => answer.status),
    ),
  );
  expect(all.filter((status) => status === 200)).toHaveLength(1);
  expect(all.filter((status) => status === 401)).toHaveLength(19);
});

test('narrowing only narrows [R1-25]', async () => {
  const end = clock.now() + DAY_MS;
  const parent = await made(
    create({ scopes: ['plan.read', 'node.read'], pathPrefix: plans, expiresAt: new Date(end).toISOString() }),
  );
  const child = await made(attenuate(parent.token, { expiresAt: new Date(end - 1_000).toISOString() }));
  expect((await ask(child.token)).status).toBe(200);
  const wider = [
    ['scopes', { scopes: ['subscription.read'] }],
    ['pathPrefix', { pathPrefix: '/api/v1' }],
    ['pathPrefix', { pathPrefix: '/api/v1/plansandmore' }],
    ['expiresAt', { pathPrefix: plans, expiresAt: new Date(end + 1_000).toISOString() }],
  ] as const;
  for (const [field, change] of wider) {
    const answer = await attenuate(parent.token, change);
    expect(answer.body, JSON.stringify(change)).toMatchObject({ status: 403, field });
  }
  const fromChild = await attenuate(child.token, { pathPrefix: plans, scopes: ['node.read'] });
  expect(fromChild.body).toMatchObject({ status: 403, field: 'scopes' });
  expect((await attenuate(parent.token, { audience: 'x' })).status).toBe(400);
  expect((await attenuate(admin.token)).status).toBe(401);
});

test('a revoked token dies with all that were narrowed from it, in every process within a second', async () => {
  const parent = await made(create());
  const child = await made(attenuate(parent.token));
  const grandchild = await made(attenuate(child.token));
  for (const { token } of [parent, child, grandchild]) expect(await sibling.get(plans, token)).toBe(200);
  expect((await world.ask('DELETE', `${tokensPath}/${parent.keyId}`, { as: admin })).status).toBe(204);
  for (const { token } of [parent, child, grandchild]) {
    expect(await untilStatus(() => sibling.get(plans, token), 401, 1_000)).toBeLessThan(1_000);
    expect((await ask(token)).status).toBe(401);
  }
  expect((await attenuate(child.token)).status).toBe(401);
});

test('400: more than 30 days; 404: another tenant’s token', async () => {
  const answer = await create({ expiresAt: new Date(clock.now() + 31 * DAY_MS).toISOString() });
  expect(answer.body).toMatchObject({ code: 'invalid_input', field: 'expiresAt' });
  const { keyId } = await made(create());
  const foreign = await world.person(await world.tenant('other'), 'owner');
  expect((await world.ask('GET', `${tokensPath}/${keyId}`, { as: foreign })).status).toBe(404);
  expect((await world.ask('DELETE', `${tokensPath}/${keyId}`, { as: foreign })).status).toBe(404);
});

test('the key that signed a token verifies until that token expires, also after rotations', async () => {
  const { token } = await made(create({ expiresAt: new Date(clock.now() + 10 * DAY_MS).toISOString() }));
  const keys = world.app.get(SigningKeys);
  const owner = await world.person(world.platform, 'owner');
  const rotated = await world.ask('POST', '/api/v1/signing-keys/rotate', {
    as: owner,
    body: { immediate: true },
  });
  expect(rotated.status).toBe(200);
  clock.advance(9 * DAY_MS);
  await keys.keepSchedule();
  expect((await ask(token)).status).toBe(200);
  clock.advance(2 * DAY_MS);
  await keys.keepSchedule();
  expect((await ask(token)).status).toBe(401);
});
