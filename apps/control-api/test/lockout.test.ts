// Lock-out that slows who guesses and cannot be turned against who is guessed at. In this process and over Redis.
import { testRedis, type TestRedis } from '@penstock/testkit/redis';
import { FakeClock } from '@penstock/domain/clock';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { delayMs, FREE_TRIES, SLOW_MAX_MS } from '../src/limits/backoff.js';
import { GateMemory } from '../src/limits/gate-memory.js';
import { gateScript } from '../src/limits/gate.lua.js';
import { RedisLink } from '../src/redis.js';
import { withPassword, type Login } from './sign-in.js';
import { createWorld, type Answer, type World } from './world.js';

const TRIES = 10_000;
/** Of them, at one time: each is to be answered before it counts as lost. */
const AT_ONCE = 100;

const from = (ip: string): Record<string, string> => ({ 'x-forwarded-for': ip });
const signIn = (world: World, email: string, password: string, ip: string): Promise<Answer> =>
  world.ask('POST', '/api/v1/auth/sign-in', { body: { email, password }, headers: from(ip) });

test('the wait doubles from a second to fifteen minutes, after a few that are free', () => {
  const waits = Array.from({ length: 20 }, (_, i) => delayMs(i));
  expect(waits.slice(0, FREE_TRIES + 1)).toEqual(Array(FREE_TRIES + 1).fill(0));
  expect(waits.slice(FREE_TRIES + 1, FREE_TRIES + 5)).toEqual([1_000, 2_000, 4_000, 8_000]);
  expect(delayMs(1_000_000)).toBe(900_000);
});

describe('in one process', async () => {
  const clock = new FakeClock();
  const world = await createWorld({ clock, env: { TRUSTED_PROXIES: '127.0.0.0/8' } });
  const victim: Login = await withPassword(world, await world.tenant(), 'owner');
  const memory = world.app.get(GateMemory);
  afterAll(() => world.close());

  test('one who tries every second for hours gets few tries, and waits no longer for asking too soon [R2-15]', async () => {
    const pair = { name: 'hammered', network: '203.0.113.1' };
    let tries = 0;
    for (let i = 0; i < TRIES; i++) {
      clock.advance(1_000);
      if ((await memory.enter(pair)) > 0) continue;
      tries++;
      await memory.failed(pair);
    }
    expect(tries).toBeLessThan(30);
    expect(await memory.enter(pair)).toBeLessThanOrEqual(900_000);
  });

  test('10,000 failures from everywhere: the person is in within 30 s from his own address [R2-15]', async () => {
    // The gate knows a name by its keyed hash; the guesses go through the door.
    for (let i = 0; i < 3; i++) {
      expect((await signIn(world, victim.email, 'wrong', '203.0.113.9')).status).toBe(401);
    }
    const name = [...memory.knownNames()].at(-1) ?? '';
    for (let i = 0; i < TRIES; i++) {
      const pair = { name, network: `2001:db8:${(i >> 8).toString(16)}:${(i & 255).toString(16)}::/64` };
      await memory.enter(pair);
      await memory.failed(pair);
    }
    const first = await signIn(world, victim.email, victim.password, '192.0.2.77');
    expect(first.body).toMatchObject({ status: 429, code: 'rate_limited' });
    const waitS = Number(first.headers.get('retry-after'));
    expect(waitS * 1_000).toBeLessThanOrEqual(SLOW_MAX_MS);
    // Asking again meanwhile does not lengthen it.
    clock.advance(1_000);
    expect((await signIn(world, victim.email, victim.password, '192.0.2.77')).status).toBe(429);
    clock.advance(waitS * 1_000 - 1_000);
    expect((await signIn(world, victim.email, victim.password, '192.0.2.77')).status).toBe(200);
  });

  test('success resets that pair alone; a name that does not exist is treated alike [R2-15]', async () => {
    clock.advance(3_600_000);
    const invented = 'nobody@example.org';
    const seen: unknown[][] = [[], []];
    for (let i = 0; i < FREE_TRIES + 3; i++) {
      for (const [at, email] of [victim.email, invented].entries()) {
        const answer = await signIn(world, email, 'wrong', '198.51.100.5');
        seen[at]?.push([answer.status, answer.body['code'], answer.headers.get('retry-after')]);
      }
    }
    expect(seen[0]).toEqual(seen[1]);
    expect(seen[0]?.at(-1)).toEqual([429, 'rate_limited', '1']);
    // He is in from elsewhere, at once; the guesser's wait stands.
    expect((await signIn(world, victim.email, victim.password, '198.51.100.6')).status).toBe(200);
    expect((await signIn(world, victim.email, victim.password, '198.51.100.5')).status).toBe(429);
    clock.advance(1_001);
    expect((await signIn(world, victim.email, victim.password, '198.51.100.5')).status).toBe(200);
    expect((await signIn(world, victim.email, 'wrong', '198.51.100.5')).status).toBe(401);
  });
});

describe('over Redis', () => {
  let redis: TestRedis;
  let world: World;
  let memory: GateMemory;

  beforeAll(async () => {
    redis = await testRedis();
    world = await createWorld({ env: { REDIS_URL: redis.url, TRUSTED_PROXIES: '127.0.0.0/8' } });
    memory = world.app.get(GateMemory);
  });
  afterAll(async () => {
    await world.close();
    await redis.close();
  });
  // A busy machine may let a command take too long; then this process decides alone for a second.
  const answers = (): Promise<unknown> =>
    world.app.get(RedisLink).run(gateScript, ['pst:gate:{ready}:x', 'pst:gate:{ready}'], ['succeeded']);
  beforeEach(() => expect.poll(answers, { timeout: 20_000 }).toBe(0));

  test('the same rules: free tries, doubling waits, one short wait under attack, a pair’s own reset [R2-15]', async () => {
    const pair = { name: 'n1', network: '203.0.113.1' };
    for (let i = 0; i < FREE_TRIES; i++) expect(await memory.enter(pair)).toBe(0);
    expect(await memory.enter(pair)).toBe(0);
    const wait = await memory.enter(pair);
    expect(wait).toBeGreaterThan(500);
    expect(wait).toBeLessThanOrEqual(1_000);
    await memory.undecided(pair);
    expect(await memory.enter(pair)).toBe(0);
    await memory.succeeded(pair);
    expect(await memory.enter(pair)).toBe(0);
    expect(await memory.enter({ ...pair, network: '203.0.113.2' })).toBe(0);
    // Nothing of it stands in this process.
    expect([...memory.knownNames()]).toEqual([]);
  });

  test('10,000 failures from everywhere: a new network waits 30 s at most, once [R2-15]', async () => {
    for (let sent = 0; sent < TRIES; sent += AT_ONCE) {
      await Promise.all(Array.from({ length: AT_ONCE }, () => memory.failed({ name: 'n2', network: 'any' })));
    }
    // One that was answered too late is counted in this process; the rest is in Redis, and is what decides.
    await expect.poll(answers, { timeout: 20_000 }).toBe(0);
    expect(Number((await redis.ask('GET pst:gate:{n2}')).split('\r\n')[1])).toBeGreaterThan(TRIES / 4);
    const own = { name: 'n2', network: '192.0.2.77' };
    const wait = await memory.enter(own);
    expect(wait).toBeGreaterThan(0);
    expect(wait).toBeLessThanOrEqual(SLOW_MAX_MS);
    expect(await memory.enter(own)).toBeLessThanOrEqual(wait);
    // The wait is over when it is over, however many fail elsewhere meanwhile.
    await redis.ask(`SET pst:gate:{n2}:192.0.2.77 0:1 PX 100000`);
    await memory.failed({ name: 'n2', network: 'any' });
    expect(await memory.enter(own)).toBe(0);
  });

  test('what cannot be a pair is none, and Redis away means this process remembers', async () => {
    const pair = { name: 'n3', network: 'x' };
    await redis.ask('SET pst:gate:{n3}:x garbage');
    expect(await memory.enter(pair)).toBe(0);
    await redis.ask('SET pst:gate:{n3}:x 7:99999999999999999999');
    expect(await memory.enter(pair)).toBeLessThanOrEqual(900_000);
    await redis.kill();
    try {
      const alone = { name: 'n4', network: 'x' };
      for (let i = 0; i <= FREE_TRIES; i++) expect(await memory.enter(alone)).toBe(0);
      expect(await memory.enter(alone)).toBeGreaterThan(0);
    } finally {
      await redis.start();
    }
  });
});
