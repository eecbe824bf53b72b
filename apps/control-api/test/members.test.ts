import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { member, memberPage } from '../src/members/members.schema.js';
import { createWorld, type Person, type World } from './world.js';

let world: World;
let owner: Person;
let admin: Person;
let operator: Person;
let auditor: Person;
let stranger: Person;

beforeAll(async () => {
  world = await createWorld();
  const tenantId = await world.tenant('own');
  owner = await world.person(tenantId, 'owner');
  admin = await world.person(tenantId, 'admin');
  operator = await world.person(tenantId, 'operator');
  auditor = await world.person(tenantId, 'auditor');
  stranger = await world.person(await world.tenant('other'), 'owner');
});
afterAll(() => world.close());

const path = (person: Person): string => `/api/v1/members/${person.accountId}`;
const roleOf = async (person: Person): Promise<string | undefined> =>
  (
    await world.sql<{ role: string }>('SELECT role FROM member WHERE tenant_id = $1 AND account_id = $2', [
      ...[person.tenantId, person.accountId],
    ])
  )[0]?.role;

test('200: the people of the own tenant and no others, by role too; not for an operator', async () => {
  const all = await world.ask('GET', '/api/v1/members', { as: auditor });
  const { items } = memberPage.parse(all.body) as { items: { accountId: string }[] };
  expect(items.map((row) => row.accountId).sort()).toEqual(
    [owner, admin, operator, auditor].map((person) => person.accountId as string).sort(),
  );
  const owners = await world.ask('GET', '/api/v1/members?role=owner', { as: owner });
  expect(owners.body['items']).toHaveLength(1);
  expect((await world.ask('GET', '/api/v1/members', { as: operator })).status).toBe(403);
  const one = await world.ask('GET', path(operator), { as: admin });
  expect(member.parse(one.body)).toMatchObject({ role: 'operator', disabled: false });
});

test('404: a member of another tenant alone', async () => {
  for (const [method, body] of [['GET'], ['PATCH', { role: 'auditor' }], ['DELETE']] as const) {
    const answer = await world.ask(method, path(stranger), { as: owner, ...(body && { body }) });
    expect(answer.body, method).toMatchObject({ status: 404, code: 'not_found' });
  }
  expect(await roleOf(stranger)).toBe('owner');
});

test('an admin raises and lowers up to his own role, with If-Match, and the log says so', async () => {
  const before = await world.ask('GET', path(operator), { as: admin });
  const tag = before.headers.get('etag') ?? '';
  const raised = await world.ask('PATCH', path(operator), {
    ...{ as: admin, body: { role: 'admin' }, headers: { 'if-match': tag } },
  });
  expect(raised.body).toMatchObject({ role: 'admin', version: 2 });
  const late = await world.ask('PATCH', path(operator), {
    ...{ as: admin, body: { role: 'auditor' }, headers: { 'if-match': tag } },
  });
  expect(late.body).toMatchObject({ status: 412, field: 'If-Match' });
  await world.ask('PATCH', path(operator), { as: admin, body: { role: 'operator' } });
  const rows = await world.sql(
    `SELECT before, after FROM audit_log WHERE action = 'member.update' AND entity_id = $1 ORDER BY seq`,
    [operator.accountId],
  );
  expect(rows).toEqual([
    { before: { role: 'operator' }, after: { role: 'admin' } },
    { before: { role: 'admin' }, after: { role: 'operator' } },
  ]);
});

test('403: a role above one’s own is neither given nor taken, also not by oneself', async () => {
  for (const [person, role] of [
    [operator, 'owner'],
    [admin, 'owner'],
    [owner, 'auditor'],
  ] as const) {
    const answer = await world.ask('PATCH', path(person), { as: admin, body: { role } });
    expect(answer.body).toMatchObject({ status: 403, code: 'forbidden' });
  }
  expect((await world.ask('DELETE', path(owner), { as: admin })).status).toBe(403);
  expect([await roleOf(operator), await roleOf(admin), await roleOf(owner)]).toEqual([
    'operator',
    'admin',
    'owner',
  ]);
});

test('the keys of somebody who was removed are none, also when he is a member again', async () => {
  const gone = await world.person(owner.tenantId, 'admin');
  const scopes = ['plan.read'];
  const made = await world.ask('POST', '/api/v1/api-keys', {
    ...{ as: gone, body: { name: 'integration', scopes, cidrs: [] } },
  });
  const machine = await world.ask('POST', '/api/v1/machine-tokens', {
    ...{ as: gone, body: { name: 'machine', scopes, pathPrefix: '/api/v1/plans' } },
  });
  const shown = [String(made.body['key']), String(machine.body['token'])];
  const plans = async (as: string): Promise<number> =>
    (await world.ask('GET', '/api/v1/plans', { as })).status;
  for (const as of shown) expect(await plans(as)).toBe(200);
  expect((await world.ask('DELETE', path(gone), { as: owner })).status).toBe(204);
  const [log] = await world.sql(
    `SELECT after FROM audit_log WHERE action = 'member.delete' AND entity_id = $1`,
    [gone.accountId],
  );
  expect(log).toEqual({ after: { apiKeysRevoked: 1, machineTokensRevoked: 1 } });
  await world.sql(`INSERT INTO member (tenant_id, account_id, role) VALUES ($1, $2, 'admin')`, [
    ...[owner.tenantId, gone.accountId],
  ]);
  expect((await world.ask('GET', '/api/v1/plans', { as: gone })).status).toBe(200);
  for (const as of shown) expect(await plans(as)).toBe(401);
});

test('409: the last owner neither steps down nor goes; with a second one he may', async () => {
  const down = await world.ask('PATCH', path(owner), { as: owner, body: { role: 'admin' } });
  expect(down.body).toMatchObject({ status: 409, code: 'conflict' });
  expect((await world.ask('DELETE', path(owner), { as: owner })).status).toBe(409);
  const second = await world.person(owner.tenantId, 'owner');
  // An owner who cannot sign in is none.
  await world.sql('UPDATE account SET disabled_at = now() WHERE account_id = $1', [second.accountId]);
  expect((await world.ask('DELETE', path(owner), { as: owner })).status).toBe(409);
  await world.sql('UPDATE account SET disabled_at = NULL WHERE account_id = $1', [second.accountId]);
  expect((await world.ask('DELETE', path(owner), { as: owner })).status).toBe(204);
  expect(await roleOf(owner)).toBeUndefined();
  expect((await world.ask('DELETE', path(second), { as: second })).status).toBe(409);
});

test('409: an owner who has no way to sign in yet does not count as the one who stays', async () => {
  const tenantId = await world.tenant('kept');
  const first = await world.person(tenantId, 'owner');
  const second = await world.person(tenantId, 'owner');
  const key = [second.accountId];
  // As `owner recover` leaves a new one whose link was not opened.
  await world.sql(`UPDATE account SET password_hash = 'none' WHERE account_id = $1`, key);
  const leave = async (): Promise<number[]> => [
    (await world.ask('PATCH', path(first), { as: first, body: { role: 'admin' } })).status,
    (await world.ask('DELETE', path(first), { as: first })).status,
  ];
  expect(await leave()).toEqual([409, 409]);
  // A provider that is switched off lets nobody in.
  const providerId = randomUUID();
  await world.sql(
    `INSERT INTO identity_provider (tenant_id, identity_provider_id, name, issuer, client_id, secret_sealed, enabled, created_at)
     VALUES ($1, $2, 'sso', 'https://sso.example.org', 'c', '', false, now())`,
    [tenantId, providerId],
  );
  await world.sql(
    `INSERT INTO identity_link (tenant_id, identity_provider_id, issuer, subject, account_id, created_at)
     VALUES ($1, $2, 'https://sso.example.org', 's', $3, now())`,
    [tenantId, providerId, second.accountId],
  );
  expect(await leave()).toEqual([409, 409]);
  const down = async (): Promise<number> => {
    const status = (await world.ask('PATCH', path(first), { as: first, body: { role: 'admin' } })).status;
    await world.sql(`UPDATE member SET role = 'owner' WHERE account_id = $1`, [first.accountId]);
    return status;
  };
  await world.sql('UPDATE identity_provider SET enabled = true WHERE identity_provider_id = $1', [
    providerId,
  ]);
  expect(await down()).toBe(200);
  await world.sql('DELETE FROM identity_link WHERE account_id = $1', key);
  expect(await down()).toBe(409);
  await world.sql(
    `INSERT INTO passkey (account_id, passkey_id, credential_id, public_key, sign_count, transports, name, synced, created_at)
     VALUES ($1, $2, '\\x01', '\\x01', 0, '{}', 'key', false, now())`,
    [second.accountId, randomUUID()],
  );
  expect(await down()).toBe(200);
});
