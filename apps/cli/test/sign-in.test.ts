// Signing in as people do it: at a terminal that shows nothing of the secret, from a script, with a second factor.
import { statSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { FakeClock } from '@penstock/domain/clock';
import { codeAt, setUpApp } from '../../control-api/test/authenticator-app.js';
import { anHourLater, withPassword, type Login } from '../../control-api/test/sign-in.js';
import { createWorld, type World } from '../../control-api/test/world.js';
import { hasTerminal, Penstock, terminal } from './penstock.js';

const CTRL_C = '\x03';
const CTRL_D = '\x04';

describe('signing in', () => {
  const clock = new FakeClock(Date.now());
  let world: World;
  let owner: Login;
  let penstock: Penstock;

  beforeAll(async () => {
    world = await createWorld({ clock });
    owner = await withPassword(world, world.platform, 'owner');
  });
  afterAll(() => world.close());
  beforeEach(() => {
    penstock = new Penstock(world.url);
  });
  afterEach(() => penstock.remove());

  const login = (...more: string[]): string[] => ['login', '--email', owner.email, ...more];
  const asked = (all: string): boolean => all.includes('Password: ');

  test.runIf(hasTerminal)('the terminal of these tests echoes what is typed', async () => {
    const cat = terminal('read line; echo "got $line"', { PATH: process.env['PATH'] });
    cat.type('seen\n');
    expect((await cat.ended).out).toMatch(/seen[^]*got seen/);
  });

  test.runIf(hasTerminal)('a password that is typed at the terminal is not shown', async () => {
    const running = penstock.onTerminal(...login());
    await running.until(asked);
    running.type(`${owner.password}\r`);
    const { code, out } = await running.ended;
    expect(out).toContain(`signed in as ${owner.email}`);
    expect(code).toBe(0);
    for (const word of owner.password.split(' ')) expect(out).not.toContain(word);
  });

  test.runIf(hasTerminal).each([
    ['Ctrl-C', CTRL_C],
    ['Ctrl-D', CTRL_D],
  ])('%s at the question gives up with one sentence', async (_name, key) => {
    const running = penstock.onTerminal(...login());
    await running.until(asked);
    running.type(key);
    const { code, out } = await running.ended;
    expect(code).toBe(1);
    expect(out.replaceAll('\r', '')).toBe('Password: \npenstock: given up\n');
  });

  test('a script gives the password on standard input; who may read what is kept is this user alone', async () => {
    expect((await penstock.run(login(), `${owner.password}\n`)).code).toBe(0);
    expect(statSync(penstock.sessionFile).mode & 0o777).toBe(0o600);
    expect(penstock.sessions()).not.toContain(owner.password);
    const wrong = await penstock.run(login(), 'something else\n');
    expect([wrong.code, wrong.out]).toEqual([1, '']);
    expect(wrong.err).toMatch(/^penstock: .+\n$/);
  });

  describe('with an authenticator app', () => {
    test('--code signs in; without it, and with one that was used, it does not', async () => {
      const person = await withPassword(world, world.platform, 'owner');
      const app = await setUpApp(world, person.token, person.password);
      const signIn = (option?: string, code?: string): ReturnType<Penstock['run']> => {
        const lines = [person.password, ...(code === undefined ? [] : [code])];
        const words = option === undefined ? [] : [option, '-'];
        return penstock.run(['login', '--email', person.email, ...words], `${lines.join('\n')}\n`);
      };
      await anHourLater(world, clock, owner);
      const without = await signIn();
      expect([without.code, without.out]).toEqual([1, '']);
      const code = app.code();
      expect(await signIn('--code', code)).toMatchObject({ code: 0, out: `signed in as ${person.email}\n` });
      expect((await penstock.json('whoami'))['account']).toMatchObject({ accountId: person.accountId });
      await anHourLater(world, clock, owner);
      expect(await signIn('--code', code)).toMatchObject({ code: 1, out: '' });
      await anHourLater(world, clock, owner);
      const recovery = app.recoveryCodes[0] ?? '';
      expect(await signIn('--recovery-code', recovery)).toMatchObject({ code: 0 });
    });

    test.each([
      ['login', '--email', 'a@example.org', '--code', '123456'],
      ['login', '--email', 'a@example.org', '--recovery-code=abcd-efgh'],
      ['totp', 'setup', '--code', '123456'],
      ['totp', 'renew-codes', '--recovery-code', 'abcd-efgh'],
      ['totp', 'remove', '--code=123456'],
      ['totp', 'confirm', '123456'],
    ])('a code that is an argument is refused: %s %s %s %s %s', async (...words) => {
      const { code, out, err } = await penstock.run(words.filter(Boolean), 'a password\n');
      expect([code, out]).toEqual([1, '']);
      expect(err).toContain('takes no value, other users of this machine can read arguments');
    });

    test.runIf(hasTerminal)('--code without a value asks at a terminal and does not show it', async () => {
      const person = await withPassword(world, world.platform, 'owner');
      const app = await setUpApp(world, person.token, person.password);
      await anHourLater(world, clock, owner);
      const running = penstock.onTerminal('login', '--email', person.email, '--code');
      await running.until(asked);
      running.type(`${person.password}\r`);
      await running.until((all) => all.includes('authenticator app: '));
      const code = app.code();
      running.type(`${code}\r`);
      const { out } = await running.ended;
      expect(out).toContain(`signed in as ${person.email}`);
      expect(out).not.toContain(code);
    });

    test.runIf(hasTerminal)(
      'at a terminal the code is asked for when it is needed, and not shown',
      async () => {
        const person = await withPassword(world, world.platform, 'owner');
        const app = await setUpApp(world, person.token, person.password);
        await anHourLater(world, clock, owner);
        const running = penstock.onTerminal('login', '--email', person.email);
        await running.until(asked);
        running.type(`${person.password}\r`);
        await running.until((all) => all.includes('authenticator app: '));
        const code = app.code();
        running.type(`${code}\r`);
        const { out } = await running.ended;
        expect(out).toContain(`signed in as ${person.email}`);
        expect(out).not.toContain(code);
      },
    );
  });

  test('totp: set up, renewed and removed by the command, and asked for meanwhile', async () => {
    const person = await withPassword(world, world.platform, 'owner');
    const run = (...args: string[]): ReturnType<Penstock['run']> =>
      penstock.run(['--json', ...args], person.password);
    const proven = (code: string, ...args: string[]): ReturnType<Penstock['run']> =>
      penstock.run(['--json', ...args], `${person.password}\n${code}\n`);
    const signIn = ['login', '--email', person.email];
    await run(...signIn);
    const { secret } = JSON.parse((await run('totp', 'setup')).out) as { secret: string };
    const code = (): string => codeAt(secret, clock.now());
    const answer = await penstock.run(['--json', 'totp', 'confirm', '-'], code());
    const confirmed = JSON.parse(answer.out) as { recoveryCodes: string[] };
    expect(confirmed.recoveryCodes).toHaveLength(10);
    expect(JSON.parse((await run('totp', 'show')).out)).toEqual({ enabled: true, recoveryCodesLeft: 10 });
    expect((await run(...signIn)).code).toBe(1);
    await anHourLater(world, clock, owner);
    const renewed = JSON.parse(
      (await proven(code(), 'totp', 'renew-codes', '--code', '-')).out,
    ) as typeof confirmed;
    const [recovery = ''] = renewed.recoveryCodes;
    expect((await proven(recovery, 'totp', 'remove', '--recovery-code')).code).toBe(0);
    expect((await run(...signIn)).code).toBe(0);
  });

  test.runIf(hasTerminal)(
    'password: the new one is asked for twice and not shown; other sessions are over',
    async () => {
      const person = await withPassword(world, world.platform, 'owner');
      const elsewhere = new Penstock(world.url);
      for (const one of [penstock, elsewhere])
        await one.run(['login', '--email', person.email], person.password);
      const sessions = await penstock.json<{ current: boolean }[]>('session', 'list');
      expect(sessions.filter(({ current }) => current)).toHaveLength(1);
      const next = 'an entirely new sentence';
      const change = async (again: string): Promise<string> => {
        const running = penstock.onTerminal('password');
        for (const [question, answer] of [
          ['Current password: ', person.password],
          ['New password: ', next],
          ['New password again: ', again],
        ] as const) {
          await running.until((all) => all.includes(question));
          running.type(`${answer}\r`);
        }
        return (await running.ended).out;
      };
      expect(await change('a slip')).toContain('the two new passwords differ');
      const shown = await change(next);
      expect(shown).toContain('changed');
      for (const word of ['entirely', ...person.password.split(' ')]) expect(shown).not.toContain(word);
      expect((await elsewhere.run(['whoami'])).code).toBe(1);
      expect((await penstock.run(['whoami'])).code).toBe(0);
      // A script gives two lines.
      const scripted = await penstock.run(['password'], `${next}\nyet another sentence\n`);
      expect([scripted.code, scripted.err]).toEqual([0, '']);
      expect((await elsewhere.run(['login', '--email', person.email], 'yet another sentence')).code).toBe(0);
      const ended = await penstock.json('session', 'end-others');
      expect(ended).toEqual({ ended: 1 });
      expect((await elsewhere.run(['whoami'])).code).toBe(1);
      elsewhere.remove();
    },
  );

  test('an access token that ran out is renewed without a word', async () => {
    await penstock.run(login(), owner.password);
    await anHourLater(world, clock, owner);
    expect((await penstock.json('whoami'))['role']).toBe('owner');
    // By several commands at the same time, too.
    await anHourLater(world, clock, owner);
    const answers = await Promise.all([1, 2, 3, 4].map(() => penstock.run(['whoami'])));
    expect(answers.map(({ code, err }) => [code, err])).toEqual(answers.map(() => [0, '']));
    expect((await penstock.run(['whoami'])).code).toBe(0);
  });

  test('logout ends the session, on the server too', async () => {
    await penstock.run(login(), owner.password);
    const kept = JSON.parse(penstock.sessions()) as Record<string, { refreshToken: string }>;
    expect((await penstock.run(['logout'])).code).toBe(0);
    const { refreshToken } = kept[world.url] ?? { refreshToken: '' };
    const again = await world.ask('POST', '/api/v1/auth/refresh', { body: { refreshToken } });
    expect(again.status).toBe(401);
    expect((await penstock.run(['whoami'])).err).toBe('penstock: sign in first: ./penstock login\n');
  });
});
