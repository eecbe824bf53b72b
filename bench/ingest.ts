// B1: ingest end to end. A process that is twenty nodes seals, signs and sends frames of 500 samples over mTLS; the
// collector checks them, appends them with fsync, and flushes the counters of 100,000 subscriptions; the clock stops when
// every frame is acknowledged and every counter is flushed. Anchor: psql's \copy of binary rows into a table without an
// index, one statement, on the same server, in the same round; a row holds the same facts as a sample.
//
// Measured on two processors, load 2 to 3.5, PostgreSQL 18, five rounds: 326 / 363 / 395 thousand samples a second
// against 794 / 1,000 / 1,068 thousand rows, ratio 0.33 / 0.36 / 0.47; 4.0 CPU µs a sample in all (collector 1.75, load
// 1.0, PostgreSQL 1.2). Needs a quiet machine: at a load of 8 to 16 from elsewhere the same code gives 0.05 to 0.25,
// because a starved pipeline of three waits more than a starved COPY.
import { execFile, fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createClient } from '@penstock/db/pool';
import { seedUsage, type UsageSeed } from '@penstock/testkit/usage-seed';
import type { FromLoad, LoadNode, ToLoad } from './ingest-load.js';
import { makeGround, until, type Ground } from './processes.js';
import { median, round, spread, type BenchOptions, type BenchResult } from './result.js';

const NODES = 20;
const TENANTS = 4;
const SUBSCRIPTIONS = 100_000;
const ROWS_PER_FRAME = 500;
/** Of one node in one round: 2 million samples, some six seconds. */
const FRAMES = 200;
const ANCHOR_ROWS = 1_500_000;
const FLOOR = 0.3;
const TICKS_PER_SECOND = 100;
const PSQL = '/usr/bin/psql';

type Sql = ReturnType<typeof createClient>;

export async function bench(options: BenchOptions): Promise<BenchResult> {
  const frames = options.count ?? FRAMES;
  if (!existsSync(PSQL))
    throw new Error(`${PSQL} is missing; the anchor is psql's own \\copy (postgresql-client)`);
  const ground = await makeGround();
  const sql = createClient(ground.database.superuserUrl, 'penstock-bench');
  await sql.connect();
  try {
    const seed = await seedUsage(ground.database.superuserUrl, ground.trust, {
      tenants: TENANTS,
      subscriptions: SUBSCRIPTIONS / TENANTS,
      nodes: NODES,
      limitBytes: 1_000_000_000_000_000n,
      nodesOf: (subscription) => [subscription % NODES],
    });
    await sql.query('VACUUM ANALYZE');
    const anchorFile = await prepareAnchor(ground, sql);
    const address = await ground.start('collector');
    const load = fork(fileURLToPath(new URL('./ingest-load.js', import.meta.url)), {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    try {
      await tell(load, {
        open: {
          address,
          trustDomain: ground.trust.trustDomain,
          nodes: loadNodes(seed),
          rowsPerFrame: ROWS_PER_FRAME,
        },
      });
      // The first rounds open every meter and load every period and are not counted.
      await ingestRound(sql, load, Math.ceil(SUBSCRIPTIONS / NODES / ROWS_PER_FRAME) * 2);
      await anchorRound(ground, sql, anchorFile);
      const values: number[] = [];
      const anchors: number[] = [];
      const ratios: number[] = [];
      const cpu: { all: number; collector: number; load: number; server: number }[] = [];
      for (let n = 0; n < options.rounds; n++) {
        const anchor = await anchorRound(ground, sql, anchorFile);
        const result = await ingestRound(sql, load, frames);
        values.push(result.rate);
        anchors.push(anchor);
        ratios.push(result.rate / anchor);
        cpu.push(result.cpu);
        options.say(
          `round ${n + 1}: ${Math.round(result.rate)} samples/s, anchor ${Math.round(anchor)} rows/s, ratio ${round(result.rate / anchor)}; ` +
            `CPU µs a sample: collector ${round(result.cpu.collector)}, load ${round(result.cpu.load)}, PostgreSQL ${round(result.cpu.server)}`,
        );
      }
      await until('the series are flushed', () => flushed(sql, 'series'), 60_000);
      await check(sql);
      const ratio = median(ratios);
      return {
        name: 'ingest',
        value: Math.round(median(values)),
        unit: 'samples/s',
        anchor: Math.round(median(anchors)),
        ratio: round(ratio),
        rounds: spread(values),
        good: ratio >= FLOOR,
        also: {
          ratios: spread(ratios).join(' / '),
          anchors: spread(anchors).join(' / '),
          'CPU µs a sample, all': round(median(cpu.map((c) => c.all))),
          'CPU µs a sample, collector': round(median(cpu.map((c) => c.collector))),
          'CPU µs a sample, load': round(median(cpu.map((c) => c.load))),
          'CPU µs a sample, PostgreSQL': round(median(cpu.map((c) => c.server))),
          'collector RSS MB': Math.round(rssOf(collectorPid()) / 1e6),
        },
      };
    } finally {
      load.kill();
    }
  } finally {
    await sql.end();
    await ground.close();
  }
}

function loadNodes(seed: UsageSeed): LoadNode[] {
  const tenants = [...seed.tenants].sort((a, b) => (a.tenantId < b.tenantId ? -1 : 1));
  const start = new Map(seed.tenants.map((t, i) => [t.tenantId, i * (SUBSCRIPTIONS / TENANTS)]));
  return seed.nodes.map(({ nodeId, identity }, n) => ({
    nodeId,
    serial: identity.serial.toString('hex'),
    tls: identity.tls,
    tenants: tenants.map(({ tenantId, subscriptions }) => ({
      tenantId,
      subscriptions: subscriptions.filter((_, i) => ((start.get(tenantId) ?? 0) + i) % NODES === n),
    })),
  }));
}

async function tell(load: ChildProcess, message: ToLoad): Promise<FromLoad> {
  load.send(message);
  const [answer] = (await once(load, 'message')) as [FromLoad];
  if ('fault' in answer) throw new Error(answer.fault);
  return answer;
}

async function ingestRound(sql: Sql, load: ChildProcess, frames: number) {
  const pids = { collector: collectorPid(), server: await serverPids(sql) };
  const before = { collector: ticks([pids.collector]), server: ticks(pids.server) };
  const started = performance.now();
  const answer = await tell(load, { frames });
  if (!('sent' in answer)) throw new Error('the load answered out of turn');
  await until('all counters are flushed', () => flushed(sql, 'counter'), 60_000);
  const seconds = (performance.now() - started) / 1000;
  const { samples, cpuMs } = answer.sent;
  const micros = (t: number): number => (t / TICKS_PER_SECOND / samples) * 1e6;
  const collector = micros(ticks([pids.collector]) - before.collector);
  const server = micros(ticks(pids.server) - before.server);
  const loadMicros = (cpuMs * 1000) / samples;
  return {
    rate: samples / seconds,
    cpu: { collector, server, load: loadMicros, all: collector + server + loadMicros },
  };
}

async function flushed(sql: Sql, kind: 'counter' | 'series'): Promise<boolean> {
  const { rows } = await sql.query(
    `SELECT bool_and(w.epoch = h.epoch AND w.seq = h.seq) AS done
     FROM stream_head h JOIN stream_watermark w ON w.node_id = h.node_id AND w.kind = $1`,
    [kind],
  );
  return (rows[0] as { done: boolean }).done;
}

/** What the slices say must be what the counters and the series say, and every frame must be there once. */
async function check(sql: Sql): Promise<void> {
  const { rows } = await sql.query(
    `SELECT (SELECT sum(rows) FROM ledger_slice)::text AS samples,
            (SELECT count(*) FROM ledger_frame)::text AS frames, (SELECT sum(seq) FROM stream_head)::text AS heads,
            (SELECT sum(up_bytes + down_bytes) FROM usage_counter)::text AS counted,
            (SELECT sum(up_bytes + down_bytes) FROM usage_hour)::text AS hours,
            (SELECT count(*) FROM usage_quarantine)::text AS quarantined`,
  );
  const found = rows[0] as {
    samples: string;
    frames: string;
    heads: string;
    counted: string;
    hours: string;
    quarantined: string;
  };
  const summed = await sumOfSlices(sql);
  const sum = summed.toString();
  if (
    found.frames !== found.heads ||
    found.counted !== sum ||
    found.hours !== sum ||
    found.quarantined !== '0'
  ) {
    throw new Error(`the books do not balance: ${JSON.stringify(found)}, slices hold ${summed}`);
  }
}

/** Σ of all deltas, read from the stored bytes. */
async function sumOfSlices(sql: Sql): Promise<bigint> {
  const { rows } = await sql.query(`
    WITH s AS MATERIALIZED (SELECT opened, rows AS n, payload FROM ledger_slice)
    SELECT sum(('x' || encode(substr(payload, opened * 57 + n * 25 + i * 8 + 1, 8), 'hex'))::bit(64)::bigint
             + ('x' || encode(substr(payload, opened * 57 + n * 33 + i * 8 + 1, 8), 'hex'))::bit(64)::bigint)::text AS sum
    FROM s, generate_series(0, n - 1) AS i`);
  return BigInt((rows[0] as { sum: string }).sum);
}

async function prepareAnchor(ground: Ground, sql: Sql): Promise<string> {
  // The same facts as a sample in the ledger, as a row.
  await sql.query(`CREATE TABLE anchor (tenant_id uuid, node_id uuid, epoch integer, seq bigint, subscription_id uuid,
    engine smallint, meter bigint, delta_up bigint, delta_down bigint, cumulative_up bigint, cumulative_down bigint)`);
  const file = join(ground.dir, 'anchor.bin');
  const out = openSync(file, 'w');
  writeSync(out, Buffer.concat([Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1'), Buffer.alloc(8)]));
  const chunk = 10_000;
  const widths = [16, 16, 4, 8, 16, 2, 8, 8, 8, 8, 8];
  const width = 2 + widths.reduce((sum, w) => sum + 4 + w, 0);
  for (let first = 0; first < ANCHOR_ROWS; first += chunk) {
    const bytes = Buffer.alloc(width * chunk);
    for (let i = 0; i < chunk; i++) {
      let at = bytes.writeInt16BE(widths.length, i * width);
      for (const w of widths) {
        at = bytes.writeInt32BE(w, at);
        bytes.writeUInt16BE((first + i) & 0xffff, at + w - 2);
        at += w;
      }
    }
    writeSync(out, bytes);
  }
  writeSync(out, Buffer.from([0xff, 0xff]));
  closeSync(out);
  return file;
}

async function anchorRound(ground: Ground, sql: Sql, file: string): Promise<number> {
  await sql.query('TRUNCATE anchor');
  const started = performance.now();
  await promisify(execFile)(PSQL, [
    '-q',
    '-d',
    ground.database.superuserUrl,
    '-c',
    `\\copy anchor FROM '${file}' (FORMAT binary)`,
  ]);
  return ANCHOR_ROWS / ((performance.now() - started) / 1000);
}

function collectorPid(): number {
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const parent = Number(/^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${name}/status`, 'utf8'))?.[1]);
      if (
        parent === process.pid &&
        readFileSync(`/proc/${name}/cmdline`, 'utf8').includes('collector/dist/main.js')
      )
        return Number(name);
    } catch {
      continue;
    }
  }
  throw new Error('the collector is not running');
}

/** Backends of this database and the server's own processes. */
async function serverPids(sql: Sql): Promise<number[]> {
  const { rows } = await sql.query(`SELECT pid FROM pg_stat_activity
    WHERE (datname = current_database() OR backend_type IN ('walwriter', 'checkpointer', 'background writer')) AND pid <> pg_backend_pid()`);
  return (rows as { pid: number }[]).map((row) => row.pid);
}

function ticks(pids: readonly number[]): number {
  let sum = 0;
  for (const pid of pids) {
    try {
      const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
      sum += Number(fields[11]) + Number(fields[12]);
    } catch {
      continue;
    }
  }
  return sum;
}

function rssOf(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
}
