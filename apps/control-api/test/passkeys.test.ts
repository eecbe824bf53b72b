import { afterAll, beforeAll, expect, test } from 'vitest';
import { FakeClock } from '@penstock/domain/clock';
import { passkey as passkeySchema } from '../src/passkeys/passkeys.schema.js';
import { cbor, map, SoftwarePasskey, type Flaw } from './authenticator.js';
import { anHourLater, signIn, withPassword, type Login } from './sign-in.js';
import { ABSENT, createWorld, type Answer, type World } from './world.js';

const SITE = 'vpn.example.org';
const ORIGIN = `https://${SITE}`;
const clock = new FakeClock(Date.now());
let world: World;
let person: Login;

beforeAll(async () => {
  world = await createWorld({ clock, env: { PUBLIC_URL: ORIGIN } });
  person = await withPassword(world, await world.tenant('one'), 'operator');
});
afterAll(() => world.close());

const post = (path: string, body: object | undefined, as?: string): Promise<Answer> =>
  world.ask('POST', `/api/v1/${path}`, { as, body });
const creation = async (as: Login): Promise<Record<string, unknown>> =>
  (await post('me/passkeys/options', { password: as.password }, as.token)).body;
const challenge = async (): Promise<Record<string, unknown>> =>
  (await post('auth/passkey/options', undefined)).body;

async function added(as: Login = person): Promise<SoftwarePasskey> {
  const passkey = new SoftwarePasskey(ORIGIN, SITE);
  const body = { name: 'Phone', credential: passkey.create(await creation(as)) };
  const answer = await post('me/passkeys', body, as.token);
  expect(answer.status, answer.text).toBe(201);
  passkeySchema.parse(answer.body);
  return passkey;
}

test('201, then 200: a passkey is added and signs in, also where an authenticator app is in force', async () => {
  const passkey = await added();
  await world.sql(
    `INSERT INTO totp (account_id, totp_id, state, secret, created_at) VALUES ($1, $2, 'active', 'x', now())`,
    [person.accountId, ABSENT],
  );
  const answer = await post('auth/passkey', { credential: passkey.get(await challenge()) });
  expect(answer.status, answer.text).toBe(200);
  const me = await world.ask('GET', '/api/v1/auth/me', { as: String(answer.body['accessToken']) });
  expect(me.body['account']).toMatchObject({ accountId: person.accountId });
  await world.sql(`DELETE FROM totp WHERE account_id = $1`, [person.accountId]);
  const list = await world.ask('GET', '/api/v1/me/passkeys', { as: person });
  expect(list.body['items']).toMatchObject([
    { name: 'Phone', lastUsedAt: new Date(clock.now()).toISOString() },
  ]);
});

test('the options to sign in are the same for everybody but for the challenge', async () => {
  const [a, b] = [await challenge(), await challenge()];
  expect(a['challenge']).not.toBe(b['challenge']);
  expect({ ...a, challenge: '' }).toEqual({ ...b, challenge: '' });
  expect(a).not.toHaveProperty('allowCredentials');
});

test('401: an answer is good once, for five minutes, for our challenge, site, origin, key and person [V43]', async () => {
  const passkey = await added();
  const good = passkey.get(await challenge());
  expect((await post('auth/passkey', { credential: good })).status).toBe(200);
  const refused: Record<string, object> = {
    'the same again': good,
    'another origin': passkey.get(await challenge(), { origin: 'https://vpn.example.org.evil.example' }),
    'another site': passkey.get(await challenge(), { site: 'evil.example' }),
    'a challenge of its own': passkey.get({ challenge: Buffer.alloc(64, 1).toString('base64url') }),
    'a challenge made for adding': passkey.get(await creation(person)),
    'nobody present': passkey.get(await challenge(), { flags: 0 }),
    'a person who was not verified': passkey.get(await challenge(), { flags: 1 }),
    'another key': passkey.get(await challenge(), { forged: true }),
    'a counter that went back': passkey.get(await challenge(), { counter: 1 }),
    'an unknown passkey': Object.assign(new SoftwarePasskey(ORIGIN, SITE), { userHandle: 'AA' }).get(
      await challenge(),
    ),
  };
  const late = passkey.get(await challenge());
  for (const [name, credential] of Object.entries(refused)) {
    // Guesses at one passkey wait like guesses at one name, and challenges last longer than these waits.
    clock.advance(16_000);
    const answer = await post('auth/passkey', { credential });
    expect(answer.body, name).toMatchObject({ status: 401, code: 'unauthenticated' });
    expect(answer.body['detail'], name).toBe('this passkey is not known here');
  }
  clock.advance(5 * 60_000);
  expect((await post('auth/passkey', { credential: late })).status).toBe(401);
  await anHourLater(world, clock, person);
  expect((await post('auth/passkey', { credential: passkey.get(await challenge()) })).status).toBe(200);
});

test('one answer shown many times at once signs in once', async () => {
  await anHourLater(world, clock, person);
  const passkey = await added();
  const credential = passkey.get(await challenge());
  const answers = await Promise.all(Array.from({ length: 3 }, () => post('auth/passkey', { credential })));
  expect(answers.filter((answer) => answer.status === 200)).toHaveLength(1);
});

test('400: what is no new passkey for this session’s challenge', async () => {
  await anHourLater(world, clock, person);
  const other = await withPassword(world, person.tenantId, 'operator');
  const make = async (
    flaw: Flaw,
    options?: Record<string, unknown>,
    attestation?: Buffer,
  ): Promise<Answer> => {
    const passkey = new SoftwarePasskey(ORIGIN, SITE);
    const credential = passkey.create(options ?? (await creation(person)), flaw, attestation);
    return post('me/passkeys', { name: 'x', credential }, person.token);
  };
  const withCertificate = map([
    [cbor.text('fmt'), cbor.text('apple')],
    [cbor.text('attStmt'), map([])],
    [cbor.text('authData'), cbor.bytes(Buffer.alloc(37))],
  ]);
  const answers = {
    origin: await make({ origin: 'https://evil.example' }),
    site: await make({ site: 'evil.example' }),
    unverified: await make({ flags: 1 }),
    'another session’s challenge': await make({}, await creation(other)),
    'a challenge to sign in': await make({}, { ...(await creation(person)), ...(await challenge()) }),
    'an attestation': await make({}, undefined, withCertificate),
    'no CBOR': await make({}, undefined, Buffer.from('hello')),
  };
  for (const [name, answer] of Object.entries(answers)) {
    expect(answer.body, name).toMatchObject({ status: 400, code: 'invalid_input', field: 'credential' });
  }
});

test('403: adding one needs the password, 401: and the code', async () => {
  await anHourLater(world, clock, person);
  expect((await post('me/passkeys/options', { password: 'wrong' }, person.token)).body).toMatchObject({
    ...{ status: 403, field: 'password' },
  });
  expect((await signIn(world, person)).status).toBe(200);
});

test('204 and 404: removing one, and another person’s', async () => {
  await anHourLater(world, clock, person);
  const other = await withPassword(world, person.tenantId, 'operator');
  const passkey = await added(other);
  const list = await world.ask('GET', '/api/v1/me/passkeys', { as: other });
  const [{ passkeyId }] = list.body['items'] as unknown as [{ passkeyId: string }];
  const path = `/api/v1/me/passkeys/${passkeyId}`;
  expect((await world.ask('DELETE', path, { as: person })).body).toMatchObject({ status: 404 });
  expect((await world.ask('DELETE', path, { as: other })).status).toBe(204);
  expect((await post('auth/passkey', { credential: passkey.get(await challenge()) })).status).toBe(401);
});

test('422: the twenty-first', async () => {
  await world.sql(
    `INSERT INTO passkey (account_id, passkey_id, credential_id, public_key, sign_count, name, synced, created_at)
     SELECT $1, gen_random_uuid(), uuid_send(gen_random_uuid()), '', 0, 'x', false, now() FROM generate_series(1, 20)`,
    [person.accountId],
  );
  expect(await creation(person)).toMatchObject({ status: 422, code: 'limit_reached' });
});
