import { createHmac, createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { SignJWT, UnsecuredJWT } from 'jose';
import { FakeClock } from '@penstock/domain/clock';
import { ACCESS_TOKEN_SECONDS } from '../src/auth/access-token.js';
import { createWorld, SETUP_TOKEN, type Answer, type Person, type World } from './world.js';

const owner = { email: 'owner@example.org', password: 'a long enough sentence' };
const clock = new FakeClock(Date.now());
/** Twenty-two hashes take 3 s on two idle cores, and much longer on busy ones. */
const HASHING_MS = 180_000;
let world: World;
let person: Person;

beforeAll(async () => {
  world = await createWorld({ clock });
  const body = { ...owner, token: SETUP_TOKEN, displayName: 'Owner' };
  expect((await world.ask('POST', '/api/v1/setup', { body })).status).toBe(201);
  person = await world.person(await world.tenant('one'), 'operator');
});
afterAll(() => world.close());

const signIn = (body: object = owner): Promise<Answer> => world.ask('POST', '/api/v1/auth/sign-in', { body });
const refresh = (refreshToken: unknown): Promise<Answer> =>
  world.ask('POST', '/api/v1/auth/refresh', { body: { refreshToken } });
const me = (token?: string): Promise<Answer> => world.ask('GET', '/api/v1/auth/me', { as: token });

test('200: the right password gives an access token for 15 minutes and a refresh token', async () => {
  const answer = await signIn({ email: ' Owner@EXAMPLE.org ', password: owner.password });
  expect(answer.status).toBe(200);
  expect(answer.headers.get('cache-control')).toBe('no-store');
  expect(answer.body).toMatchObject({ expiresIn: 900, tenantId: world.platform });
  const who = await me(answer.body['accessToken']);
  expect(who.body).toMatchObject({
    account: { email: owner.email },
    role: 'owner',
    tenant: { platform: true },
  });
  expect(who.body['permissions']).toContain('tenant.create');
});

test(
  '401: a wrong password and an unknown name answer the same, header by header',
  { timeout: HASHING_MS },
  async () => {
    clock.advance(600_000);
    const visible = (answer: Answer): unknown => ({
      status: answer.status,
      body: { ...answer.body, request_id: '' },
      // What is left of the caller's own limit goes down with each of his requests, whoever is named.
      headers: [...answer.headers].filter(([name]) => !/^(date|x-request-id|ratelimit-.*)$/.test(name)),
    });
    const real = await signIn({ email: owner.email, password: 'not the password' });
    const invented = await signIn({ email: 'nobody@example.org', password: 'not the password' });
    expect(real.status).toBe(401);
    expect(visible(real)).toEqual(visible(invented));
    // The eleventh try of each is refused alike, too.
    for (let i = 0; i < 10; i++) {
      const tries = ['owner@example.org', 'nobody@example.org'].map((email) =>
        signIn({ email, password: 'x' }),
      );
      const [known, unknown] = await Promise.all(tries);
      expect(visible(known as Answer)).toEqual(visible(unknown as Answer));
    }
    expect((await signIn()).body).toMatchObject({ status: 429, code: 'rate_limited' });
  },
);

test(
  '503: more hashes than the queue holds are refused at once, with a time to come back [R2-07]',
  { timeout: HASHING_MS },
  async () => {
    clock.advance(600_000);
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_, i) => signIn({ email: `flood${i}@example.org`, password: 'x' })),
    );
    const statuses = answers.map((answer) => answer.status);
    // Two are hashed and twenty wait; who comes while one of them leaves may still get in on a slow machine.
    const hashed = statuses.filter((status) => status === 401).length;
    expect(hashed).toBeGreaterThanOrEqual(22);
    const busy = answers.filter((answer) => answer.status === 503);
    expect(busy.length).toBe(40 - hashed);
    expect(busy.length).toBeGreaterThan(0);
    expect(busy[0]?.body).toMatchObject({ code: 'unavailable' });
    expect(Number(busy[0]?.headers.get('retry-after'))).toBeGreaterThan(0);
  },
);

test('401: an access token ends after 15 minutes and the leeway [R2-03]', async () => {
  const { accountId, tenantId, familyId } = person;
  const { AccessTokens } = await import('../src/auth/access-token.js');
  const token = await world.app.get(AccessTokens).issue(accountId, tenantId, familyId);
  expect((await me(token)).status).toBe(200);
  clock.advance((ACCESS_TOKEN_SECONDS + 61) * 1000);
  expect((await me(token)).body).toMatchObject({ status: 401, code: 'unauthenticated' });
  person.token = await world.app.get(AccessTokens).issue(accountId, tenantId, familyId);
});

test('401: forged tokens are refused on every guarded route alike', async () => {
  const good = person.token;
  const [head = '', payload = '', signature = ''] = good.split('.');
  const claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as Record<string, unknown>;
  const header = JSON.parse(Buffer.from(head, 'base64url').toString()) as { kid: string };
  const publicPem = createPublicKey(world.context.config.JWT_KEY)
    .export({ format: 'pem', type: 'spki' })
    .toString();
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const hs256 = (key: string): string => {
    const text = `${part({ alg: 'HS256', typ: 'at+jwt', kid: header.kid })}.${payload}`;
    return `${text}.${createHmac('sha256', key).update(text).digest('base64url')}`;
  };
  const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  const signed = (key: typeof other, head: Record<string, unknown>, body: object = claims): Promise<string> =>
    new SignJWT(body as Record<string, string>)
      .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', ...head })
      .sign(key);
  const own = createPrivateKey(world.context.config.JWT_KEY.export({ format: 'pem', type: 'pkcs8' }));
  const withoutTenant = Object.fromEntries(Object.entries(claims).filter(([name]) => name !== 'tid'));
  const forgeries: Record<string, string> = {
    none: new UnsecuredJWT(claims).encode(),
    'none with a signature': `${part({ alg: 'none', typ: 'at+jwt', kid: header.kid })}.${payload}.${signature}`,
    'HS256 keyed by the public key': hs256(publicPem),
    'HS256 keyed by the public key, trimmed': hs256(publicPem.trim()),
    'HS256 keyed by the public key, CRLF': hs256(publicPem.replaceAll('\n', '\r\n')),
    'another key': await signed(other, { kid: header.kid }),
    'another key in its own header': await signed(other, {
      ...{ kid: header.kid, jwk: createPublicKey(other).export({ format: 'jwk' }) },
    }),
    'a key elsewhere': await signed(other, { kid: header.kid, jku: 'http://127.0.0.1:9/keys' }),
    'a key in a path': await signed(other, { kid: '../../../../etc/passwd' }),
    RS256: await signed(rsa, { alg: 'RS256', kid: header.kid }),
    'no alg': `${part({ typ: 'at+jwt', kid: header.kid })}.${payload}.${signature}`,
    'our key without a key id': await signed(own, {}),
    'another type': await signed(own, { kid: header.kid, typ: 'JWT' }),
    'another audience': await signed(own, { kid: header.kid }, { ...claims, aud: 'other' }),
    'another issuer': await signed(own, { kid: header.kid }, { ...claims, iss: 'http://elsewhere' }),
    'no tenant': await signed(own, { kid: header.kid }, withoutTenant),
    'a changed payload': `${head}.${part({ ...claims, tid: world.platform })}.${signature}`,
    'no signature': `${head}.${payload}.`,
    'nothing at all': '...',
    'very long': `${head}.${randomBytes(6000).toString('base64url')}.${signature}`,
  };
  expect((await me(good)).status).toBe(200);
  for (const [name, token] of Object.entries(forgeries)) {
    expect((await me(token)).body, name).toMatchObject({ status: 401, code: 'unauthenticated' });
  }
  expect((await me()).headers.get('www-authenticate')).toBe('Bearer');
});

test('tokens of two people never change places in the cache of verified ones', async () => {
  const tenantId = await world.tenant('two');
  const people = [person, await world.person(tenantId, 'auditor')];
  const answers = await Promise.all(Array.from({ length: 400 }, (_, i) => me(people[i % 2]?.token)));
  answers.forEach((answer, i) => {
    expect(answer.body['account']).toMatchObject({ accountId: people[i % 2]?.accountId });
  });
});

test('a refresh token has one child however many ask for it at once, and its reuse ends the family [R2-03]', async () => {
  clock.advance(600_000);
  const first = (await signIn()).body;
  const answers = await Promise.all(Array.from({ length: 50 }, () => refresh(first['refreshToken'])));
  expect(answers.map((answer) => answer.status)).toEqual(answers.map(() => 200));
  expect(new Set(answers.map((answer) => answer.body['refreshToken'])).size).toBe(1);
  const second = answers[0]?.body ?? {};
  // A lost answer: the direct parent within its grace gives the same child again.
  expect((await refresh(first['refreshToken'])).body['refreshToken']).toBe(second['refreshToken']);
  const third = (await refresh(second['refreshToken'])).body;
  expect((await me(third['accessToken'])).status).toBe(200);
  // The grandparent is somebody else's copy.
  expect((await refresh(first['refreshToken'])).body).toMatchObject({ status: 401, code: 'token_invalid' });
  expect((await refresh(third['refreshToken'])).body).toMatchObject({ status: 401, code: 'token_invalid' });
  clock.advance(1_001);
  expect((await me(third['accessToken'])).body).toMatchObject({ status: 401 });
});

test('the direct parent too is refused when its grace is over [R2-03]', async () => {
  const first = (await signIn()).body;
  const second = (await refresh(first['refreshToken'])).body;
  clock.advance(10_001);
  expect((await refresh(first['refreshToken'])).status).toBe(401);
  expect((await refresh(second['refreshToken'])).status).toBe(401);
});

test('204: sign-out ends the refresh token and within a second the access token', async () => {
  clock.advance(60_000);
  const tokens = (await signIn()).body;
  const out = await world.ask('POST', '/api/v1/auth/sign-out', {
    body: { refreshToken: tokens['refreshToken'] },
  });
  expect(out.status).toBe(204);
  expect((await refresh(tokens['refreshToken'])).status).toBe(401);
  expect((await me(tokens['accessToken'])).status).toBe(401);
});

test('401 within a second: a disabled account, 403: an account that lost its place', async () => {
  const someone = await world.person(person.tenantId, 'admin');
  expect((await me(someone.token)).body).toMatchObject({ role: 'admin' });
  await world.sql(`UPDATE member SET role = 'auditor' WHERE account_id = $1`, [someone.accountId]);
  clock.advance(1_001);
  expect((await me(someone.token)).body).toMatchObject({ role: 'auditor' });
  await world.sql(`DELETE FROM member WHERE account_id = $1`, [someone.accountId]);
  clock.advance(1_001);
  expect((await me(someone.token)).body).toMatchObject({ status: 403, code: 'forbidden' });
  await world.sql(`UPDATE account SET disabled_at = now() WHERE account_id = $1`, [someone.accountId]);
  clock.advance(1_001);
  expect((await me(someone.token)).body).toMatchObject({ status: 401, code: 'unauthenticated' });
});

test('switch: a person of the platform reaches every tenant, others only their own; another is not found', async () => {
  clock.advance(60_000);
  const platform = (await signIn()).body;
  const to = (token: string, tenantId: string): Promise<Answer> =>
    world.ask('POST', '/api/v1/auth/switch', { as: token, body: { tenantId } });
  const inside = await to(platform['accessToken'] as never, person.tenantId);
  expect(inside.status).toBe(200);
  const who = await me(inside.body['accessToken']);
  expect(who.body).toMatchObject({ role: 'owner', tenant: { tenantId: person.tenantId, platform: false } });
  // Inside a tenant the operator acts as one of it: the list of tenants is the platform's.
  const list = await world.ask('GET', '/api/v1/tenants', { as: String(inside.body['accessToken']) });
  expect(list.body).toMatchObject({ status: 403 });
  expect((await to(person.token, world.platform)).body).toMatchObject({ status: 404, code: 'not_found' });
  expect((await to(person.token, 'no-id')).body).toMatchObject({ status: 400, field: 'tenantId' });
});

test('the tenant comes from the token: no header, body or query changes it', async () => {
  const other = await world.tenant('other');
  const answer = await world.ask('GET', `/api/v1/auth/me`, { as: person, headers: { 'x-tenant-id': other } });
  expect(answer.body).toMatchObject({ tenant: { tenantId: person.tenantId } });
  const planted = await world.ask('GET', `/api/v1/plans?tenantId=${other}`, { as: person });
  expect(planted.body).toMatchObject({ status: 400, field: 'tenantId' });
});
