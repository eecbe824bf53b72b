import { createHash } from 'node:crypto';
import { Script } from 'node:vm';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createWorld, SETUP_TOKEN, type World } from './world.js';

const owner = { email: 'Owner@Example.org', password: 'a long enough sentence', displayName: 'First Owner' };
/** Twenty-two hashes take 3 s on two idle cores, and much longer on busy ones. */
const HASHING_MS = 180_000;
let world: World;

beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.close());

test('a fresh installation has a platform tenant, no account, and says that set-up is needed', async () => {
  expect(await world.sql('SELECT count(*)::int AS n FROM account')).toEqual([{ n: 0 }]);
  expect(await world.sql(`SELECT kind FROM tenant JOIN platform USING (tenant_id)`)).toEqual([
    { kind: 'platform' },
  ]);
  expect((await world.ask('GET', '/api/v1/setup')).body).toEqual({ needed: true });
});

test('the page asks for nothing from elsewhere and its policy fits its own style and script', async () => {
  const page = await world.ask('GET', '/setup');
  expect(page.status).toBe(200);
  expect(page.headers.get('content-type')).toBe('text/html; charset=utf-8');
  expect(page.headers.get('content-security-policy')).toContain(`default-src 'none'`);
  expect(page.text).not.toMatch(/(src|href)=/);
  expect(page.text).not.toContain(SETUP_TOKEN);
  for (const kind of ['style', 'script']) {
    const [, content = ''] = new RegExp(`<${kind}>([^]*?)</${kind}>`).exec(page.text) ?? [];
    expect(content.length, kind).toBeGreaterThan(100);
    const hash = createHash('sha256').update(content).digest('base64');
    expect(page.headers.get('content-security-policy')).toContain(`${kind}-src 'sha256-${hash}'`);
    if (kind === 'script') expect(() => new Script(content)).not.toThrow();
  }
});

test('without the secret there is no set-up: 404, and no hash is computed', async () => {
  const answer = await world.ask('POST', '/api/v1/setup', { body: { ...owner, token: 'x'.repeat(32) } });
  expect(answer.status).toBe(404);
  expect(answer.body).toMatchObject({ code: 'not_found', status: 404 });
});

test('an unknown field and a short password are refused by name', async () => {
  const role = await world.ask('POST', '/api/v1/setup', {
    body: { ...owner, token: SETUP_TOKEN, role: 'owner' },
  });
  expect(role.body).toMatchObject({ status: 400, code: 'invalid_input', field: 'role' });
  const short = await world.ask('POST', '/api/v1/setup', {
    body: { ...owner, token: SETUP_TOKEN, password: 'short' },
  });
  expect(short.body).toMatchObject({ status: 400, code: 'invalid_input', field: 'password' });
});

test('fifty parallel claims make exactly one owner', { timeout: HASHING_MS }, async () => {
  const claims = Array.from({ length: 50 }, (_, i) =>
    world.ask('POST', '/api/v1/setup', {
      body: { ...owner, email: `o${i}@example.org`, token: SETUP_TOKEN },
    }),
  );
  const answers = await Promise.all(claims);
  const made = answers.filter((answer) => answer.status === 201);
  expect(made).toHaveLength(1);
  for (const answer of answers.filter((other) => other.status !== 201)) {
    expect(['token_used', 'unavailable', 'conflict']).toContain(answer.body['code']);
  }
  expect(await world.sql('SELECT count(*)::int AS n FROM account')).toEqual([{ n: 1 }]);
  expect(await world.sql(`SELECT role FROM member`)).toEqual([{ role: 'owner' }]);
  expect((await world.ask('GET', '/api/v1/setup')).body).toEqual({ needed: false });
  // The one who made it is signed in as the owner of the platform.
  const me = await world.ask('GET', '/api/v1/auth/me', { as: String(made[0]?.body['accessToken']) });
  expect(me.body).toMatchObject({ role: 'owner', tenant: { tenantId: world.platform, platform: true } });
});

test('a second use of the link is told apart, and a new link does nothing once there is an owner', async () => {
  const again = await world.ask('POST', '/api/v1/setup', { body: { ...owner, token: SETUP_TOKEN } });
  expect(again.body).toMatchObject({ status: 409, code: 'token_used' });
  expect(await world.sql('SELECT count(*)::int AS n FROM setup_link WHERE used_at IS NOT NULL')).toEqual([
    { n: 1 },
  ]);
});

test('the database holds no usable secret', async () => {
  const [row] = await world.sql<{ text: string }>(
    `SELECT string_agg(s::text, ' ') AS text FROM setup_link s`,
  );
  expect(row?.text).not.toContain(SETUP_TOKEN);
  const [account] = await world.sql<{ hash: string }>(`SELECT password_hash AS hash FROM account`);
  expect(account?.hash).toMatch(/^\$argon2id\$v=19\$/);
  for (const parameter of ['m=65536', 't=3', 'p=2']) expect(account?.hash).toContain(parameter);
});
