import { afterAll, beforeAll, expect, test } from 'vitest';
import { sessionList } from '../src/sessions/sessions.schema.js';
import { signIn, withPassword, type Login } from './sign-in.js';
import { ABSENT, createWorld, type Answer, type Person, type World } from './world.js';

let world: World;
let admin: Person;
let person: Login;

beforeAll(async () => {
  world = await createWorld();
  const tenantId = await world.tenant('one');
  admin = await world.person(tenantId, 'admin');
  person = await withPassword(world, tenantId, 'operator');
});
afterAll(() => world.close());

const list = async (as: string): Promise<ReturnType<typeof sessionList.parse>['items']> =>
  sessionList.parse((await world.ask('GET', '/api/v1/me/sessions', { as })).body).items;
const me = async (as: string): Promise<number> => (await world.ask('GET', '/api/v1/auth/me', { as })).status;
const endMember = (as: Person, accountId: string): Promise<Answer> =>
  world.ask('DELETE', `/api/v1/members/${accountId}/sessions`, { as });

test('200: the own sessions with where they are used from; 204: ending one ends its tokens', async () => {
  const here = await signIn(world, person);
  const there = await signIn(world, person);
  const sessions = await list(here.accessToken);
  expect(sessions.filter((session) => session.current)).toHaveLength(1);
  expect(sessions[0]).toMatchObject({ ip: '127.0.0.1', userAgent: 'node' });
  const other = (await list(there.accessToken)).find((session) => session.current);
  const path = `/api/v1/me/sessions/${other?.sessionId}`;
  expect((await world.ask('DELETE', path, { as: here.accessToken })).status).toBe(204);
  expect(await me(there.accessToken)).toBe(401);
  expect(await me(here.accessToken)).toBe(200);
  const again = await world.ask('DELETE', path, { as: here.accessToken });
  expect(again.body).toMatchObject({ status: 404, code: 'not_found' });
});

test('200: ending all others keeps this one', async () => {
  const here = await signIn(world, person);
  const there = await signIn(world, person);
  const answer = await world.ask('DELETE', '/api/v1/me/sessions', { as: here.accessToken });
  expect(answer.body['ended']).toBeGreaterThanOrEqual(1);
  expect(await me(there.accessToken)).toBe(401);
  expect(await list(here.accessToken)).toHaveLength(1);
});

test('404: another person’s session', async () => {
  const mine = await list(admin.token);
  const answer = await world.ask('DELETE', `/api/v1/me/sessions/${mine[0]?.sessionId}`, {
    as: (await signIn(world, person)).accessToken,
  });
  expect(answer.body).toMatchObject({ status: 404 });
});

test('an admin ends the sessions that acted in his tenant, and no others', async () => {
  const elsewhere = await world.tenant('elsewhere');
  await world.sql(`INSERT INTO member (tenant_id, account_id, role) VALUES ($1, $2, 'admin')`, [
    ...[elsewhere, person.accountId],
  ]);
  const here = await signIn(world, person, { tenantId: person.tenantId });
  const other = await signIn(world, person, { tenantId: elsewhere });
  const switched = await signIn(world, person, { tenantId: elsewhere });
  const to = await world.ask('POST', '/api/v1/auth/switch', {
    as: switched.accessToken,
    body: { tenantId: person.tenantId },
  });
  expect(to.status).toBe(200);
  expect((await endMember(admin, person.accountId)).body['ended']).toBeGreaterThanOrEqual(2);
  expect(await me(here.accessToken)).toBe(401);
  expect(await me(switched.accessToken)).toBe(401);
  expect(await me(String(to.body['accessToken']))).toBe(401);
  expect(await me(other.accessToken)).toBe(200);
  const platform = await world.person(world.platform, 'admin');
  expect((await endMember(platform, person.accountId)).status).toBe(200);
  expect(await me(other.accessToken)).toBe(401);
});

test('403: somebody above; who manages nobody. 404: another tenant’s member, and nobody', async () => {
  const owner = await world.person(admin.tenantId, 'owner');
  expect((await endMember(admin, owner.accountId)).body).toMatchObject({ status: 403 });
  const operator = await world.person(admin.tenantId, 'operator');
  expect((await endMember(operator, person.accountId)).body).toMatchObject({ status: 403 });
  const stranger = await world.person(await world.tenant('other'), 'auditor');
  for (const accountId of [stranger.accountId, ABSENT]) {
    expect((await endMember(admin, accountId)).body).toMatchObject({ status: 404, code: 'not_found' });
  }
});
