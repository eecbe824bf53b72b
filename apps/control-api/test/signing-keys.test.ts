import { afterAll, beforeAll, expect, test } from 'vitest';
import { createLocalJWKSet, decodeProtectedHeader, jwtVerify, type JSONWebKeySet } from 'jose';
import { FakeClock } from '@penstock/domain/clock';
import { ACCESS_TOKEN_SECONDS, AccessTokens } from '../src/auth/access-token.js';
import { PUBLISHED_MS, ROTATE_AFTER_MS } from '../src/signing-keys/rotation.js';
import { SigningKeys } from '../src/signing-keys/signing-keys.service.js';
import { createSibling, untilStatus, type Sibling } from './sibling.js';
import { createWorld, type Answer, type Person, type World } from './world.js';

const ROTATIONS = 20;
const plans = '/api/v1/plans';
// Stands still unless moved: what a process keeps for a second it keeps for ever, so only the database can tell it.
const clock = new FakeClock(Date.now());
let world: World;
let sibling: Sibling;
let owner: Person;
let person: Person;

beforeAll(async () => {
  world = await createWorld({ clock });
  sibling = await createSibling(world);
  owner = await world.person(world.platform, 'owner');
  person = await world.person(await world.tenant(), 'operator');
});
afterAll(async () => {
  await sibling.close();
  await world.close();
});

const rotate = (immediate = true, as = owner): Promise<Answer> =>
  world.ask('POST', '/api/v1/signing-keys/rotate', { as, body: { immediate } });
const fresh = ({ accountId, tenantId, familyId }: Person): Promise<string> =>
  world.app.get(AccessTokens).issue(accountId, tenantId, familyId);
const kidOf = (token: string): string => String(decodeProtectedHeader(token).kid);
const jwks = async (): Promise<{ keys: { kid: string }[] }> =>
  (await world.ask('GET', '/.well-known/jwks.json')).body as never;

test('the JWKS verifies our tokens and holds no private half', async () => {
  const answer = await world.ask('GET', '/.well-known/jwks.json');
  expect(answer.status).toBe(200);
  expect(answer.text).not.toContain('"d"');
  expect(answer.headers.get('cache-control')).toBe('public, max-age=300');
  const keys = createLocalJWKSet(answer.body as unknown as JSONWebKeySet);
  const { payload } = await jwtVerify(person.token, keys, { currentDate: new Date(clock.now()) });
  expect(payload.sub).toBe(person.accountId);
  const [row] = await world.sql<{ text: string }>(
    `SELECT string_agg(s::text, ' ') AS text FROM signing_key s`,
  );
  expect(row?.text).not.toContain('"d"');
});

test('409 until the next key has been published for ten minutes; then it signs, and the one after is published', async () => {
  const early = await rotate(false);
  expect(early.status).toBe(409);
  expect(early.body).toMatchObject({ code: 'pending' });
  const before = await jwks();
  clock.advance(PUBLISHED_MS);
  // The tokens of these people are older than their sessions need; the clock moved, not they.
  const moved = await rotate(false);
  expect(moved.status).toBe(200);
  expect(before.keys.map((key) => key.kid)).toContain(moved.body['kid']);
  expect(kidOf(await fresh(person))).toBe(moved.body['kid']);
  expect((await jwks()).keys).toHaveLength(3);
});

test(
  `${ROTATIONS} rotations under load in two processes: no valid request fails [R2-09] [G15]`,
  { timeout: 120_000 },
  async () => {
    person.token = await fresh(person);
    owner.token = await fresh(owner);
    let running = true;
    let asked = 0;
    const tokens = [person.token];
    const failed: number[] = [];
    const load = async (get: (token: string) => Promise<number>): Promise<void> => {
      for (let i = 0; running; i++) {
        const status = await get(tokens[i % tokens.length] as string);
        asked++;
        if (status !== 200) failed.push(status);
      }
    };
    const loads = [
      load(async (token) => (await world.ask('GET', plans, { as: token })).status),
      load((token) => sibling.get(plans, token)),
      load((token) => sibling.get(plans, token)),
    ];
    const signers = new Set<string>();
    for (let i = 0; i < ROTATIONS; i++) {
      const answer = await rotate();
      expect(answer.status).toBe(200);
      // Signed by the key that the other process has never seen sign.
      const token = await fresh(person);
      signers.add(kidOf(token));
      tokens.push(token);
      const seen = asked;
      while (asked < seen + 30) await new Promise((resolve) => setImmediate(resolve));
    }
    running = false;
    await Promise.all(loads);
    expect(failed).toEqual([]);
    expect(asked).toBeGreaterThan(ROTATIONS * 20);
    expect(signers.size).toBe(ROTATIONS);
  },
);

test('rollback signs with the key before; a retired key is refused in both processes within a second [R2-09]', async () => {
  expect((await rotate()).status).toBe(200);
  owner.token = await fresh(owner);
  const { kid: current } = decodeProtectedHeader(await fresh(person));
  const back = await world.ask('POST', '/api/v1/signing-keys/rollback', { as: owner });
  expect(back.status).toBe(200);
  expect(back.body['kid']).not.toBe(current);
  const token = await fresh(person);
  expect(kidOf(token)).toBe(back.body['kid']);
  expect(await sibling.get(plans, token)).toBe(200);
  const retire = (kid: unknown): Promise<Answer> =>
    world.ask('POST', `/api/v1/signing-keys/${String(kid)}/retire`, { as: owner });
  expect((await retire(back.body['kid'])).body).toMatchObject({ code: 'failed_precondition' });
  await rotate();
  owner.token = await fresh(owner);
  expect((await retire(back.body['kid'])).status).toBe(200);
  expect((await world.ask('GET', plans, { as: token })).status).toBe(401);
  expect(await untilStatus(() => sibling.get(plans, token), 401, 1_000)).toBeLessThan(1_000);
  expect((await retire(back.body['kid'])).status).toBe(404);
});

test('on schedule a key of thirty days is replaced, and keys go when their last token has expired', async () => {
  const keys = world.app.get(SigningKeys);
  const before = kidOf(await fresh(person));
  await keys.keepSchedule();
  expect(kidOf(await fresh(person))).toBe(before);
  clock.advance(ROTATE_AFTER_MS);
  await Promise.all([keys.keepSchedule(), sibling.app.get(SigningKeys).keepSchedule()]);
  clock.advance(1_000);
  const after = kidOf(await fresh(person));
  expect(after).not.toBe(before);
  clock.advance((ACCESS_TOKEN_SECONDS + 120) * 1_000);
  await keys.keepSchedule();
  const { items } = (await world.ask('GET', '/api/v1/signing-keys', { as: await fresh(owner) }))
    .body as unknown as { items: { kid: string; state: string }[] };
  expect(items.find((key) => key.kid === before)?.state).toBe('retired');
  expect(items.filter((key) => key.state === 'current').map((key) => key.kid)).toEqual([after]);
  const sealed = await world.sql(
    `SELECT kid FROM signing_key WHERE state = 'retired' AND private_sealed IS NOT NULL`,
  );
  expect(sealed).toEqual([]);
});

test('403: only owners of the platform turn keys', async () => {
  const admin = await world.person(world.platform, 'admin');
  const foreign = await world.person(await world.tenant(), 'owner');
  for (const as of [admin, foreign]) expect((await rotate(true, as)).status).toBe(403);
  const rows = await world.sql<{ action: string }>(
    `SELECT DISTINCT action FROM audit_log WHERE entity = 'signing_key' ORDER BY 1`,
  );
  expect(rows.map((row) => row.action)).toEqual([
    'signing_key.retire',
    'signing_key.rollback',
    'signing_key.rotate',
  ]);
});
