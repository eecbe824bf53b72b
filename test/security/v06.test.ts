// V06: whoever is shut out is out. Disabled, demoted, removed, with a new password, a second factor, or ended sessions:
// within a second no access token of before does more than it should in any process, a live stream that is open has
// ended, and the refresh family is dead.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TenantId } from '@penstock/domain/ids';
import { setUpApp } from '../../apps/control-api/test/authenticator-app.js';
import { Page } from '../../apps/control-api/test/event-page.js';
import { createSibling, untilStatus } from '../../apps/control-api/test/sibling.js';
import { signIn, withPassword, type Login, type SignedIn } from '../../apps/control-api/test/sign-in.js';
import { createWorld, type Answer, type Person, type World } from '../../apps/control-api/test/world.js';

/** What an access token that was good may outlive its end. */
const OUT_MS = 1_000;

describe('V06 shut out', () => {
  let world: World;
  let tenantId: TenantId;
  let owner: Person;
  let platform: Person;

  beforeAll(async () => {
    world = await createWorld();
    tenantId = await world.tenant('one');
    owner = await world.person(tenantId, 'owner');
    platform = await world.person(world.platform, 'owner');
  });
  afterAll(() => world.close());

  const ask = (method: string, path: string, as: Person | string, body?: object): Promise<Answer> =>
    world.ask(method, `/api/v1/${path}`, { as, body });

  /** A read and a change that an admin may make and an auditor may not. */
  const canChange = async (token: string): Promise<number> =>
    (await ask('POST', 'node-groups', token, { name: `g${Math.random()}` })).status;
  const canRead = async (token: string): Promise<number> => (await ask('GET', 'auth/me', token)).status;
  const canRefresh = async ({ refreshToken }: SignedIn): Promise<number> =>
    (await world.ask('POST', '/api/v1/auth/refresh', { body: { refreshToken } })).status;

  /** Milliseconds until the stream has ended. */
  async function endOf(page: Page): Promise<number> {
    const startMs = performance.now();
    await page.until(() => page.ended);
    return performance.now() - startMs;
  }

  /** Warm caches and an open live stream, then the act; from one second after it everything is refused and ended. */
  async function shutOut(person: Login, act: (mine: SignedIn) => Promise<unknown>): Promise<SignedIn> {
    const victim = await signIn(world, person);
    const mine = await signIn(world, person);
    expect(victim.status, victim.text).toBe(200);
    for (let i = 0; i < 3; i++) expect(await canRead(victim.accessToken)).toBe(200);
    const stream = await Page.open(world, { token: victim.accessToken });
    const own = await Page.open(world, { token: mine.accessToken });
    expect([stream, own].map(({ status, ended }) => [status, ended])).toEqual([
      [200, false],
      [200, false],
    ]);
    await act(mine);
    const atMs = performance.now();
    const ended = endOf(stream);
    await expect.poll(() => canRead(victim.accessToken), { interval: 20, timeout: 5_000 }).toBe(401);
    expect(performance.now() - atMs).toBeLessThanOrEqual(OUT_MS + 250);
    expect(await ended, 'the stream').toBeLessThanOrEqual(OUT_MS + 250);
    // A session that goes on keeps its stream: lost rights end one, not any news of the account.
    if ((await canRead(mine.accessToken)) === 200) expect(own.ended).toBe(false);
    else await endOf(own);
    own.close();
    expect(await canRefresh(victim)).toBe(401);
    return mine;
  }

  test('a disabled account', async () => {
    const person = await withPassword(world, tenantId, 'admin');
    const mine = await shutOut(person, async () => {
      expect((await ask('POST', `accounts/${person.accountId}/disable`, platform)).status).toBe(200);
    });
    expect(await canRead(mine.accessToken)).toBe(401);
    expect((await signIn(world, person)).body).toMatchObject({ code: 'unauthenticated' });
  });

  test('an account that was disabled beneath us, in the database', async () => {
    const person = await withPassword(world, tenantId, 'admin');
    await shutOut(person, () =>
      world.sql(`UPDATE account SET disabled_at = now() WHERE account_id = $1`, [person.accountId]),
    );
  });

  test('a changed password ends all other sessions', async () => {
    const person = await withPassword(world, tenantId, 'admin');
    const mine = await shutOut(person, async ({ accessToken }) => {
      const body = { current: person.password, new: 'another long sentence' };
      expect((await ask('POST', 'me/password', accessToken, body)).status).toBe(204);
    });
    expect(await canRead(mine.accessToken)).toBe(200);
  });

  test('a reset password ends all sessions', async () => {
    const person = await withPassword(world, tenantId, 'admin');
    const mine = await shutOut(person, async () => {
      const made = await ask('POST', `members/${person.accountId}/password-reset`, owner, {});
      const token = String(made.body['link']).split('#')[1];
      const body = { token, password: 'another long sentence' };
      expect((await world.ask('POST', '/api/v1/auth/reset', { body })).status).toBe(204);
    });
    expect(await canRead(mine.accessToken)).toBe(401);
  });

  test('a second factor ends all other sessions', async () => {
    const person = await withPassword(world, tenantId, 'admin');
    const mine = await shutOut(person, ({ accessToken }) => setUpApp(world, accessToken, person.password));
    expect(await canRead(mine.accessToken)).toBe(200);
  });

  test('ended sessions: one’s own others, and by an admin', async () => {
    const person = await withPassword(world, tenantId, 'admin');
    await shutOut(person, ({ accessToken }) => ask('DELETE', 'me/sessions', accessToken));
    await shutOut(person, () => ask('DELETE', `members/${person.accountId}/sessions`, owner));
  });

  test('a reused refresh token ends its family, and the audit log says so', async () => {
    const person = await withPassword(world, tenantId, 'admin');
    const first = await signIn(world, person);
    const next = async (refreshToken: unknown): Promise<Answer> =>
      world.ask('POST', '/api/v1/auth/refresh', { body: { refreshToken } });
    const second = (await next(first.refreshToken)).body;
    const third = (await next(second['refreshToken'])).body;
    expect((await next(first.refreshToken)).status).toBe(401);
    expect((await next(third['refreshToken'])).status).toBe(401);
    const rows = await world.sql(
      `SELECT tenant_id, entity_id FROM audit_log WHERE action = 'session.reuse' AND entity_id = $1`,
      [person.accountId],
    );
    expect(rows).toEqual([{ tenant_id: tenantId, entity_id: person.accountId }]);
  });

  test.each([
    [
      'demoted',
      (id: string) => [`UPDATE member SET role = 'auditor' WHERE account_id = $1`, id, 200] as const,
    ],
    ['removed', (id: string) => [`DELETE FROM member WHERE account_id = $1`, id, 403] as const],
  ])('an admin who is %s', async (_what, change) => {
    const person = await withPassword(world, tenantId, 'admin');
    const { accessToken, status, text } = await signIn(world, person);
    expect(status, text).toBe(200);
    const first = await ask('POST', 'node-groups', accessToken, { name: `g${Math.random()}` });
    expect(first.status, first.text).toBe(201);
    const [sql, id, reads] = change(person.accountId);
    const stream = await Page.open(world, { token: accessToken });
    expect(stream.status).toBe(200);
    await world.sql(sql, [id]);
    const ended = reads === 200 ? undefined : endOf(stream);
    const atMs = performance.now();
    await expect.poll(() => canChange(accessToken), { interval: 20, timeout: 5_000 }).toBe(403);
    expect(performance.now() - atMs).toBeLessThanOrEqual(OUT_MS + 250);
    expect(await canRead(accessToken)).toBe(reads);
    if (ended !== undefined) expect(await ended, 'the stream').toBeLessThanOrEqual(OUT_MS + 250);
    stream.close();
  });

  // Last: passport knows one strategy of a name, so within one Node process the newest application's is asked.
  test('in every other process, too', async () => {
    const sibling = await createSibling(world);
    try {
      const person = await withPassword(world, tenantId, 'admin');
      const victim = await signIn(world, person);
      const mine = await signIn(world, person);
      expect(await sibling.get('/api/v1/auth/me', victim.accessToken)).toBe(200);
      const body = { current: person.password, new: 'another long sentence' };
      expect((await ask('POST', 'me/password', mine.accessToken, body)).status).toBe(204);
      await untilStatus(() => sibling.get('/api/v1/auth/me', victim.accessToken), 401, OUT_MS);
      expect(await sibling.get('/api/v1/auth/me', mine.accessToken)).toBe(200);
    } finally {
      await sibling.close();
    }
  });
});
