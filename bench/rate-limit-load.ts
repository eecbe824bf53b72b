// Drives the API's limiter in a process of its own; says one JSON line. Started by rate-limit.ts:
// `rate-limit-load.js REDIS_URL MODE COUNT KEYS IN_FLIGHT`.
import { quantile } from './result.js';

interface Verdict {
  granted: boolean;
}
interface Limit {
  burst: number;
  refillMs: number;
  leaseMax: number;
  away: 'full';
}
interface Limiter {
  take(name: string, key: string, limit: Limit): Verdict | Promise<Verdict>;
}
interface Link {
  run(script: object, keys: string[], values: number[]): Promise<unknown>;
  onModuleDestroy(): void;
}

const api = (path: string): string => new URL(`../../apps/control-api/dist/${path}`, import.meta.url).href;
const { RedisLink } = (await import(api('redis.js'))) as { RedisLink: new (context: object) => Link };
const { Limiter } = (await import(api('limits/limiter.js'))) as {
  Limiter: new (context: object, shared: object) => Limiter;
};
const { bucketScript } = (await import(api('limits/bucket.lua.js'))) as { bucketScript: { lua: string } };

const [url = '', mode = '', ...numbers] = process.argv.slice(2);
const [count = 0, keys = 0, inFlight = 0] = numbers.map(Number);

const clock = { now: () => Date.now(), monotonic: () => performance.now() };
const log = { info: () => undefined, warn: () => undefined };
const context = { config: { REDIS_URL: url, RATE_LIMIT_FACTOR: 1 }, clock, log };
const link = new RedisLink(context);
const { SharedBuckets } = (await import(api('limits/shared-buckets.js'))) as {
  SharedBuckets: new (redis: Link) => object;
};
// Connected is when the first step is answered.
for (;;) {
  if ((await link.run(bucketScript, ['pst:limit:{bench:warm}'], [10, 1, 1])) !== null) break;
  await new Promise((resolve) => setTimeout(resolve, 10));
}
if (mode === 'sha') {
  const { createHash } = await import('node:crypto');
  process.stdout.write(createHash('sha1').update(bucketScript.lua).digest('hex'));
  process.exit(0);
}

/** `shared`: each token from Redis. `leased`: as busy keys are in the API. `exact`: one bucket, used up. */
const limits: Record<string, Limit> = {
  shared: { burst: 1_000_000, refillMs: 1, leaseMax: 1, away: 'full' },
  leased: { burst: 100_000_000, refillMs: 0.001, leaseMax: 1_000, away: 'full' },
  exact: { burst: 20_000, refillMs: 3_600_000, leaseMax: 32, away: 'full' },
};
const limit = limits[mode];
if (limit === undefined) throw new RangeError(`there is no mode ${mode}`);
const limiter = new Limiter(context, new SharedBuckets(link));
const names = Array.from({ length: keys }, (_, i) => String(i));
const times: number[] = [];
let next = 0;
let passed = 0;
const startMs = performance.now();
await Promise.all(
  Array.from({ length: inFlight }, async () => {
    for (let i = next++; i < count; i = next++) {
      const key = names[(i * 7919) % keys] ?? '';
      const fromMs = inFlight === 1 ? performance.now() : 0;
      const verdict = limiter.take(mode, key, limit);
      if ((verdict instanceof Promise ? await verdict : verdict).granted) passed++;
      if (inFlight === 1) times.push(performance.now() - fromMs);
    }
  }),
);
const perSecond = (count * 1_000) / (performance.now() - startMs);
link.onModuleDestroy();
process.stdout.write(
  JSON.stringify({ perSecond, passed, p50Ms: quantile(times, 0.5), p99Ms: quantile(times, 0.99) }),
);
