import { createHash } from 'node:crypto';
import { FakeClock } from '@penstock/domain/clock';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { invitation, madeInvitation } from '../src/invitations/invitations.schema.js';
import { createWorld, type Answer, type Person, type World } from './world.js';

const password = 'a long enough sentence';
let world: World;
let owner: Person;
let admin: Person;

beforeAll(async () => {
  world = await createWorld();
  const tenantId = await world.tenant('Nord Net');
  owner = await world.person(tenantId, 'owner');
  admin = await world.person(tenantId, 'admin');
});
afterAll(() => world.close());

async function invite(as: Person, email: string, role = 'operator'): Promise<Answer & { token: string }> {
  const answer = await world.ask('POST', '/api/v1/invitations', { as, body: { email, role } });
  return { ...answer, token: String(answer.body['link']).split('#')[1] ?? '' };
}

const accept = (body: object): Promise<Answer> => world.ask('POST', '/api/v1/invitations/accept', { body });

test('the link is shown once, in a fragment, and only its hash is kept', async () => {
  const made = await invite(owner, 'New.One@Example.org');
  expect(made.status).toBe(201);
  expect(madeInvitation.parse(made.body)).toMatchObject({ email: 'new.one@example.org', state: 'open' });
  expect(String(made.body['link'])).toMatch(/^http:\/\/127\.0\.0\.1\/invite#pin1\.[A-Za-z0-9_-]{43}$/);
  expect(made.headers.get('cache-control')).toBe('no-store');
  const list = await world.ask('GET', '/api/v1/invitations', { as: admin });
  expect(list.text).not.toContain(made.token);
  expect(list.text).not.toContain('link');
  const [row] = await world.sql<{ hash: Buffer }>('SELECT hash FROM invitation');
  expect(row?.hash).toEqual(createHash('sha256').update(made.token).digest());
  const [dump] = await world.sql<{ text: string }>(
    `SELECT string_agg(t::text, ' ') AS text FROM (SELECT a::text AS t FROM audit_log a
       UNION ALL SELECT i::text FROM invitation i UNION ALL SELECT c::text FROM credential_route c) x`,
  );
  expect(dump?.text).not.toContain(made.token);
  const joined = await accept({ token: made.token, password, displayName: 'New One' });
  expect(joined.body).toMatchObject({
    tenantName: 'Nord Net',
    role: 'operator',
    email: 'new.one@example.org',
  });
  // The account signs in with what it chose.
  const signedIn = await world.ask('POST', '/api/v1/auth/sign-in', {
    body: { email: 'new.one@example.org', password },
  });
  expect(signedIn.body).toMatchObject({ tenantId: owner.tenantId });
  expect((await accept({ token: made.token, password })).body).toMatchObject({
    status: 409,
    code: 'token_used',
  });
  const again = await invite(owner, 'new.one@example.org');
  expect(again.body).toMatchObject({ status: 409, field: 'email' });
});

test('fifty who use one link at once: one joins', { timeout: 180_000 }, async () => {
  const { token } = await invite(owner, 'race@example.org', 'auditor');
  const answers = await Promise.all(Array.from({ length: 50 }, () => accept({ token, password })));
  expect(answers.filter((answer) => answer.status === 200)).toHaveLength(1);
  for (const answer of answers.filter((other) => other.status !== 200))
    expect(['token_used', 'unavailable', 'unauthenticated', 'rate_limited', 'conflict']).toContain(
      answer.body['code'],
    );
  expect(await world.sql(`SELECT count(*)::int AS n FROM account WHERE email = 'race@example.org'`)).toEqual([
    { n: 1 },
  ]);
});

test('403: a role above one’s own; 403 also for taking one back', async () => {
  expect((await invite(admin, 'above@example.org', 'owner')).body).toMatchObject({ status: 403 });
  const high = await invite(owner, 'above@example.org', 'owner');
  const path = `/api/v1/invitations/${String(high.body['invitationId'])}`;
  expect((await world.ask('DELETE', path, { as: admin })).status).toBe(403);
  expect((await world.ask('DELETE', path, { as: owner })).status).toBe(204);
  expect((await accept({ token: high.token, password })).body).toMatchObject({ code: 'token_invalid' });
  expect((await invite(owner, 'above@example.org', 'owner')).status).toBe(201);
});

test('an open invitation gives no more than its maker may give when it is used', async () => {
  const maker = await world.person(owner.tenantId, 'owner');
  const { token } = await invite(maker, 'late@example.org', 'owner');
  await world.ask('PATCH', `/api/v1/members/${maker.accountId}`, { as: owner, body: { role: 'admin' } });
  expect((await accept({ token, password })).body).toMatchObject({ status: 401, code: 'token_invalid' });
});

test('an account that exists joins with its own password, or signed in, and only for its own address', async () => {
  const elsewhere = await world.tenant('elsewhere');
  const other = await world.person(elsewhere, 'owner');
  const toNew = await invite(other, 'new.one@example.org', 'admin');
  expect((await accept({ token: toNew.token, password: 'another long sentence' })).body).toMatchObject({
    code: 'unauthenticated',
  });
  expect((await accept({ token: toNew.token, password })).body).toMatchObject({ tenantId: elsewhere });
  // Signed in: the address has to be his.
  const third = await world.person(await world.tenant('third'), 'owner');
  const join = (token: string): Promise<Answer> =>
    world.ask('POST', '/api/v1/invitations/join', { as: third, body: { token } });
  const foreign = await invite(other, 'somebody@example.org');
  expect((await join(foreign.token)).body).toMatchObject({ status: 403 });
  const own = await invite(other, `${third.accountId}@example.org`);
  expect((await join(own.token)).body).toMatchObject({ tenantId: elsewhere, role: 'operator' });
});

test('404: another tenant’s invitation; 401 then 429: a link that is none', async () => {
  const made = await invite(owner, 'target@example.org');
  const stranger = await world.person(await world.tenant('strange'), 'owner');
  const path = `/api/v1/invitations/${String(made.body['invitationId'])}`;
  expect((await world.ask('DELETE', path, { as: stranger })).body).toMatchObject({ status: 404 });
  const list = await world.ask('GET', '/api/v1/invitations', { as: stranger });
  expect(list.body['items']).toEqual([]);
  const statuses: number[] = [];
  for (let n = 0; n < 5; n++) {
    statuses.push((await accept({ token: `pin1.${String(n).repeat(43)}`, password })).status);
  }
  expect(statuses).toEqual([401, 401, 401, 429, 429]);
  // Who has the right link is not kept out by that.
  expect((await accept({ token: made.token, password })).status).toBe(200);
});

test('after 72 hours a link is over, and the address can be invited again', async () => {
  const clock = new FakeClock(Date.now());
  const later = await createWorld({ clock });
  try {
    const tenantId = await later.tenant();
    const person = await later.person(tenantId, 'owner');
    const body = { email: 'slow@example.org', role: 'auditor' };
    const made = await later.ask('POST', '/api/v1/invitations', { as: person, body });
    clock.advance(72 * 3_600_000);
    const token = String(made.body['link']).split('#')[1];
    const answer = await later.ask('POST', '/api/v1/invitations/accept', { body: { token, password } });
    expect(answer.body).toMatchObject({ status: 401, code: 'token_expired' });
    const fresh = await later.person(tenantId, 'owner');
    const list = await later.ask('GET', '/api/v1/invitations', { as: fresh });
    expect(invitation.parse((list.body['items'] as unknown[])[0])).toMatchObject({ state: 'expired' });
    expect((await later.ask('POST', '/api/v1/invitations', { as: fresh, body })).status).toBe(201);
  } finally {
    await later.close();
  }
});
