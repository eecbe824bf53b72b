// B14: sign-ins offered far above what the machine can hash, against the hash alone. Judged: the rate of hashes under the
// flood, that the excess is refused at once, what other routes feel, and the memory.
import { readFileSync } from 'node:fs';
import { hash } from '@node-rs/argon2';
import { customer, OWNER } from './api-get.js';
import { Connection, requestBytes } from './http-load.js';
import { cpuMsOf, makeGround, pause, quiet } from './processes.js';
import { median, quantile, round, spread, type BenchOptions, type BenchResult } from './result.js';

const FLOOR = 0.9;
const OFFERED_PER_SECOND = 100;
const SECONDS = 10;
const PROBE_EVERY_MS = 10;
const REFUSED_MS_MAX = 20;
const RSS_GROWTH_MB_MAX = 140;
/** As the product hashes (auth/passwords.ts). */
const options2id = { timeCost: 3, memoryCost: 65_536, parallelism: 2 } as const;

interface Round {
  hashed: number;
  refusedP99: number;
  others: number;
  idle: number;
  rssMb: number;
}

export async function bench(options: BenchOptions): Promise<BenchResult> {
  const ground = await makeGround();
  try {
    const api = await ground.startApi({ RATE_LIMIT_FACTOR: '10000' });
    const { token, subscriptionId } = await customer(api);
    const probe = requestBytes({
      ...{ method: 'GET', path: `/api/v1/subscriptions/${subscriptionId}` },
      headers: { authorization: `Bearer ${token}` },
    });
    const seconds = options.count ?? SECONDS;
    const rounds: Round[] = [];
    const anchors: number[] = [];
    await probed(api.port, probe, 1);
    for (let i = 0; i < options.rounds; i++) {
      await quiet();
      const alone = await hashesAlone(Math.min(seconds, 4));
      anchors.push(alone);
      const idle = quantile(await probed(api.port, probe, 2), 0.99);
      const rssBefore = rssMb(api.pid);
      const [flood, others] = await Promise.all([
        offered(api.port, seconds, i),
        probed(api.port, probe, seconds),
      ]);
      const result = {
        ...{ hashed: flood.hashed / flood.seconds, refusedP99: quantile(flood.refusedMs, 0.99) },
        ...{ others: quantile(others, 0.99), idle, rssMb: rssMb(api.pid) - rssBefore },
      };
      rounds.push(result);
      options.say(
        `round ${i + 1}: ${round(result.hashed)} hashes/s of ${round(alone)} alone, refused p99 ${round(result.refusedP99)} ms ` +
          `(${flood.refusedMs.length}), other routes' p99 ${round(result.others)} ms (idle ${round(idle)}), RSS +${round(result.rssMb)} MB`,
      );
    }
    const ratio = median(rounds.map(({ hashed }, i) => hashed / (anchors[i] ?? 1)));
    const refused = median(rounds.map(({ refusedP99 }) => refusedP99));
    const growth = Math.max(...rounds.map((each) => each.rssMb));
    return {
      ...{ name: 'login-flood', unit: 'hashes/s', ratio: round(ratio), anchor: round(median(anchors)) },
      value: round(median(rounds.map(({ hashed }) => hashed))),
      rounds: spread(rounds.map(({ hashed }) => hashed)),
      good: ratio >= FLOOR && refused <= REFUSED_MS_MAX && growth <= RSS_GROWTH_MB_MAX,
      also: {
        'refused p99 ms': round(refused),
        'other routes p99 ms': round(median(rounds.map(({ others }) => others))),
        'other routes p99 ms, idle': round(median(rounds.map(({ idle }) => idle))),
        'RSS growth MB': round(growth),
        'CPU ms of the API': cpuMsOf(api.pid),
      },
    };
  } finally {
    await ground.close();
  }
}

/** Hashes a second with two in flight and nothing else. */
async function hashesAlone(seconds: number): Promise<number> {
  const started = performance.now();
  const end = started + seconds * 1_000;
  let count = 0;
  await Promise.all(
    [0, 1].map(async () => {
      while (performance.now() < end) {
        await hash('correct horse battery', options2id);
        count += 1;
      }
    }),
  );
  return (count * 1_000) / (performance.now() - started);
}

/** Latencies of a route that needs no hash, asked every 10 ms. */
async function probed(port: number, bytes: Buffer, seconds: number): Promise<number[]> {
  const connection = new Connection(port);
  const ms: number[] = [];
  const end = performance.now() + seconds * 1_000;
  while (performance.now() < end) {
    const reply = await connection.ask(bytes);
    if (reply.status !== 200) throw new Error(`answered ${reply.status}: ${reply.body}`);
    ms.push(reply.ms);
    await pause(PROBE_EVERY_MS);
  }
  connection.close();
  return ms;
}

interface Flood {
  hashed: number;
  refusedMs: number[];
  seconds: number;
}

/** Wrong sign-ins of many names from many addresses at a fixed rate, whatever the answers take. */
async function offered(port: number, seconds: number, run: number): Promise<Flood> {
  const refusedMs: number[] = [];
  const pending: Promise<void>[] = [];
  let hashed = 0;
  const started = performance.now();
  const total = seconds * OFFERED_PER_SECOND;
  for (let i = 0; i < total; i++) {
    const due = started + (i * 1_000) / OFFERED_PER_SECOND;
    const wait = due - performance.now();
    if (wait > 0) await pause(wait);
    // Every sign-in another address of ours and another name: limits of one caller are not what is measured.
    const connection = new Connection(port, `127.${1 + run}.${(i >> 8) & 255}.${i & 255 || 1}`);
    const email = i % 2 === 0 ? OWNER.replace('@', `+${run}-${i}@`) : `nobody-${run}-${i}@example.org`;
    const body = JSON.stringify({ email, password: 'not the password' });
    pending.push(
      connection
        .ask(requestBytes({ method: 'POST', path: '/api/v1/auth/sign-in', body }))
        .then(({ status, ms }) => {
          connection.close();
          if (status === 401) hashed += 1;
          else if (status === 429 || status === 503) refusedMs.push(ms);
          else throw new Error(`a sign-in was answered ${status}`);
        }),
    );
  }
  await Promise.all(pending);
  return { hashed, refusedMs, seconds: (performance.now() - started) / 1_000 };
}

function rssMb(pid: number): number {
  const kb = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kb ?? 0) / 1024;
}
