// V10: nothing that opens a door is short or guessable. Every bearer has at least 128 random bits, one-time ones work
// once, six-digit codes die after three tries, and no address on its own is a credential of an admin.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FakeClock } from '@penstock/domain/clock';
import { setUpApp, wrongCode } from '../../apps/control-api/test/authenticator-app.js';
import { anHourLater, signIn, withPassword } from '../../apps/control-api/test/sign-in.js';
import { make, scene } from '../../apps/control-api/test/scene.js';
import { createWorld, SETUP_TOKEN, type Person, type World } from '../../apps/control-api/test/world.js';
import { newRecoveryCode } from '../../apps/control-api/src/totp/codes.js';
import { newRefreshToken } from '../../apps/control-api/src/auth/refresh-token.js';
import { newResetToken } from '@penstock/domain/one-time-link';
import { newChallenge } from '../../apps/control-api/src/passkeys/challenge.js';

const clock = new FakeClock(Date.now());
const BITS_MIN = 128;
const SAMPLES = 400;

/** Bits of a secret, from how many different characters stand at each place over many samples. */
function bits(samples: readonly string[]): number {
  const length = Math.min(...samples.map((sample) => sample.length));
  let sum = 0;
  for (let i = 0; i < length; i++) sum += Math.log2(new Set(samples.map((sample) => sample[i])).size);
  return sum;
}

describe('V10 short codes', () => {
  let world: World;
  let admin: Person;

  beforeAll(async () => {
    world = await createWorld({ clock });
    admin = await world.person(await world.tenant('one'), 'owner');
  });
  afterAll(() => world.close());

  test.each([
    ['refresh tokens', newRefreshToken],
    ['tokens of reset links', newResetToken],
    ['recovery codes', newRecoveryCode],
    [
      'passkey challenges',
      () => newChallenge(Buffer.alloc(32, 7), 'sign-in', 0).toString('base64url').slice(0, 32),
    ],
  ])('%s have 128 random bits and more, and never repeat', (_name, create) => {
    const samples = Array.from({ length: SAMPLES }, create);
    expect(new Set(samples).size).toBe(SAMPLES);
    expect(bits(samples)).toBeGreaterThanOrEqual(BITS_MIN);
  });

  test('join tokens and links, as they are given out, carry 128 bits and more', async () => {
    const own = await scene(world, admin);
    const member = await world.person(admin.tenantId, 'operator');
    const tokens: string[] = [];
    const links: string[] = [];
    for (let i = 0; i < 24; i++) {
      const join = await make(world, admin, `/api/v1/nodes/${own.nodeId}/join-tokens`, {});
      tokens.push(
        Object.values(join)
          .map(String)
          .sort((a, b) => b.length - a.length)[0] ?? '',
      );
      const link = await make(world, admin, `/api/v1/members/${member.accountId}/password-reset`, {});
      links.push(String(link['link']).split('#')[1] ?? '');
    }
    // 24 samples show at most log2(24) bits a place.
    for (const samples of [tokens, links]) expect(bits(samples)).toBeGreaterThanOrEqual(BITS_MIN);
  });

  test('six digits die after three tries: the fourth is not looked at, right or wrong', async () => {
    const person = await withPassword(world, admin.tenantId, 'operator');
    const { accessToken } = await signIn(world, person);
    const app = await setUpApp(world, accessToken, person.password);
    clock.advance(30_000);
    for (let round = 0; round < 3; round++) {
      const [{ failures } = { failures: 0 }] = await world.sql<{ failures: number }>(
        `SELECT failures FROM totp WHERE account_id = $1`,
        [person.accountId],
      );
      for (let i = failures; i < 3 + round; i++) {
        expect((await signIn(world, person, { code: wrongCode(app.secret, clock.now()) })).status).toBe(401);
      }
      expect((await signIn(world, person, { code: app.code() })).status).toBe(429);
      const [{ until } = { until: new Date(0) }] = await world.sql<{ until: Date }>(
        `SELECT locked_until AS until FROM totp WHERE account_id = $1`,
        [person.accountId],
      );
      // Each further wrong code doubles the wait.
      expect(until.getTime() - clock.now()).toBe(30_000 * 2 ** round);
      clock.advance(30_000 * 2 ** round);
    }
    expect((await signIn(world, person, { code: app.code() })).status).toBe(200);
  });

  test('one-time links work once, and three wrong ones close an address for a while', async () => {
    await anHourLater(world, clock, admin);
    const reset = (token: string): Promise<{ status: number }> =>
      world.ask('POST', '/api/v1/auth/reset', { body: { token, password: 'long enough, certainly' } });
    for (let i = 0; i < 3; i++) expect((await reset(newResetToken())).status).toBe(401);
    expect((await reset(newResetToken())).status).toBe(429);
    const { status } = await world.ask('POST', '/api/v1/setup', {
      body: {
        token: SETUP_TOKEN,
        email: 'o@example.org',
        password: 'long enough, certainly',
        displayName: 'O',
      },
    });
    expect(status).toBe(201);
    const again = await world.ask('POST', '/api/v1/setup', {
      body: {
        token: SETUP_TOKEN,
        email: 'p@example.org',
        password: 'long enough, certainly',
        displayName: 'P',
      },
    });
    expect(again.body).toMatchObject({ status: 409, code: 'token_used' });
  });

  test('no address is a credential: what an admin does needs his token in the header', async () => {
    const { paths } = (await world.ask('GET', '/api/v1/openapi.json')).body as unknown as {
      paths: Record<string, Record<string, { parameters?: { in: string; name: string }[] }>>;
    };
    const named = Object.values(paths).flatMap((path) =>
      Object.values(path).flatMap(({ parameters = [] }) => parameters.map(({ name }) => name)),
    );
    expect(
      named.filter((name) => /token|secret|password|api_?key|access/i.test(name) && !name.endsWith('Id')),
    ).toEqual([]);
    for (const query of ['access_token', 'token', 'authorization', 'api_key', 'key']) {
      const answer = await world.ask('GET', `/api/v1/auth/me?${query}=${admin.token}`);
      expect(answer.status).toBe(401);
    }
    const cookie = await world.ask('GET', '/api/v1/auth/me', { headers: { cookie: `token=${admin.token}` } });
    expect(cookie.status).toBe(401);
  });
});
