import { afterAll, beforeAll, expect, test } from 'vitest';
import { ABSENT, createWorld, type Answer, type Person, type World } from './world.js';

let world: World;
let owner: Person;
let admin: Person;
let customer: Person;

beforeAll(async () => {
  world = await createWorld();
  owner = await world.person(world.platform, 'owner');
  admin = await world.person(world.platform, 'admin');
  customer = await world.person(await world.tenant('one'), 'owner');
});
afterAll(() => world.close());

const act = (as: Person, accountId: string, verb: 'disable' | 'enable'): Promise<Answer> =>
  world.ask('POST', `/api/v1/accounts/${accountId}/${verb}`, { as });
const me = (as: Person): Promise<Answer> => world.ask('GET', '/api/v1/auth/me', { as });

test('200: one’s own display name', async () => {
  const answer = await world.ask('PATCH', '/api/v1/me', { as: customer, body: { displayName: 'Desk 4' } });
  expect(answer.body).toMatchObject({ accountId: customer.accountId, displayName: 'Desk 4' });
  expect((await me(customer)).body['account']).toMatchObject({ displayName: 'Desk 4' });
  const bad = await world.ask('PATCH', '/api/v1/me', { as: customer, body: { displayName: 'a\u0000b' } });
  expect(bad.body).toMatchObject({ status: 400, field: 'displayName' });
});

test('200: a disabled account is out at once and for good; an enabled one signs in anew', async () => {
  const person = await world.person(customer.tenantId, 'admin');
  expect((await me(person)).status).toBe(200);
  expect((await act(admin, person.accountId, 'disable')).body['disabledAt']).not.toBeNull();
  expect((await me(person)).status).toBe(401);
  expect((await act(admin, person.accountId, 'enable')).body['disabledAt']).toBeNull();
  expect((await me(person)).status).toBe(401);
  const rows = await world.sql(
    `SELECT action, tenant_id FROM audit_log WHERE entity_id = $1 AND action LIKE 'account.%' ORDER BY seq`,
    [person.accountId],
  );
  expect(rows).toEqual([
    { action: 'account.disable', tenant_id: world.platform },
    { action: 'account.enable', tenant_id: world.platform },
  ]);
});

test('403: a customer, an operator, oneself, and somebody above', async () => {
  const operator = await world.person(world.platform, 'operator');
  for (const as of [customer, operator]) expect((await act(as, admin.accountId, 'disable')).status).toBe(403);
  expect((await act(owner, owner.accountId, 'disable')).body).toMatchObject({ code: 'forbidden' });
  expect((await act(admin, owner.accountId, 'disable')).body).toMatchObject({ code: 'forbidden' });
});

test('404: nobody', async () => {
  expect((await act(admin, ABSENT, 'disable')).body).toMatchObject({ status: 404, code: 'not_found' });
});

test('of owners who disable each other at once one stays', async () => {
  const owners = [owner, ...(await Promise.all([1, 2, 3].map(() => world.person(world.platform, 'owner'))))];
  await Promise.all(
    owners.flatMap((as) =>
      owners.filter((other) => other !== as).map((other) => act(as, other.accountId, 'disable')),
    ),
  );
  const [left] = await world.sql(
    `SELECT count(*)::int AS owners FROM member m JOIN account a USING (account_id)
      WHERE m.tenant_id = $1 AND m.role = 'owner' AND a.disabled_at IS NULL`,
    [world.platform],
  );
  expect(left?.['owners']).toBeGreaterThanOrEqual(1);
});
