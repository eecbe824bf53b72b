// Sign-in at a real OpenID Connect provider (oidc-provider on loopback), by a browser that follows redirects, keeps
// cookies and fills in the provider's forms.
import { createServer as createHttpServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import Provider from 'oidc-provider';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { AccessTokens } from '../src/auth/access-token.js';
import { flowCookie, readFlow, type Flow } from '../src/oidc/flow-cookie.js';
import { isBlockedAddress, mayBeIssuer, providerFetch } from '../src/oidc/provider-fetch.js';
import { setUpApp } from './authenticator-app.js';
import { PASSWORD, signIn as signInWith, withPassword } from './sign-in.js';
import { createWorld, type Answer, type Person, type World } from './world.js';

const providersPath = '/api/v1/identity-providers';
const clientSecret = 'a client secret of the test, long enough';
let world: World;
let server: Server;
let issuer: string;
let owner: Person;

beforeAll(async () => {
  world = await createWorld();
  owner = await withPassword(world, world.platform, 'owner');
  server = createHttpServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const provider = new Provider(issuer, {
    clients: [
      {
        ...{ client_id: 'penstock', client_secret: clientSecret, response_types: ['code'] },
        redirect_uris: [`${world.context.config.PUBLIC_URL}/api/v1/auth/oidc/callback`],
        token_endpoint_auth_method: 'client_secret_post',
      },
    ],
    // Whoever asks for an account by the address of somebody else gets that address as his mail.
    findAccount: (_context, sub) => ({
      accountId: sub,
      claims: () => ({ sub, email: sub, email_verified: true }),
    }),
    claims: { openid: ['sub', 'email', 'email_verified'] },
    conformIdTokenClaims: false,
  });
  const handle = provider.callback();
  server.on('request', (request, response) => void handle(request, response));
});
afterAll(async () => {
  await new Promise((resolve) => server.close(resolve));
  await world.close();
});

/** A browser with cookies of its own for us and for the provider. */
class Browser {
  readonly #jars = new Map<string, Map<string, string>>();

  async go(address: string, form?: Record<string, string>): Promise<Response> {
    const url = new URL(address.replace(`${world.context.config.PUBLIC_URL}/api`, `${world.url}/api`));
    const response = await fetch(url, {
      ...{ redirect: 'manual', headers: { cookie: this.cookies(url.origin) } },
      ...(form === undefined ? {} : { method: 'POST', body: new URLSearchParams(form) }),
    });
    this.keep(response.headers, url.origin);
    return response;
  }

  keep(headers: Headers, origin = world.url): void {
    const jar = this.#jars.get(origin) ?? new Map<string, string>();
    this.#jars.set(origin, jar);
    for (const line of headers.getSetCookie()) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
      jar.set(name, value);
    }
  }

  cookies(origin = world.url): string {
    return [...(this.#jars.get(origin) ?? [])].map(([name, value]) => `${name}=${value}`).join('; ');
  }

  /** Follows redirects from `address`, signing in as `login` where the provider asks; the address it ends at. */
  async signIn(address: string, login: string): Promise<string> {
    let next = address;
    for (let hops = 0; hops < 20; hops++) {
      if (next.startsWith(`${world.context.config.PUBLIC_URL}/signed-in`)) return next;
      const response = await this.go(next);
      const location = response.headers.get('location');
      if (location !== null) {
        next = new URL(location, next).href;
        continue;
      }
      const page = await response.text();
      const prompt = /name="prompt" value="(\w+)"/.exec(page)?.[1];
      if (response.status !== 200 || prompt === undefined)
        throw new Error(`${response.status} at ${next}: ${page}`);
      const answer = await this.go(next, { prompt, login, password: 'x' });
      next = new URL(answer.headers.get('location') ?? '', next).href;
    }
    throw new Error('too many redirects');
  }
}

async function makeProvider(as: Person, change: object = {}): Promise<string> {
  const body = { name: 'SSO', issuer, clientId: 'penstock', clientSecret, ...change };
  const answer = await world.ask('POST', providersPath, { as, body });
  expect(answer.body).not.toHaveProperty('code');
  return String(answer.body['identityProviderId']);
}

const startOf = (providerId: string): string => `${world.url}/api/v1/auth/oidc/${providerId}/start`;
const codeOf = (ended: string): string => /#code=([A-Za-z0-9_-]{43})$/.exec(ended)?.[1] ?? `none in ${ended}`;
const exchange = (browser: Browser, code: string, more: object = {}): Promise<Answer> =>
  world.ask('POST', '/api/v1/auth/oidc/exchange', {
    ...{ body: { code, ...more }, headers: { cookie: browser.cookies() } },
  });

const startLink = (as: Person, providerId: string, password = PASSWORD, more: object = {}): Promise<Answer> =>
  world.ask('POST', '/api/v1/me/identities/start', {
    ...{ as, body: { identityProviderId: providerId, password, ...more } },
  });
const addIdentity = (as: Person | string, browser: Browser, code: string): Promise<Answer> =>
  world.ask('POST', '/api/v1/me/identities', {
    ...{ as, body: { code }, headers: { cookie: browser.cookies() } },
  });

/** A browser that comes back from the provider with an identity for this person. */
async function bring(providerId: string, person: Person, login: string): Promise<[Browser, string]> {
  const browser = new Browser();
  const started = await startLink(person, providerId);
  expect(started.status).toBe(200);
  browser.keep(started.headers);
  return [browser, codeOf(await browser.signIn(String(started.body['location']), login))];
}

async function link(providerId: string, person: Person, login: string): Promise<Answer> {
  return addIdentity(person, ...(await bring(providerId, person, login)));
}

async function signIn(providerId: string, login: string): Promise<Answer> {
  const browser = new Browser();
  return exchange(browser, codeOf(await browser.signIn(startOf(providerId), login)));
}

describe('at the operator’s provider', () => {
  let providerId: string;
  let person: Person;

  beforeAll(async () => {
    providerId = await makeProvider(owner);
    person = await withPassword(world, await world.tenant('one'), 'admin');
  });

  test('an identity that its person added signs him in; every redirect is without a secret', async () => {
    expect((await world.ask('GET', '/api/v1/auth/oidc')).body['items']).toEqual([
      { identityProviderId: providerId, name: 'SSO' },
    ]);
    expect((await link(providerId, person, 'anna')).status).toBe(201);
    const browser = new Browser();
    const first = await browser.go(startOf(providerId));
    expect(first.status).toBe(302);
    expect(first.headers.get('cache-control')).toBe('no-store');
    expect(first.headers.get('set-cookie')).toMatch(/; Path=\/; HttpOnly; SameSite=Lax; Max-Age=600$/);
    const location = new URL(first.headers.get('location') ?? '');
    expect([...location.searchParams.keys()].sort()).toEqual([
      ...['client_id', 'code_challenge', 'code_challenge_method', 'nonce', 'redirect_uri'],
      ...['response_type', 'scope', 'state'],
    ]);
    const ended = await browser.signIn(startOf(providerId), 'anna');
    expect(ended).toMatch(/\/signed-in#code=[A-Za-z0-9_-]{43}$/);
    const answer = await exchange(browser, codeOf(ended));
    expect(answer.status).toBe(200);
    expect(answer.headers.get('cache-control')).toBe('no-store');
    expect(answer.body).toMatchObject({ tenantId: person.tenantId });
    const me = await world.ask('GET', '/api/v1/auth/me', { as: String(answer.body['accessToken']) });
    expect(me.body).toMatchObject({ account: { accountId: person.accountId } });
    expect((await exchange(browser, codeOf(ended))).body).toMatchObject({ code: 'token_invalid' });
  });

  test('the mail address of an account, vouched for by the provider, leads nowhere without a link [V36]', async () => {
    const [row] = await world.sql<{ email: string }>(`SELECT email FROM account WHERE account_id = $1`, [
      person.accountId,
    ]);
    expect((await signIn(providerId, String(row?.email))).body).toMatchObject({
      status: 403,
      code: 'forbidden',
    });
    const accounts = await world.sql<{ count: string }>(`SELECT count(*)::text AS count FROM account`);
    expect(Number(accounts[0]?.count)).toBe(2);
  });

  test('a code is worth nothing in another browser, for another purpose, or after a minute', async () => {
    const guest = await withPassword(world, await world.tenant(), 'admin');
    expect((await link(providerId, guest, 'guest')).status).toBe(201);
    const browser = new Browser();
    const code = codeOf(await browser.signIn(startOf(providerId), 'guest'));
    const other = new Browser();
    await other.go(startOf(providerId));
    for (const thief of [new Browser(), other]) {
      expect((await exchange(thief, code)).body).toMatchObject({ code: 'token_invalid' });
    }
    const body = { code };
    const asLink = await world.ask('POST', '/api/v1/me/identities', {
      ...{ as: owner, body, headers: { cookie: browser.cookies() } },
    });
    expect(asLink.body).toMatchObject({ code: 'token_invalid' });
    expect((await exchange(browser, code)).status).toBe(200);
    const late = new Browser();
    const lateCode = codeOf(await late.signIn(startOf(providerId), 'guest'));
    await world.sql(`UPDATE oidc_exchange SET expires_at = now() - interval '1 second'`);
    expect((await exchange(late, lateCode)).body).toMatchObject({ code: 'token_invalid' });
  });

  test('an answer without our cookie, with another state, or that says no: told by its code in the fragment', async () => {
    const back = (query: string): string => `${world.url}/api/v1/auth/oidc/callback?${query}`;
    const browser = new Browser();
    const asked = await browser.go(startOf(providerId));
    const state = new URL(asked.headers.get('location') ?? '').searchParams.get('state') ?? '';
    const cases: [Browser, string, string][] = [
      [new Browser(), `code=x&state=${state}`, 'token_invalid'],
      [browser, 'code=x&state=other', 'token_invalid'],
    ];
    for (const [who, query, code] of cases) {
      const answer = await who.go(back(query));
      expect(answer.headers.get('location')).toBe(
        `${world.context.config.PUBLIC_URL}/signed-in#error=${code}`,
      );
    }
    const refused = new Browser();
    const other = new URL((await refused.go(startOf(providerId))).headers.get('location') ?? '');
    const denied = await refused.go(back(`error=access_denied&state=${other.searchParams.get('state')}`));
    expect(denied.headers.get('location')).toMatch(/#error=forbidden$/);
    const forged = new Browser();
    const third = new URL((await forged.go(startOf(providerId))).headers.get('location') ?? '');
    const query = `code=invented&state=${third.searchParams.get('state')}&iss=${encodeURIComponent(issuer)}`;
    expect((await forged.go(back(query))).headers.get('location')).toMatch(/#error=unauthenticated$/);
  });

  test('one identity leads to one account; a removed one leads nowhere; a disabled account stays out', async () => {
    const second = await withPassword(world, person.tenantId, 'operator');
    expect((await link(providerId, second, 'anna')).status).toBe(409);
    expect((await link(providerId, second, 'berta')).status).toBe(201);
    expect((await signIn(providerId, 'berta')).status).toBe(200);
    const mine = await world.ask('GET', '/api/v1/me/identities', { as: second });
    expect(mine.body['items']).toMatchObject([{ identityProviderId: providerId, issuer }]);
    await world.sql(`UPDATE account SET disabled_at = now() WHERE account_id = $1`, [person.accountId]);
    expect((await signIn(providerId, 'anna')).status).toBe(403);
    await world.sql(`UPDATE account SET disabled_at = NULL WHERE account_id = $1`, [person.accountId]);
    const gone = await world.ask('DELETE', `/api/v1/me/identities/${providerId}`, { as: second });
    expect(gone.status).toBe(204);
    expect((await signIn(providerId, 'berta')).status).toBe(403);
  });
});

test('an identity is added with password and code, in the session that began it and in no other', async () => {
  const providerId = await makeProvider(owner, { name: 'Links' });
  const login = await withPassword(world, await world.tenant('links'), 'operator');
  expect((await startLink(login, providerId, 'a wrong password')).body).toMatchObject({ status: 403 });
  const [browser, code] = await bring(providerId, login, 'dora');
  const other = (await signInWith(world, login)).accessToken;
  for (const as of [owner, other]) {
    expect((await addIdentity(as, browser, code)).body).toMatchObject({ code: 'token_invalid' });
  }
  expect((await exchange(browser, code)).body).toMatchObject({ code: 'token_invalid' });
  expect((await addIdentity(login, browser, code)).status).toBe(201);
  await setUpApp(world, login.token, login.password);
  expect((await startLink(login, providerId)).body).toMatchObject({ code: 'totp_required' });
});

test('a reset that removes the second factor removes identities, too', async () => {
  const providerId = await makeProvider(owner, { name: 'Resets' });
  const tenant = await world.tenant('resets');
  const boss = await world.person(tenant, 'owner');
  const login = await withPassword(world, tenant, 'operator');
  expect((await link(providerId, login, 'thief')).status).toBe(201);
  expect((await signIn(providerId, 'thief')).status).toBe(200);
  const made = await world.ask('POST', `/api/v1/members/${login.accountId}/password-reset`, {
    ...{ as: boss, body: { removeSecondFactor: true } },
  });
  const token = String(made.body['link']).split('#')[1];
  const body = { token, password: 'long enough, certainly' };
  expect((await world.ask('POST', '/api/v1/auth/reset', { body })).status).toBe(204);
  expect((await signIn(providerId, 'thief')).status).toBe(403);
});

describe('at a tenant’s own provider', () => {
  test('a session sees nothing of the account elsewhere, and has the role of that tenant alone', async () => {
    const [tenant, elsewhere] = [await world.tenant('confined'), await world.tenant('a competitor')];
    const boss = await world.person(tenant, 'owner');
    const providerId = await makeProvider(boss, { name: 'Confined' });
    const login = await withPassword(world, tenant, 'admin');
    await world.sql(
      `INSERT INTO member (tenant_id, account_id, role) VALUES ($1, $2, 'owner'), ($3, $2, 'owner')`,
      [...[elsewhere, login.accountId, world.platform]],
    );
    expect((await link(providerId, login, 'erna')).status).toBe(201);
    const as = String((await signIn(providerId, 'erna')).body['accessToken']);
    const me = await world.ask('GET', '/api/v1/auth/me', { as });
    expect(me.body['memberships']).toEqual([{ tenantId: tenant, name: 'confined', role: 'admin' }]);
    expect(me.text).not.toContain('competitor');
    for (const path of ['sessions', 'identities', 'passkeys', 'totp']) {
      expect((await world.ask('GET', `/api/v1/me/${path}`, { as })).status, path).toBe(403);
    }
    const invited = { email: 'new@example.org', role: 'owner' };
    expect((await world.ask('POST', '/api/v1/invitations', { as, body: invited })).status).toBe(403);
    const lowered = { as, body: { role: 'auditor' } };
    expect((await world.ask('PATCH', `/api/v1/members/${boss.accountId}`, lowered)).status).toBe(403);
    // With his own password he is the platform's owner here, too.
    const own = { as: login, body: invited };
    expect((await world.ask('POST', '/api/v1/invitations', own)).status).toBe(201);
  });

  test('a session reaches that tenant and no other, also after a refresh, and changes nothing of the account', async () => {
    const [tenant, elsewhere] = [await world.tenant('two'), await world.tenant('three')];
    const boss = await world.person(tenant, 'owner');
    const providerId = await makeProvider(boss);
    // A member of two tenants and of the platform, which the tenant's provider must not reach.
    await world.sql(
      `INSERT INTO member (tenant_id, account_id, role) VALUES ($1, $2, 'operator'), ($3, $2, 'owner')`,
      [...[tenant, owner.accountId, elsewhere]],
    );
    const stranger = await withPassword(world, elsewhere, 'admin');
    expect((await link(providerId, stranger, 'stranger')).status).toBe(404);
    expect((await link(providerId, owner, 'carla')).status).toBe(201);
    const signed = await signIn(providerId, 'carla');
    expect(signed.body).toMatchObject({ tenantId: tenant });
    const check = async (tokens: Record<string, never>): Promise<void> => {
      const token = String(tokens['accessToken']);
      const me = await world.ask('GET', '/api/v1/auth/me', { as: token });
      expect(me.body).toMatchObject({ role: 'operator', tenant: { tenantId: tenant } });
      for (const tenantId of [elsewhere, world.platform]) {
        const moved = await world.ask('POST', '/api/v1/auth/refresh', {
          body: { refreshToken: tokens['refreshToken'], tenantId },
        });
        expect(moved.body).toMatchObject({ status: 404, code: 'not_found' });
      }
      const body = { tenantId: elsewhere };
      expect((await world.ask('POST', '/api/v1/auth/switch', { as: token, body })).status).toBe(403);
      const unlink = await world.ask('DELETE', `/api/v1/me/identities/${providerId}`, { as: token });
      expect(unlink.status).toBe(403);
    };
    await check(signed.body);
    const again = await signIn(providerId, 'carla');
    const renewed = await world.ask('POST', '/api/v1/auth/refresh', {
      body: { refreshToken: again.body['refreshToken'], tenantId: tenant },
    });
    expect(renewed.status).toBe(200);
    await check(renewed.body);
    // Also a good token of that session for the other tenant, had one ever been given, opens nothing there.
    const [{ family_id: familyId }] = (await world.sql<{ family_id: string }>(
      `SELECT family_id FROM session WHERE only_tenant_id = $1 AND revoked_at IS NULL LIMIT 1`,
      [tenant],
    )) as [{ family_id: string }];
    for (const tenantId of [elsewhere, world.platform]) {
      const token = await world.app.get(AccessTokens).issue(owner.accountId, tenantId, familyId);
      expect((await world.ask('GET', '/api/v1/plans', { as: token })).status).toBe(401);
    }
    const roaming = await world.sql(
      `SELECT FROM session WHERE only_tenant_id IS NULL
          AND family_id IN (SELECT family_id FROM session WHERE only_tenant_id IS NOT NULL)`,
    );
    expect(roaming).toEqual([]);
  });

  test('only owners manage providers; the secret is never shown; another tenant’s is not there', async () => {
    const boss = await world.person(await world.tenant('four'), 'owner');
    const providerId = await makeProvider(boss);
    const path = `${providersPath}/${providerId}`;
    const admin = await world.person(boss.tenantId, 'admin');
    expect((await world.ask('PATCH', path, { as: admin, body: { enabled: false } })).status).toBe(403);
    const got = await world.ask('GET', path, { as: admin });
    expect(got.headers.get('etag')).toBe('"1"');
    const audit = await world.sql<{ text: string }>(
      `SELECT string_agg(a::text, ' ') AS text FROM audit_log a`,
    );
    const rows = await world.sql<{ text: string }>(
      `SELECT string_agg(p::text, ' ') AS text FROM identity_provider p`,
    );
    for (const text of [got.text, audit[0]?.text, rows[0]?.text]) expect(text).not.toContain(clientSecret);
    const foreign = await world.person(await world.tenant('five'), 'owner');
    for (const [method, body] of [
      ['GET', undefined],
      ['PATCH', { enabled: false }],
      ['DELETE', undefined],
    ] as const) {
      expect((await world.ask(method, path, { as: foreign, body })).status, method).toBe(404);
    }
    const headers = { 'if-match': '"7"' };
    expect((await world.ask('PATCH', path, { as: boss, body: { name: 'x' }, headers })).status).toBe(412);
    expect((await world.ask('PATCH', path, { as: boss, body: { enabled: false } })).status).toBe(200);
    expect((await new Browser().go(startOf(providerId))).status).toBe(404);
    expect((await world.ask('DELETE', path, { as: boss })).status).toBe(204);
    expect((await world.ask('GET', path, { as: boss })).status).toBe(404);
  });
});

describe('a provider cannot lead us elsewhere', () => {
  test('plain http only to loopback outside production; a tenant’s only to public addresses', async () => {
    const boss = await world.person(await world.tenant('six'), 'owner');
    const wrong = [
      'http://sso.example.com',
      'ftp://sso.example.com',
      'https://u:p@sso.example.com',
      'https://x.y/?a=1',
    ];
    for (const address of wrong) {
      const body = { name: 'x', issuer: address, clientId: 'c', clientSecret };
      const answer = await world.ask('POST', providersPath, { as: boss, body });
      expect(answer.body, address).toMatchObject({ status: 400, field: 'issuer' });
    }
    expect(mayBeIssuer(new URL('http://127.0.0.1:1'), 'production')).toBe(false);
    for (const address of [
      '10.0.0.1',
      '127.0.0.1',
      '169.254.169.254',
      '::1',
      '::ffff:10.0.0.1',
      'fd00::1',
      'nonsense',
    ]) {
      expect(isBlockedAddress(address), address).toBe(true);
    }
    const options = { method: 'GET', headers: {}, body: undefined, redirect: 'manual' } as const;
    const port = (server.address() as AddressInfo).port;
    let asked = 0;
    server.on('connection', () => asked++);
    for (const address of [
      `https://127.0.0.1:${port}/`,
      `https://localhost:${port}/`,
      `https://[::1]:${port}/`,
    ]) {
      await expect(async () => providerFetch(false, 'production')(address, options), address).rejects.toThrow(
        'this address is not for identity providers',
      );
    }
    await expect(async () => providerFetch(true, 'production')(`${issuer}/`, options)).rejects.toThrow(
      /https/,
    );
    expect(asked).toBe(0);
    const away = await makeProvider(boss, { issuer: 'https://10.255.255.1' });
    expect((await new Browser().go(startOf(away))).status).toBe(503);
  });

  test('the cookie of a flow is sealed, ends, and is Secure under https', () => {
    const key = world.context.config.DATA_KEY;
    const flow: Flow = {
      ...{
        identityProviderId: 'p',
        purpose: 'sign_in',
        familyId: null,
        state: 's',
        nonce: 'n',
        codeVerifier: 'v',
        browser: 'b',
      },
      expiresAtMs: 1_000,
    };
    const line = flowCookie(key, true, flow);
    expect(line).toMatch(
      /^__Host-penstock-oidc=[A-Za-z0-9_-]+; Path=\/; HttpOnly; SameSite=Lax; Max-Age=600; Secure$/,
    );
    const sent = line.split(';')[0];
    expect(readFlow(key, true, `a=1; ${sent}`, 999)).toEqual(flow);
    expect(() => readFlow(key, true, sent, 1_000)).toThrow(/too long/);
    expect(() => readFlow(key, false, sent, 999)).toThrow(/began no sign-in/);
    expect(() => readFlow(key, true, `${sent?.slice(0, -2)}AA`, 999)).toThrow(/began no sign-in/);
    expect(() => readFlow(key, true, undefined, 999)).toThrow(/began no sign-in/);
  });
});
