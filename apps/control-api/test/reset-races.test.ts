// A reset against what sessions make that outlasts them, and against keys where the account is no member: whoever held
// something of the account before a reset, holds nothing after.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createPool, type Pool } from '@penstock/db/pool';
import { setUpApp, codeAt } from './authenticator-app.js';
import { SoftwarePasskey } from './authenticator.js';
import { withPassword, type Login } from './sign-in.js';
import { createWorld, type Answer, type Person, type World } from './world.js';

const SITE = 'vpn.example.org';
const ORIGIN = `https://${SITE}`;
const LOOPS = 5;
const MADE_MAX = 150;
const body = { name: 'integration', scopes: ['plan.read'] };
let world: World;
let superuser: Pool;
let platformOwner: Person;

beforeAll(async () => {
  world = await createWorld({ env: { PUBLIC_URL: ORIGIN } });
  superuser = createPool(world.database.superuserUrl, { applicationName: 'reset races' });
  platformOwner = await world.person(world.platform, 'owner');
});
afterAll(async () => {
  await superuser.end();
  await world.close();
});

const post = (path: string, as: string | undefined, given?: object): Promise<Answer> =>
  world.ask('POST', `/api/v1/${path}`, { as, body: given });
const read = async (as: string): Promise<number> => (await world.ask('GET', '/api/v1/plans', { as })).status;

/** The token of a link that the platform made. */
async function resetToken(person: Person): Promise<string> {
  const made = await post(`members/${person.accountId}/password-reset`, platformOwner.token, {});
  expect(made.status, made.text).toBe(201);
  return String(made.body['link']).split('#')[1] ?? '';
}
const reset = (token: string): Promise<Answer> =>
  post('auth/reset', undefined, { token, password: 'set by a link, long enough' });

/** How many of the product's transactions wait for a lock now. */
async function waiting(): Promise<number> {
  const [row] = await world.sql<{ count: number }>(
    `SELECT count(*)::int AS count FROM pg_stat_activity
      WHERE datname = current_database() AND usename = 'penstock_control_api' AND wait_event_type = 'Lock'`,
  );
  return row?.count ?? 0;
}

/** The answer to a request that was let in, and comes to its transaction while `ending` is done but not committed. */
async function besideAnEnd(person: Person, ending: string, ask: () => Promise<Answer>): Promise<Answer> {
  const client = await superuser.connect();
  try {
    await client.query('BEGIN');
    await client.query(`SELECT FROM account WHERE account_id = $1 FOR NO KEY UPDATE`, [person.accountId]);
    let answered = false;
    const answer = ask().finally(() => (answered = true));
    await expect.poll(async () => answered || (await waiting()) > 0, { timeout: 30_000 }).toBe(true);
    await client.query(ending, [person.accountId]);
    await client.query('COMMIT');
    return await answer;
  } finally {
    client.release();
  }
}
const endSessions = `UPDATE session SET revoked_at = now() WHERE account_id = $1`;

test('a reset ends keys and tokens that a platform person made in tenants where he is no member', async () => {
  const person = await withPassword(world, world.platform, 'admin');
  const customers = [await world.tenant('first customer'), await world.tenant('second customer')];
  const secrets: string[] = [];
  for (const tenantId of customers) {
    const switched = await post('auth/switch', person.token, { tenantId });
    expect(switched.status, switched.text).toBe(200);
    const as = String(switched.body['accessToken']);
    secrets.push(String((await post('api-keys', as, body)).body['key']));
    secrets.push(String((await post('machine-tokens', as, body)).body['token']));
  }
  expect(await Promise.all(secrets.map(read))).toEqual([200, 200, 200, 200]);
  expect((await reset(await resetToken(person))).status).toBe(204);
  expect(await Promise.all(secrets.map(read))).toEqual([401, 401, 401, 401]);
  const rows = await world.sql<{ tenant: string; after: object }>(
    `SELECT tenant_id AS tenant, after FROM audit_log WHERE action = 'password.reset' AND entity_id = $1`,
    [person.accountId],
  );
  const there = { apiKeysRevoked: 1, machineTokensRevoked: 1 };
  const whole = { sessionsEnded: 1, secondFactorRemoved: false, apiKeysRevoked: 2, machineTokensRevoked: 2 };
  expect(new Map(rows.map(({ tenant, after }) => [tenant, after]))).toEqual(
    new Map<string, object>([[world.platform, whole], ...customers.map((id) => [id, there] as const)]),
  );
  expect(rows).toHaveLength(3);
});

test.each([
  ['api-keys', 'key'],
  ['machine-tokens', 'token'],
])(
  'what five loops made at /%s with the old session while a reset was used is dead after it',
  async (path, field) => {
    const person = await withPassword(world, await world.tenant(), 'admin');
    const token = await resetToken(person);
    const made: string[] = [];
    const refused: number[] = [];
    const loop = async (): Promise<void> => {
      while (made.length < MADE_MAX) {
        const answer = await post(path, person.token, body);
        if (answer.status !== 201) {
          refused.push(answer.status);
          return;
        }
        made.push(String(answer.body[field]));
      }
    };
    const client = await superuser.connect();
    await client.query('BEGIN');
    await client.query(`SELECT FROM one_time_link WHERE account_id = $1 FOR UPDATE`, [person.accountId]);
    const used = reset(token);
    // Its costly hash is done, and it waits to use the link up.
    await expect.poll(waiting, { timeout: 30_000 }).toBe(1);
    const loops = Array.from({ length: LOOPS }, loop);
    await expect.poll(() => made.length, { timeout: 30_000, interval: 5 }).toBeGreaterThan(LOOPS);
    await client.query('COMMIT');
    client.release();
    expect((await used).status).toBe(204);
    await Promise.all(loops);
    expect(refused).toEqual(Array.from({ length: LOOPS }, () => 401));
    const living = await world.sql(
      `SELECT key_id FROM api_key WHERE account_id = $1 AND revoked_at IS NULL
     UNION ALL SELECT key_id FROM machine_token WHERE account_id = $1 AND revoked_at IS NULL`,
      [person.accountId],
    );
    expect(living).toEqual([]);
    const statuses: number[] = [];
    for (const secret of made) statuses.push(await read(secret));
    expect(new Set(statuses)).toEqual(new Set([401]));
  },
);

test.each<[string, (person: Login) => Promise<() => Promise<Answer>>]>([
  [
    'an API key',
    async ({ token }) =>
      () =>
        post('api-keys', token, body),
  ],
  [
    'a machine token',
    async ({ token }) =>
      () =>
        post('machine-tokens', token, body),
  ],
  [
    'a passkey',
    async ({ token, password }) => {
      const options = await post('me/passkeys/options', token, { password });
      const credential = new SoftwarePasskey(ORIGIN, SITE).create(options.body);
      return () => post('me/passkeys', token, { name: 'Phone', credential });
    },
  ],
  [
    'an authenticator app',
    async ({ token, password }) => {
      const begun = await post('me/totp', token, { password });
      const code = codeAt(String(begun.body['secret']), world.context.clock.now());
      return () => post('me/totp/confirm', token, { code });
    },
  ],
  [
    'new recovery codes',
    async ({ token, password }) => {
      const { recoveryCodes } = await setUpApp(world, token, password);
      return () => post('me/totp/recovery-codes', token, { password, recoveryCode: recoveryCodes[0] });
    },
  ],
])('401: %s, asked for by a session that ends before it is written', async (_what, prepare) => {
  const person = await withPassword(world, await world.tenant(), 'admin');
  const ask = await prepare(person);
  const answer = await besideAnEnd(person, endSessions, ask);
  expect(answer.body).toMatchObject({ status: 401, code: 'unauthenticated' });
  const [left] = await world.sql<{ count: number }>(
    `SELECT (SELECT count(*) FROM api_key WHERE account_id = $1)::int
          + (SELECT count(*) FROM machine_token WHERE account_id = $1)::int
          + (SELECT count(*) FROM passkey WHERE account_id = $1)::int AS count`,
    [person.accountId],
  );
  expect(left).toEqual({ count: 0 });
});

test('401: a token narrowed from one that is revoked with all of its account before it is written', async () => {
  const person = await withPassword(world, await world.tenant(), 'admin');
  const { token } = (await post('machine-tokens', person.token, body)).body;
  const ending = `UPDATE machine_token SET revoked_at = now() WHERE account_id = $1`;
  const answer = await besideAnEnd(person, ending, () =>
    post('machine-tokens/attenuate', undefined, { token, scopes: ['plan.read'] }),
  );
  expect(answer.body).toMatchObject({ status: 401, code: 'unauthenticated' });
});
