// V43: what a stranger starts costs no memory that stays. 100,000 sign-ins from as many addresses with as many names,
// against the built process. With a Redis as many in a full run, a fifth otherwise: nothing of it stays in the process.
// V8 grows its heap by more than 50 MB before it collects (255 to 379 MB over 200,000 starts, then 228), so it is asked
// to collect first. Passwords keep both cores at hashing, so they come in blocks: a tenth of all, in a full run three quarters.
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { testRedis } from '@penstock/testkit/redis';
import { afterAll, describe, expect, test } from 'vitest';
import { startProcesses, type ApiProcess } from '../../apps/control-api/test/processes.js';
import { createWorld } from '../../apps/control-api/test/world.js';

const FULL = process.env['PENSTOCK_TEST_FULL'] === '1';
const STARTS = 100_000;
const STARTS_WITH_REDIS = FULL ? STARTS : 20_000;
/** So many that the heap has the size it keeps under load. */
const WARM_UP = 10_000;
const AT_ONCE = 48;
const GROWTH_MAX_MB = 50;

const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE });

/** One start of a sign-in from an address and with a name of its own; the status. */
function start(api: ApiProcess, i: number): Promise<number> {
  const body = JSON.stringify({ email: `stranger${i}@example.org`, password: 'x'.repeat(20) });
  const ip = `${(i >> 16) + 20}.${(i >> 8) & 255}.${i & 255}.${(i * 7) & 255}`;
  // Passkeys keep a challenge, passwords a wait: both kinds of memory.
  const byPasskey = FULL ? i % 4 === 0 : i % 10_000 >= 1_000;
  const path = byPasskey ? '/api/v1/auth/passkey/options' : '/api/v1/auth/sign-in';
  const sentBody = byPasskey ? '{}' : body;
  return new Promise((resolve, reject) => {
    const sent = request(`${api.url}${path}`, {
      ...{ method: 'POST', agent },
      headers: {
        'content-type': 'application/json',
        'x-forwarded-for': ip,
        'content-length': Buffer.byteLength(sentBody),
      },
    });
    sent.once('error', reject);
    sent.once('response', (answer) => {
      answer.resume();
      answer.once('end', () => resolve(answer.statusCode ?? 0));
    });
    sent.end(sentBody);
  });
}

async function flood(api: ApiProcess, from: number, to: number): Promise<Map<number, number>> {
  const statuses = new Map<number, number>();
  let next = from;
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let i = next++; i < to; i = next++) {
        const status = await start(api, i);
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
      }
    }),
  );
  return statuses;
}

const rssMb = (pid: number): number =>
  Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;

/** Has the process collect its garbage, as a debugger would ask it to: what is left is what stays. */
async function collectGarbage(api: ApiProcess): Promise<void> {
  const address = /ws:\/\/\S+/.exec(api.output())?.[0];
  if (address === undefined) throw new Error('the process has no inspector');
  const socket = new WebSocket(address);
  const next = (event: 'open' | 'message'): Promise<unknown> =>
    new Promise((resolve, reject) => {
      socket.addEventListener(event, resolve, { once: true });
      socket.addEventListener('error', () => reject(new Error('the inspector is away')), { once: true });
    });
  await next('open');
  const answered = next('message');
  socket.send(JSON.stringify({ id: 1, method: 'HeapProfiler.collectGarbage' }));
  await answered;
  socket.close();
}

/** The least of what is seen within a while: hashes in flight hold 64 MiB each and are given back. */
async function settledMb(api: ApiProcess): Promise<number> {
  const { pid } = api;
  let least = Infinity;
  await collectGarbage(api);
  for (let i = 0; i < 60; i++) {
    least = Math.min(least, rssMb(pid));
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return least;
}

describe('V43 memory of strangers', async () => {
  const world = await createWorld();
  const redis = await testRedis();
  afterAll(async () => {
    agent.destroy();
    await redis.close();
    await world.close();
  });

  test.each([
    ['without Redis', STARTS, {}],
    ['with Redis', STARTS_WITH_REDIS, { REDIS_URL: redis.url }],
  ])(
    '%s: %i unauthenticated starts grow the process by less than 50 MB',
    { timeout: 280_000 },
    async (name, starts, env) => {
      const [api] = (await startProcesses(world, 1, {
        ...{ TRUSTED_PROXIES: '127.0.0.0/8', RATE_LIMIT_FACTOR: '1000', LOG_LEVEL: 'error' },
        NODE_OPTIONS: '--inspect=127.0.0.1:0',
        ...env,
      })) as [ApiProcess];
      try {
        await flood(api, 0, WARM_UP);
        const before = await settledMb(api);
        const statuses = await flood(api, WARM_UP, WARM_UP + starts);
        const after = await settledMb(api);
        const told = [...statuses].map(([status, count]) => `${status}: ${count}`).join(', ');
        process.stdout.write(
          `${name}: ${before.toFixed(0)} MB before, ${after.toFixed(0)} MB after; ${told}\n`,
        );
        expect(after - before).toBeLessThan(GROWTH_MAX_MB);
        // It refused rather than broke.
        expect([...statuses.keys()].every((status) => [200, 201, 401, 429, 503].includes(status))).toBe(true);
      } finally {
        await api.stop();
      }
    },
  );
});
