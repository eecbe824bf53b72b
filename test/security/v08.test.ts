// V08: nobody takes a fresh installation over from outside. The set-up route knows one secret, which the start prints on
// the machine; without it there is nothing there (404), and of fifty who come with it at once one becomes the owner.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, SETUP_TOKEN, type Answer, type World } from '../../apps/control-api/test/world.js';

const CLAIMS = 50;
const password = 'a long enough sentence';

describe('V08 first-run takeover', () => {
  let world: World;

  beforeAll(async () => {
    world = await createWorld();
  });
  afterAll(() => world.close());

  const claim = (token: string, email: string): Promise<Answer> =>
    world.ask('POST', '/api/v1/setup', { body: { token, email, password, displayName: 'X' } });

  test('without the secret: 404, whatever is tried, and no account', async () => {
    const guesses = [
      ...['x', 'admin', 'setup', 'x'.repeat(32), SETUP_TOKEN.slice(0, -1), `${SETUP_TOKEN}x`],
      ...[SETUP_TOKEN.toLowerCase(), ` ${SETUP_TOKEN}`, SETUP_TOKEN.split('').reverse().join('')],
    ];
    for (const guess of guesses) {
      expect((await claim(guess, 'taker@example.org')).body, guess).toMatchObject({
        status: 404,
        code: 'not_found',
      });
    }
    expect(await world.sql('SELECT count(*)::int AS n FROM account')).toEqual([{ n: 0 }]);
  });

  test('the page and the state give no secret away', async () => {
    for (const path of ['/setup', '/api/v1/setup']) {
      const answer = await world.ask('GET', path);
      expect(answer.text).not.toContain(SETUP_TOKEN);
      expect([...answer.headers.values()].join(' ')).not.toContain(SETUP_TOKEN);
    }
  });

  test('fifty parallel claims with the secret make exactly one owner', { timeout: 180_000 }, async () => {
    const answers = await Promise.all(
      Array.from({ length: CLAIMS }, (_, n) => claim(SETUP_TOKEN, `o${n}@example.org`)),
    );
    expect(answers.filter((answer) => answer.status === 201)).toHaveLength(1);
    expect(await world.sql(`SELECT count(*)::int AS n FROM account`)).toEqual([{ n: 1 }]);
    expect(await world.sql(`SELECT role FROM member`)).toEqual([{ role: 'owner' }]);
    expect(
      await world.sql(`SELECT count(*)::int AS n FROM audit_log WHERE action = 'account.create_first_owner'`),
    ).toEqual([{ n: 1 }]);
  });

  test('the secret is used up, also for a process that starts with it again', async () => {
    expect((await claim(SETUP_TOKEN, 'late@example.org')).body).toMatchObject({
      status: 409,
      code: 'token_used',
    });
    expect((await world.ask('GET', '/api/v1/setup')).body).toEqual({ needed: false });
  });
});
