// V12: whoever holds a stolen session does not get at the second factor. Replacing and removing it needs the password
// and a current code; a code is accepted once, whatever it is shown for; codes die after three wrong ones.
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { FakeClock } from '@penstock/domain/clock';
import {
  codeAt,
  setUpApp,
  wrongCode,
  type AuthenticatorApp,
} from '../../apps/control-api/test/authenticator-app.js';
import { signIn, withPassword, type Login } from '../../apps/control-api/test/sign-in.js';
import { createWorld, type Answer, type World } from '../../apps/control-api/test/world.js';

const clock = new FakeClock(Date.now());
const STEP_MS = 30_000;

describe('V12 second factor', async () => {
  const world: World = await createWorld({ clock });
  const tenantId = await world.tenant('one');
  let person: Login;
  let app: AuthenticatorApp;
  let session: string;

  beforeEach(async () => {
    clock.advance(3_600_000);
    person = await withPassword(world, tenantId, 'operator');
    session = (await signIn(world, person)).accessToken;
    app = await setUpApp(world, session, person.password);
    clock.advance(STEP_MS);
  });
  afterAll(() => world.close());

  const totp = (method: string, body: object, path = ''): Promise<Answer> =>
    world.ask(method, `/api/v1/me/totp${path}`, { as: session, body });
  const enter = (proof: object): Promise<Answer> => signIn(world, person, proof);

  test('sign-in asks for a code after the right password, and only then', async () => {
    expect((await enter({})).body).toMatchObject({ status: 401, code: 'totp_required' });
    const wrong = await signIn(world, { ...person, password: 'not the password' });
    expect(wrong.body).toMatchObject({ status: 401, code: 'unauthenticated' });
    expect((await enter({ code: app.code() })).status).toBe(200);
  });

  test('a code is accepted once, and no older one after it', async () => {
    const before = codeAt(app.secret, clock.now() - STEP_MS);
    const code = app.code();
    expect((await enter({ code })).status).toBe(200);
    expect((await enter({ code })).body).toMatchObject({ status: 401, field: 'code' });
    expect((await enter({ code: before })).body).toMatchObject({ status: 401, field: 'code' });
    // Nor for something else.
    clock.advance(STEP_MS * 2);
    const next = app.code();
    expect((await enter({ code: next })).status).toBe(200);
    const removed = await totp('DELETE', { password: person.password, code: next });
    expect(removed.body).toMatchObject({ status: 403, field: 'code' });
  });

  test('of many who show one code at once one gets in', async () => {
    const code = app.code();
    const answers = await Promise.all([enter({ code }), enter({ code }), enter({ code })]);
    expect(answers.filter((answer) => answer.status === 200)).toHaveLength(1);
  });

  test('one step of clock difference is forgiven, two are not', async () => {
    const code = app.code();
    clock.advance(2 * STEP_MS);
    expect((await enter({ code })).status).toBe(401);
    clock.advance(STEP_MS);
    expect((await enter({ code: codeAt(app.secret, clock.now() - STEP_MS) })).status).toBe(200);
  });

  test.each([
    ['POST', 'replacing', ''],
    ['DELETE', 'removing', ''],
    ['POST', 'new recovery codes', '/recovery-codes'],
  ])('%s: %s needs the password and a current code', async (method, _what, path) => {
    const { password } = person;
    expect((await totp(method, { password }, path)).body).toMatchObject({
      status: 401,
      code: 'totp_required',
    });
    const wrong = { password: 'not the password', code: app.code() };
    expect((await totp(method, wrong, path)).body).toMatchObject({ status: 403, field: 'password' });
    const guess = { password, code: wrongCode(app.secret, clock.now()) };
    expect((await totp(method, guess, path)).body).toMatchObject({ status: 403, field: 'code' });
    expect((await totp('GET', undefined as never)).body).toMatchObject({ enabled: true });
    expect((await totp(method, { password, code: app.code() }, path)).status).toBeLessThan(300);
  });

  test('a secret that waits for its first code changes nothing, and waits for three tries and a quarter hour', async () => {
    const begin = (): Promise<Answer> => totp('POST', { password: person.password, code: app.code() });
    const confirm = (code: string): Promise<Answer> => totp('POST', { code }, '/confirm');
    const first = String((await begin()).body['secret']);
    clock.advance(STEP_MS);
    expect((await enter({ code: codeAt(first, clock.now()) })).status).toBe(401);
    for (let i = 0; i < 3; i++) {
      expect((await confirm(wrongCode(first, clock.now()))).body).toMatchObject({
        status: 400,
        field: 'code',
      });
    }
    expect((await confirm(codeAt(first, clock.now()))).body).toMatchObject({ status: 409 });
    const second = String((await begin()).body['secret']);
    session = (await signIn(world, person, { recoveryCode: app.recoveryCodes[0] })).accessToken;
    clock.advance(15 * 60_000 + 1);
    session = (await signIn(world, person, { recoveryCode: app.recoveryCodes[1] })).accessToken;
    expect((await confirm(codeAt(second, clock.now()))).body).toMatchObject({
      status: 409,
      code: 'conflict',
    });
    expect((await enter({ code: app.code() })).status).toBe(200);
  });

  test('after three wrong codes no code is looked at for a while; a recovery code still lets its owner in', async () => {
    for (let i = 0; i < 3; i++) {
      expect((await enter({ code: wrongCode(app.secret, clock.now()) })).body).toMatchObject({ status: 401 });
    }
    const [row] = await world.sql(`SELECT locked_until AS until FROM totp WHERE account_id = $1`, [
      person.accountId,
    ]);
    expect(row).toEqual({ until: new Date(clock.now() + 30_000) });
    const right = await enter({ code: app.code() });
    expect(right.body).toMatchObject({ status: 429, code: 'rate_limited' });
    expect(Number(right.headers.get('retry-after'))).toBeGreaterThan(0);
    const recoveryCode = app.recoveryCodes[3];
    expect((await enter({ recoveryCode: ` ${recoveryCode?.toUpperCase()} ` })).status).toBe(200);
    expect((await enter({ recoveryCode })).body).toMatchObject({ status: 401, field: 'code' });
    clock.advance(31_000);
    expect((await enter({ code: app.code() })).status).toBe(200);
  });

  test('recovery codes: ten, each good once, and good no more when there are new ones', async () => {
    expect(new Set(app.recoveryCodes).size).toBe(10);
    const proof = { password: person.password, code: app.code() };
    const renewed = (await totp('POST', proof, '/recovery-codes')).body[
      'recoveryCodes'
    ] as unknown as string[];
    expect((await enter({ recoveryCode: app.recoveryCodes[0] })).status).toBe(401);
    expect((await enter({ recoveryCode: renewed[0] })).status).toBe(200);
    expect((await totp('GET', undefined as never)).body).toEqual({ enabled: true, recoveryCodesLeft: 9 });
    const gone = await totp('DELETE', { password: person.password, recoveryCode: renewed[1] });
    expect(gone.status).toBe(204);
    expect((await enter({})).status).toBe(200);
  });
});
