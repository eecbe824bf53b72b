// What a rate limit costs a request (B15). The anchor is the same script driven by redis-benchmark, pipelined: what this
// Redis can do at all. Ours is the API's own limiter: each token from Redis, over 10,000 keys, with as many checks open
// as the anchor has (50 connections, 16 deep). Beside it: the same with 50 open, the time one check adds, checks a
// second with leases, and how far four processes' sum is from the limit.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { text } from 'node:stream/consumers';
import { testRedis, type TestRedis } from '@penstock/testkit/redis';
import { median, round, spread, type Bench } from './result.js';

const KEYS = 10_000;
const CONNECTIONS = 50;
const PIPELINE = 16;
const CHECKS = 100_000;
const LEASED_CHECKS = 2_000_000;
const SINGLE_CHECKS = 5_000;
const PROCESSES = 4;
const RATIO_MIN = 0.9;
const ADDED_P50_MAX_MS = 0.15;
const ADDED_P99_MAX_MS = 1;
const LEASED_MIN_PER_S = 500_000;

const load = fileURLToPath(new URL('rate-limit-load.js', import.meta.url));

/** What one run of rate-limit-load.js tells. */
interface Load {
  perSecond: number;
  passed: number;
  p50Ms: number;
  p99Ms: number;
}

export const bench: Bench = async ({ rounds, count = CHECKS, say }) => {
  const redis = await testRedis();
  const [ours, anchors, ratios, fewRatios, leased, p50s, p99s]: number[][] = [[], [], [], [], [], [], []];
  try {
    const sha = await scriptOf(redis);
    for (let i = 0; i < rounds; i++) {
      const anchor = await redisBenchmark(redis, sha, count);
      const shared = await run(redis, 'shared', count, KEYS, CONNECTIONS * PIPELINE);
      const few = await run(redis, 'shared', count, KEYS, CONNECTIONS);
      const single = await run(redis, 'shared', SINGLE_CHECKS, KEYS, 1);
      const withLeases = await run(redis, 'leased', LEASED_CHECKS, KEYS / 100, CONNECTIONS);
      anchors?.push(anchor);
      ours?.push(shared.perSecond);
      ratios?.push(shared.perSecond / anchor);
      fewRatios?.push(few.perSecond / anchor);
      leased?.push(withLeases.perSecond);
      p50s?.push(single.p50Ms);
      p99s?.push(single.p99Ms);
      say(
        `round ${i + 1}: redis-benchmark ${Math.round(anchor)}/s, each from Redis ${Math.round(shared.perSecond)}/s, ` +
          `leased ${Math.round(withLeases.perSecond)}/s, one check ${single.p50Ms.toFixed(3)} / ${single.p99Ms.toFixed(3)} ms`,
      );
    }
    const error = await limitError(redis);
    say(`limit of ${error.limit}: ${error.passed} passed ${PROCESSES} processes, a lease is ${error.lease}`);
    const ratio = median(ratios ?? []);
    const good =
      ratio >= RATIO_MIN &&
      median(leased ?? []) >= LEASED_MIN_PER_S &&
      median(p50s ?? []) <= ADDED_P50_MAX_MS &&
      median(p99s ?? []) <= ADDED_P99_MAX_MS &&
      error.passed <= error.limit &&
      error.passed >= error.limit - error.lease * PROCESSES;
    return {
      ...{ name: 'rate-limit', unit: 'checks/s', good },
      ...{
        value: Math.round(median(ours ?? [])),
        anchor: Math.round(median(anchors ?? [])),
        ratio: round(ratio),
      },
      rounds: spread(ours ?? []),
      also: {
        'ratio with 50 open checks': round(median(fewRatios ?? [])),
        'leased checks/s': Math.round(median(leased ?? [])),
        'added p50 ms': round(median(p50s ?? [])),
        'added p99 ms': round(median(p99s ?? [])),
        [`passed of ${error.limit} in ${PROCESSES} processes`]: error.passed,
        'largest lease': error.lease,
        'ratio spread': spread(ratios ?? []).join(' / '),
      },
    };
  } finally {
    await redis.close();
  }
};

/** Four processes at once against one bucket that does not refill while we look. */
async function limitError(redis: TestRedis): Promise<{ limit: number; passed: number; lease: number }> {
  const limit = 20_000;
  const results = await Promise.all(
    Array.from({ length: PROCESSES }, () => run(redis, 'exact', limit, 1, CONNECTIONS)),
  );
  const passed = results.reduce((sum, each) => sum + each.passed, 0);
  return { limit, passed, lease: 32 };
}

async function run(
  redis: TestRedis,
  mode: string,
  count: number,
  keys: number,
  inFlight: number,
): Promise<Load> {
  const args = [load, redis.url, mode, String(count), String(keys), String(inFlight)];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const [said, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')]);
  if (code !== 0) throw new Error(`the load ended with ${String(code)}`);
  return JSON.parse(said) as Load;
}

async function scriptOf(redis: TestRedis): Promise<string> {
  const args = [load, redis.url, 'sha', '0', '0', '0'];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  return (await text(child.stdout)).trim();
}

/** Checks a second that the server does for a client that only sends them. */
async function redisBenchmark(redis: TestRedis, sha: string, count: number): Promise<number> {
  const child = spawn(
    'redis-benchmark',
    [
      ...[
        '-p',
        String(redis.port),
        '-c',
        String(CONNECTIONS),
        '-P',
        String(PIPELINE),
        '-n',
        String(count),
        '-r',
        String(KEYS),
      ],
      ...['--csv', 'EVALSHA', sha, '1', 'pst:limit:{bench:__rand_int__}', '1000000', '1000', '1'],
    ],
    { stdio: ['ignore', 'pipe', 'ignore'] },
  );
  const said = await text(child.stdout);
  const perSecond = Number(/,"?([\d.]+)"?,/.exec(said.trim().split('\n').at(-1) ?? '')?.[1]);
  if (!(perSecond > 0)) throw new Error(`redis-benchmark said: ${said}`);
  return perSecond;
}
