import { createHash } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { FakeClock } from '@penstock/domain/clock';
import type { Role } from '@penstock/domain/terms';
import { setUpApp } from './authenticator-app.js';
import { anHourLater, signIn, withPassword, type Login } from './sign-in.js';
import { ABSENT, createWorld, type Answer, type Person, type World } from './world.js';

const clock = new FakeClock(Date.now());
let world: World;
let admin: Person;
let member: Login;

beforeAll(async () => {
  world = await createWorld({ clock });
  const tenantId = await world.tenant('one');
  admin = await world.person(tenantId, 'admin');
  member = await withPassword(world, tenantId, 'operator');
});
afterAll(() => world.close());

const change = (as: string, current: string, next: string): Promise<Answer> =>
  world.ask('POST', '/api/v1/me/password', { as, body: { current, new: next } });
const reset = async (token: string, password: string): Promise<Answer> => {
  // Three tries an address and hour.
  await anHourLater(world, clock, admin);
  return world.ask('POST', '/api/v1/auth/reset', { body: { token, password } });
};
const makeLink = (as: Person, accountId: string, body: object = {}): Promise<Answer> =>
  world.ask('POST', `/api/v1/members/${accountId}/password-reset`, { as, body });
const tokenOf = (answer: Answer): string => String(answer.body['link']).split('#')[1] ?? '';

test('204: the password changes; all other sessions end, this one stays', async () => {
  const here = await signIn(world, member);
  const there = await signIn(world, member);
  const next = 'another sentence, long enough';
  expect((await change(here.accessToken, member.password, next)).status).toBe(204);
  expect((await world.ask('GET', '/api/v1/auth/me', { as: here.accessToken })).status).toBe(200);
  expect((await world.ask('GET', '/api/v1/auth/me', { as: there.accessToken })).status).toBe(401);
  const stale = await world.ask('POST', '/api/v1/auth/refresh', {
    body: { refreshToken: there.refreshToken },
  });
  expect(stale.body).toMatchObject({ status: 401, code: 'token_invalid' });
  expect((await signIn(world, member)).status).toBe(401);
  member.password = next;
  expect((await signIn(world, member)).status).toBe(200);
  const [row] = await world.sql(
    `SELECT after FROM audit_log WHERE action = 'password.change' AND entity_id = $1`,
    [member.accountId],
  );
  expect(row).toEqual({ after: { sessionsEnded: 2 } });
});

test('403: the wrong current password; guesses count as at sign-in', async () => {
  await anHourLater(world, clock, admin);
  const { accessToken } = await signIn(world, member);
  const statuses: number[] = [];
  for (let i = 0; i < 6; i++)
    statuses.push((await change(accessToken, 'wrong', 'long enough, certainly')).status);
  expect(statuses.slice(0, 3)).toEqual([403, 403, 403]);
  expect(statuses.at(-1)).toBe(429);
});

test('400: a new password that is too short, too long in bytes, or no text [R2-07]', async () => {
  await anHourLater(world, clock, admin);
  const { accessToken } = await signIn(world, member);
  for (const bad of ['short', 'é'.repeat(129), 'x'.repeat(1_000_000), '\ud800'.padEnd(12, 'x')]) {
    expect((await change(accessToken, member.password, bad)).body).toMatchObject({
      status: 400,
      field: 'new',
    });
  }
});

test('201: an admin’s link sets a password once and ends every session', async () => {
  await anHourLater(world, clock, admin);
  const before = await signIn(world, member);
  const made = await makeLink(admin, member.accountId);
  expect(made.status).toBe(201);
  expect(made.headers.get('cache-control')).toBe('no-store');
  expect(made.body['link']).toMatch(/^http:\/\/127\.0\.0\.1\/reset#prl1\.[A-Za-z0-9_-]{43}$/);
  const token = tokenOf(made);
  const next = 'set by a link, long enough';
  expect((await reset(token, 'short')).body).toMatchObject({ status: 400, field: 'password' });
  expect((await reset(token, next)).status).toBe(204);
  expect((await reset(token, 'once more, long enough')).body).toMatchObject({
    status: 409,
    code: 'token_used',
  });
  expect((await world.ask('GET', '/api/v1/auth/me', { as: before.accessToken })).status).toBe(401);
  member.password = next;
  expect((await signIn(world, member)).status).toBe(200);
});

test('a link ends API keys and machine tokens of the account in all of its tenants', async () => {
  await anHourLater(world, clock, admin);
  const person = await withPassword(world, admin.tenantId, 'admin');
  const elsewhere = await world.tenant('elsewhere');
  await world.sql(`INSERT INTO member (tenant_id, account_id, role) VALUES ($1, $2, 'admin')`, [
    ...[elsewhere, person.accountId],
  ]);
  const secrets: string[] = [];
  for (const tenantId of [admin.tenantId, elsewhere]) {
    const { accessToken } = await signIn(world, person, { tenantId });
    const body = { name: 'integration', scopes: ['plan.read'] };
    const key = await world.ask('POST', '/api/v1/api-keys', { as: accessToken, body });
    const token = await world.ask('POST', '/api/v1/machine-tokens', { as: accessToken, body });
    secrets.push(String(key.body['key']), String(token.body['token']));
  }
  const neighbour = await world.ask('POST', '/api/v1/api-keys', {
    ...{ as: admin, body: { name: 'another’s', scopes: ['plan.read'] } },
  });
  const statuses = async (): Promise<number[]> => {
    const read = async (as: string) => (await world.ask('GET', '/api/v1/plans', { as })).status;
    return Promise.all([...secrets, String(neighbour.body['key'])].map(read));
  };
  expect(await statuses()).toEqual([200, 200, 200, 200, 200]);
  const platform = await world.person(world.platform, 'owner');
  const token = tokenOf(await makeLink(platform, person.accountId));
  // Making the link ends nothing yet.
  expect(await statuses()).toEqual([200, 200, 200, 200, 200]);
  expect((await reset(token, 'set by a link, long enough')).status).toBe(204);
  expect(await statuses()).toEqual([401, 401, 401, 401, 200]);
  const rows = await world.sql<{ tenant: string; after: object }>(
    `SELECT tenant_id AS tenant, after FROM audit_log WHERE action = 'password.reset' AND entity_id = $1`,
    [person.accountId],
  );
  // The session he came with, and one in each tenant; the whole is told in his first tenant, and each tells of its own.
  const ended = { sessionsEnded: 3, secondFactorRemoved: false };
  expect(rows).toHaveLength(2);
  expect(rows).toEqual(
    expect.arrayContaining([
      expect.objectContaining({ after: { ...ended, apiKeysRevoked: 2, machineTokensRevoked: 2 } }),
      expect.objectContaining({ after: { apiKeysRevoked: 1, machineTokensRevoked: 1 } }),
    ]),
  );
});

test('a link is used up by one of those who race for it', async () => {
  const token = tokenOf(await makeLink(admin, member.accountId));
  await anHourLater(world, clock, admin);
  const answers = await Promise.all(
    Array.from({ length: 3 }, (_, i) =>
      world.ask('POST', '/api/v1/auth/reset', { body: { token, password: `password number ${i} of three` } }),
    ),
  );
  expect(answers.map((answer) => answer.status).sort()).toEqual([204, 409, 409]);
  member.password = `password number ${answers.findIndex((answer) => answer.status === 204)} of three`;
  expect((await signIn(world, member)).status).toBe(200);
});

test('401: a link that has expired, that never was, or whose account has joined another tenant since', async () => {
  expect((await reset(`prl1.${'A'.repeat(43)}`, 'long enough, certainly')).body).toMatchObject({
    ...{ status: 401, code: 'token_invalid' },
  });
  const old = tokenOf(await makeLink(admin, member.accountId));
  clock.advance(25 * 3_600_000);
  await anHourLater(world, clock, admin);
  expect((await reset(old, 'long enough, certainly')).body).toMatchObject({ code: 'token_expired' });
  const person = await withPassword(world, admin.tenantId, 'operator');
  const token = tokenOf(await makeLink(admin, person.accountId));
  await world.sql(`INSERT INTO member (tenant_id, account_id, role) VALUES ($1, $2, 'admin')`, [
    ...[await world.tenant('joined since'), person.accountId],
  ]);
  expect((await reset(token, 'long enough, certainly')).body).toMatchObject({ code: 'token_invalid' });
  expect((await signIn(world, person, { tenantId: admin.tenantId })).status).toBe(200);
});

test('a link is worth what its maker may do when it is used', async () => {
  const boss = await world.person(admin.tenantId, 'owner');
  const make = async (): Promise<{ maker: Person; target: Login; token: string }> => {
    const maker = await world.person(admin.tenantId, 'admin');
    const target = await withPassword(world, admin.tenantId, 'operator');
    const made = await makeLink(maker, target.accountId, { removeSecondFactor: true });
    return { maker, target, token: tokenOf(made) };
  };
  const refused = async (token: string): Promise<void> =>
    expect((await reset(token, 'long enough, certainly')).body).toMatchObject({ code: 'token_invalid' });
  const promoted = await make();
  const change = { as: boss, body: { role: 'owner' } };
  await anHourLater(world, clock, boss);
  const path = `/api/v1/members/${promoted.target.accountId}`;
  expect((await world.ask('PATCH', path, change)).status).toBe(200);
  await refused(promoted.token);
  for (const role of ['operator', 'auditor']) {
    const demoted = await make();
    await world.sql(`UPDATE member SET role = $2 WHERE account_id = $1`, [demoted.maker.accountId, role]);
    await refused(demoted.token);
  }
  const removed = await make();
  await world.sql(`DELETE FROM member WHERE account_id = $1`, [removed.maker.accountId]);
  await refused(removed.token);
  const disabled = await make();
  await world.sql(`UPDATE account SET disabled_at = now() WHERE account_id = $1`, [disabled.maker.accountId]);
  await refused(disabled.token);
  const good = await make();
  expect((await reset(good.token, 'long enough, certainly')).status).toBe(204);
  // By the platform, whose reach goes with the place there.
  const operator = await world.person(world.platform, 'admin');
  const target = await world.person(admin.tenantId, 'operator');
  const kept = tokenOf(await makeLink(operator, target.accountId));
  await world.sql(`UPDATE member SET role = 'operator' WHERE account_id = $1`, [operator.accountId]);
  await refused(kept);
  await world.sql(`UPDATE member SET role = 'owner' WHERE account_id = $1`, [operator.accountId]);
  expect((await reset(kept, 'long enough, certainly')).status).toBe(204);
});

test('a second link and a changed password void the first', async () => {
  const first = tokenOf(await makeLink(admin, member.accountId));
  const second = tokenOf(await makeLink(admin, member.accountId));
  const next = 'the second link, long enough';
  expect((await reset(second, next)).status).toBe(204);
  expect((await reset(first, 'long enough, certainly')).body).toMatchObject({ code: 'token_used' });
  member.password = next;
});

test('403: oneself, somebody above, and an account of several tenants; the platform may', async () => {
  const owner = await world.person(admin.tenantId, 'owner');
  const both = await world.person(admin.tenantId, 'auditor');
  await world.sql(`INSERT INTO member (tenant_id, account_id, role) VALUES ($1, $2, 'admin')`, [
    ...[await world.tenant('second'), both.accountId],
  ]);
  for (const accountId of [admin.accountId, owner.accountId, both.accountId]) {
    expect((await makeLink(admin, accountId)).body).toMatchObject({ status: 403, code: 'forbidden' });
  }
  const platform = await world.person(world.platform, 'admin');
  expect((await makeLink(platform, both.accountId)).status).toBe(201);
  const above = await world.person(world.platform, 'owner');
  expect((await makeLink(platform, above.accountId)).body).toMatchObject({ status: 403 });
});

test('404: another tenant’s member, and nobody; 403: who manages nobody', async () => {
  const stranger = await world.person(await world.tenant('other'), 'auditor');
  for (const accountId of [stranger.accountId, ABSENT]) {
    expect((await makeLink(admin, accountId)).body).toMatchObject({ status: 404, code: 'not_found' });
  }
  for (const role of ['operator', 'auditor'] satisfies Role[]) {
    const person = await world.person(admin.tenantId, role);
    expect((await makeLink(person, member.accountId)).body).toMatchObject({ status: 403 });
  }
});

test('passwords are the same however their letters were composed; old parameters are renewed [R2-07]', async () => {
  await anHourLater(world, clock, admin);
  const person = await withPassword(world, admin.tenantId, 'operator', 'crème brûlée pour tous', {
    timeCost: 2,
  });
  const typed = { ...person, password: person.password.normalize('NFD') };
  expect((await signIn(world, typed)).status).toBe(200);
  const [row] = await world.sql<{ hash: string }>(
    `SELECT password_hash AS hash FROM account WHERE account_id = $1`,
    [person.accountId],
  );
  expect(row?.hash).toMatch(/^\$argon2id\$v=19\$m=65536,(t=3,p=2|p=2,t=3)\$/);
  expect((await signIn(world, person)).status).toBe(200);
});

test('400: shorter than the platform’s settings ask; a session lasts as long as they say', async () => {
  await anHourLater(world, clock, admin);
  await world.sql(
    `INSERT INTO setting (key, value, updated_at) VALUES ('minPasswordLength', '20', now()), ('sessionDays', '2', now())`,
  );
  const person = await withPassword(world, admin.tenantId, 'operator');
  const session = await signIn(world, person);
  expect((await change(session.accessToken, person.password, 'nineteen characters')).body).toMatchObject({
    ...{ status: 400, field: 'new' },
  });
  const token = tokenOf(await makeLink(admin, person.accountId));
  expect((await reset(token, 'nineteen characters')).body).toMatchObject({ status: 400, field: 'password' });
  expect((await reset(token, 'twenty characters ..')).status).toBe(204);
  const next = await signIn(world, { ...person, password: 'twenty characters ..' });
  clock.advance(2 * 86_400_000);
  const late = await world.ask('POST', '/api/v1/auth/refresh', { body: { refreshToken: next.refreshToken } });
  expect(late.body).toMatchObject({ status: 401, code: 'token_expired' });
  await world.sql('DELETE FROM setting');
});

test('401: a code is not used up by a sign-in that has yet to name a tenant', async () => {
  await anHourLater(world, clock, admin);
  const person = await withPassword(world, admin.tenantId, 'operator');
  const app = await setUpApp(world, (await signIn(world, person)).accessToken, person.password);
  await world.sql(`INSERT INTO member (tenant_id, account_id, role) VALUES ($1, $2, 'auditor')`, [
    ...[await world.tenant('another'), person.accountId],
  ]);
  clock.advance(30_000);
  expect((await signIn(world, person)).body).toMatchObject({ code: 'totp_required' });
  const code = app.code();
  expect((await signIn(world, person, { code })).body).toMatchObject({ status: 400, field: 'tenantId' });
  expect((await signIn(world, person, { code, tenantId: admin.tenantId })).status).toBe(200);
});

test('a link for somebody who lost his second factor removes codes and passkeys', async () => {
  await anHourLater(world, clock, admin);
  const person = await withPassword(world, admin.tenantId, 'operator');
  await setUpApp(world, (await signIn(world, person)).accessToken, person.password);
  const kept = tokenOf(await makeLink(admin, person.accountId));
  expect((await reset(kept, 'the second factor stays')).status).toBe(204);
  const login = { ...person, password: 'the second factor stays' };
  expect((await signIn(world, login)).body).toMatchObject({ code: 'totp_required' });
  const token = tokenOf(await makeLink(admin, person.accountId, { removeSecondFactor: true }));
  expect((await reset(token, 'the second factor is gone')).status).toBe(204);
  expect((await signIn(world, { ...login, password: 'the second factor is gone' })).status).toBe(200);
});

test.each(['/reset', '/invite'])(
  '200: %s, a page that loads nothing from elsewhere and runs what is named to the browser',
  async (path) => {
    const answer = await world.ask('GET', path);
    expect(answer.status).toBe(200);
    expect(answer.headers.get('content-type')).toBe('text/html; charset=utf-8');
    expect(answer.headers.get('cache-control')).toBe('no-store');
    const policy = answer.headers.get('content-security-policy') ?? '';
    const script = /<script>([^]*)<\/script>/.exec(answer.text)?.[1] ?? '';
    const hash = createHash('sha256').update(script).digest('base64');
    expect(policy).toContain(`script-src 'sha256-${hash}'`);
    expect(policy).toContain(`default-src 'none'`);
    expect(answer.text).not.toMatch(/(?:src|href)=/);
  },
);

test('a right link costs no guess: wrong ones of a neighbour keep nobody out', async () => {
  await anHourLater(world, clock, admin);
  const ask = (token: string): Promise<Answer> =>
    world.ask('POST', '/api/v1/auth/reset', { body: { token, password: 'long enough, certainly' } });
  const people = await Promise.all(Array.from({ length: 5 }, () => world.person(admin.tenantId, 'operator')));
  const tokens = await Promise.all(
    people.map(async ({ accountId }) => tokenOf(await makeLink(admin, accountId))),
  );
  const statuses: number[] = [];
  for (let i = 0; i < 4; i++) statuses.push((await ask(`prl1.${'B'.repeat(43)}`)).status);
  expect(statuses).toEqual([401, 401, 401, 429]);
  for (const token of tokens) expect((await ask(token)).status).toBe(204);
});
