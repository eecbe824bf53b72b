// Rate limits: exact over any number of processes that share a Redis, told in every answer, and with a stated behaviour
// while Redis is away. Real Redis, real processes.
import fc from 'fast-check';
import { testRedis, type TestRedis } from '@penstock/testkit/redis';
import { FakeClock } from '@penstock/domain/clock';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { takeTokens } from '../src/limits/gcra.js';
import { Limiter } from '../src/limits/limiter.js';
import { limits, type Limit } from '../src/limits/limits.js';
import { LocalBuckets } from '../src/limits/local-buckets.js';
import { networkOf, siteOf } from '../src/limits/networks.js';
import { startProcesses, type ApiProcess } from './processes.js';
import { createWorld, type Person, type World } from './world.js';

const limit = (burst: number, refillMs: number): Limit => ({ burst, refillMs, leaseMax: 1, away: 'full' });

describe('a bucket', () => {
  test('never gives more than its burst and what came back, whoever asks when [R2-14]', () => {
    const steps = fc.array(fc.record({ afterMs: fc.nat(5_000), wanted: fc.integer({ min: 1, max: 50 }) }));
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 100 }),
        fc.integer({ min: 1, max: 1_000 }),
        steps,
        (burst, refillMs, all) => {
          let [nowMs, given] = [1_000_000, 0];
          const startMs = nowMs;
          let fullAtMs: number | undefined;
          for (const { afterMs, wanted } of all) {
            nowMs += afterMs;
            const taken = takeTokens(limit(burst, refillMs), fullAtMs, nowMs, wanted);
            fullAtMs = taken.fullAtMs;
            given += taken.granted;
            expect(given).toBeLessThanOrEqual(burst + (nowMs - startMs) / refillMs + 1e-6);
            expect(taken.remaining).toBeLessThanOrEqual(burst);
            // The moment that it names is the moment at which there is one again.
            if (taken.granted === 0) {
              const later = nowMs + taken.retryAfterMs;
              expect(takeTokens(limit(burst, refillMs), fullAtMs, later, 1).granted).toBe(1);
            }
          }
        },
      ),
    );
  });

  test('memory is bounded: the key untouched longest is forgotten', () => {
    const buckets = new LocalBuckets(new FakeClock());
    const narrow = limit(1, 1_000_000);
    expect(buckets.take('first', narrow, 1).granted).toBe(1);
    expect(buckets.take('first', narrow, 1).granted).toBe(0);
    for (let i = 0; i < 25_000; i++) buckets.take(`key ${i}`, narrow, 1);
    expect(buckets.take('first', narrow, 1).granted).toBe(1);
  });

  test('an IPv6 customer is one network however many addresses he has, and one site', () => {
    expect(networkOf('192.0.2.1')).toBe('192.0.2.1');
    expect(networkOf('2001:db8:1:2::1')).toBe(networkOf('2001:db8:1:2:ffff:ffff:ffff:ffff'));
    expect(networkOf('2001:db8:1:2::1')).not.toBe(networkOf('2001:db8:1:3::1'));
    expect(siteOf('2001:db8:1:2::1')).toBe(siteOf('2001:db8:1:ffff::1'));
    expect(siteOf('2001:db8:2::')).not.toBe(siteOf('2001:db8:1::'));
    expect([siteOf('192.0.2.1'), siteOf(null), networkOf(null)]).toEqual([null, null, '']);
    expect(networkOf('::1')).toBe('0:0:0:0::/64');
  });
});

describe('over one Redis', () => {
  let redis: TestRedis;
  let world: World;
  let processes: ApiProcess[] = [];

  beforeAll(async () => {
    redis = await testRedis();
    world = await createWorld({ env: { REDIS_URL: redis.url } });
  });
  afterEach(async () => {
    await Promise.all(processes.map((one) => one.stop()));
    processes = [];
  });
  afterAll(async () => {
    await world.close();
    await redis.close();
  });

  /** Statuses of `count` requests, `at` at a time, spread over all processes. */
  async function flood(count: number, at: number, send: (i: number) => Promise<Response>): Promise<number[]> {
    const statuses: number[] = [];
    let next = 0;
    await Promise.all(
      Array.from({ length: at }, async () => {
        for (let i = next++; i < count; i = next++) {
          const answer = await send(i);
          await answer.arrayBuffer();
          statuses.push(answer.status);
        }
      }),
    );
    return statuses;
  }
  const url = (i: number): string => processes[i % processes.length]?.url ?? '';

  test('four processes together let through what one would: the tenant’s limit, less at most a lease each [R2-14]', async () => {
    const PER_MINUTE = 600;
    const person: Person = await world.person(await world.tenant(), 'operator');
    await world.sql('UPDATE tenant SET limit_api_per_minute = $2 WHERE tenant_id = $1', [
      ...[person.tenantId, PER_MINUTE],
    ]);
    processes = await startProcesses(world, 4, { REDIS_URL: redis.url, RATE_LIMIT_FACTOR: '1000' });
    const startMs = performance.now();
    const statuses = await flood(3_000, 32, (i) =>
      fetch(`${url(i)}/api/v1/plans`, { headers: { authorization: `Bearer ${person.token}` } }),
    );
    const seconds = (performance.now() - startMs) / 1_000;
    const passed = statuses.filter((status) => status === 200).length;
    expect(new Set(statuses)).toEqual(new Set([200, 429]));
    const refilled = (seconds * PER_MINUTE) / 60;
    const lease = 6;
    process.stdout.write(
      `limit ${PER_MINUTE}: ${passed} of 3000 passed 4 processes in ${seconds.toFixed(1)} s\n`,
    );
    expect(passed).toBeLessThanOrEqual(PER_MINUTE + refilled + 1);
    expect(passed).toBeGreaterThanOrEqual(PER_MINUTE - 4 * lease);
  });

  test('1,000 sign-ins from one address over four processes: 60 and what came back get to a password [R2-14]', async () => {
    processes = await startProcesses(world, 4, { REDIS_URL: redis.url, RATE_LIMIT_FACTOR: '1000' });
    const startMs = performance.now();
    const statuses = await flood(1_000, 64, (i) =>
      fetch(`${url(i)}/api/v1/auth/sign-in`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ email: `nobody${i}@example.org`, password: 'not the password' }),
      }),
    );
    const seconds = (performance.now() - startMs) / 1_000;
    const tried = statuses.filter((status) => status !== 429).length;
    expect(new Set(statuses).isSubsetOf(new Set([401, 429, 503]))).toBe(true);
    expect(tried).toBeGreaterThanOrEqual(limits.sign_in.burst);
    expect(tried).toBeLessThanOrEqual(limits.sign_in.burst + Math.ceil(seconds) + 1);
  });

  test('keys of Redis end by themselves, and hold no address in the clear of a name', async () => {
    const names = await redis.ask('KEYS pst:gate:*');
    expect(names).not.toContain('example.org');
    const keys = (await redis.ask('KEYS *')).split('\r\n').filter((line) => line.startsWith('pst:'));
    expect(keys.length).toBeGreaterThan(0);
    for (const key of keys.slice(0, 50)) {
      const left = Number((await redis.ask(`PTTL ${key}`)).slice(1));
      expect(left, key).not.toBe(-1);
    }
  });

  test('what stands in Redis is not believed: garbage is a full bucket, a far future an empty one', async () => {
    const limiter = world.app.get(Limiter);
    const own = { ...limit(10, 60_000), leaseMax: 1 };
    await redis.ask('SET pst:limit:{t:garbage} not-a-number');
    expect(await limiter.take('t', 'garbage', own)).toMatchObject({ granted: true, remaining: 9 });
    await redis.ask('SET pst:limit:{t:nan} nan');
    expect(await limiter.take('t', 'nan', own)).toMatchObject({ granted: true });
    await redis.ask('SET pst:limit:{t:far} 9999999999999999999999');
    const far = await limiter.take('t', 'far', own);
    expect(far.granted).toBe(false);
    expect(far.retryAfterMs).toBeLessThanOrEqual(60_000);
    await redis.ask('LPUSH pst:limit:{t:list} x');
    expect(await limiter.take('t', 'list', own)).toMatchObject({ granted: true, remaining: 9, alone: false });
  });
});

describe('Redis away', () => {
  let redis: TestRedis;
  let world: World;
  let person: Person;

  beforeAll(async () => {
    redis = await testRedis();
    world = await createWorld({ env: { REDIS_URL: redis.url } });
    person = await world.person(await world.tenant(), 'owner');
  });
  afterAll(async () => {
    await world.close();
    await redis.close();
  });

  const read = async (): Promise<number> => (await world.ask('GET', '/api/v1/plans', { as: person })).status;

  test('reads and changes go on, also while it hangs: one wait a second and not one each', async () => {
    const limiter = world.app.get(Limiter);
    const shared = async (): Promise<boolean> => !(await limiter.take('t', 'probe', limits.setup)).alone;
    await until(shared);
    redis.freeze();
    const startMs = performance.now();
    expect(await Promise.all(Array.from({ length: 20 }, read))).toEqual(Array(20).fill(200));
    const first = performance.now() - startMs;
    expect(first).toBeLessThan(1_500);
    expect(await shared()).toBe(false);
    const made = await world.ask('POST', '/api/v1/node-groups', { as: person, body: { name: 'meanwhile' } });
    expect(made.status).toBe(201);
    redis.thaw();
    await until(shared);
    await redis.kill();
    expect(await read()).toBe(200);
    expect(await shared()).toBe(false);
    await redis.start();
    await until(shared);
  });

  test('guessing goes on at a quarter of its rate in each process, then 503 and not more guesses', async () => {
    await redis.kill();
    const limiter = world.app.get(Limiter);
    const outcomes: string[] = [];
    for (let i = 0; i < 40; i++) {
      outcomes.push(
        await limiter.takeGuess('sign_in', '198.51.100.7').then(
          () => 'in',
          (error: { code: string }) => error.code,
        ),
      );
    }
    expect(outcomes.filter((one) => one === 'in').length).toBe(limits.sign_in.burst / 4);
    expect(new Set(outcomes.slice(limits.sign_in.burst / 4))).toEqual(new Set(['unavailable']));
  });
});

describe('in every answer', () => {
  test('how the tightest limit stands; 429 says when to come back', async () => {
    const world = await createWorld({ env: { RATE_LIMIT_FACTOR: '1' } });
    try {
      const person = await world.person(await world.tenant(), 'auditor');
      await world.sql('UPDATE tenant SET limit_api_per_minute = 3 WHERE tenant_id = $1', [person.tenantId]);
      const answers = [];
      for (let i = 0; i < 4; i++) answers.push(await world.ask('GET', '/api/v1/plans', { as: person }));
      const told = answers.map(({ status, headers }) => [status, headers.get('ratelimit-remaining')]);
      expect(told).toEqual([
        [200, '2'],
        [200, '1'],
        [200, '0'],
        [429, '0'],
      ]);
      const [first] = answers;
      expect(first?.headers.get('ratelimit-limit')).toBe('3');
      expect(first?.headers.get('ratelimit-policy')).toBe('3;w=60');
      expect(Number(answers[3]?.headers.get('retry-after'))).toBeGreaterThan(0);
      expect(Number(answers[3]?.headers.get('retry-after'))).toBeLessThanOrEqual(20);
      expect(answers[3]?.body).toMatchObject({ code: 'rate_limited' });
      const nobody = await world.ask('GET', '/nothing');
      expect(nobody.headers.get('ratelimit-limit')).toBe(String(limits.address.burst));
      // Another tenant is not slowed by this one.
      const other = await world.person(await world.tenant(), 'auditor');
      expect((await world.ask('GET', '/api/v1/plans', { as: other })).status).toBe(200);
    } finally {
      await world.close();
    }
  });
});

async function until(look: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 15_000;
  while (!(await look())) {
    if (performance.now() > deadline) throw new Error('it did not come');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
