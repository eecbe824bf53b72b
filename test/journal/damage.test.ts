// The node's real journal and sender against the real collector on PostgreSQL, while agents are killed, collectors are
// killed, and records of the journal are damaged between two lives of the agent: every byte that an engine still shows
// is in the ledger exactly once, gaps are booked, and the whole stream verifies from SQL.
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { systemClock } from '@penstock/domain/clock';
import { idBytes } from '@penstock/domain/ids';
import { verifyFrames } from '@penstock/ledger/verify';
import { connect } from '@penstock/rpc/client';
import { UsageServiceClient } from '@penstock/rpc/gen/penstock/usage/v1/usage';
import { createLogger } from '@penstock/service/logger';
import { testDatabase, type TestDatabase } from '@penstock/testkit/postgres';
import { createTestTrust, type TestTrust } from '@penstock/testkit/trust';
import { seedUsage, type SeededUsageNode, type UsageSeed } from '@penstock/testkit/usage-seed';
import { storedFrames } from '../../apps/cli/src/ledger.store.js';
import { startCollector, type RunningCollector } from '../../apps/collector/test/support.js';
import { Mutex } from '../../apps/node-agent/src/engines/wireguard/mutex.js';
import { scanSegment } from '../../apps/node-agent/src/accounting/record.js';
import { decodeFrameBody } from '../../apps/node-agent/src/accounting/record-body.js';
import { Sampler } from '../../apps/node-agent/src/accounting/sampler.js';
import { Sender } from '../../apps/node-agent/src/accounting/sender.js';
import { systemTimers } from '../../apps/node-agent/src/accounting/timers.js';
import { Wal } from '../../apps/node-agent/src/accounting/wal.js';
import { openDiskFiles, type WalFiles } from '../../apps/node-agent/src/accounting/wal-files.js';
import { seeded } from '../../apps/node-agent/test/accounting/crashing-files.js';
import { silent, SimEngine } from '../../apps/node-agent/test/accounting/sim-node.js';
import { until } from '../e2e/until.js';

const log = createLogger('journal-test', 'silent');
let trust: TestTrust;
let db: TestDatabase;
let seed: UsageSeed;
let sql: pg.Client;
let directory: string;
let collector: RunningCollector;
let engine: SimEngine;
let node: SeededUsageNode;
const keys: string[] = [];

beforeAll(async () => {
  trust = await createTestTrust();
});
beforeEach(async () => {
  db = await testDatabase();
  seed = await seedUsage(db.superuserUrl, trust, {
    tenants: 2,
    subscriptions: 5,
    nodes: 1,
    limitBytes: null,
  });
  sql = new pg.Client({ connectionString: db.superuserUrl });
  await sql.connect();
  directory = await mkdtemp(join(tmpdir(), 'penstock-journal-'));
  collector = await startCollector(db, trust);
  node = seed.nodes[0] as SeededUsageNode;
  engine = new SimEngine('xray');
  keys.length = 0;
  for (const tenant of seed.tenants) {
    for (const id of tenant.subscriptions) {
      engine.add(id, id, null);
      keys.push(id);
    }
  }
});
afterEach(async () => {
  await life?.kill();
  life = null;
  await collector.kill();
  await sql.end();
  await db.drop();
  await rm(directory, { recursive: true, force: true });
});

/** One life of the agent's accounting; a kill drops everything that is not on disk. */
interface Life {
  wal: Wal;
  sampler: Sampler;
  sender: Sender;
  kill(): Promise<void>;
}
let life: Life | null = null;

async function live(): Promise<Life> {
  const files: WalFiles = await openDiskFiles(join(directory, 'journal'));
  const wal = await Wal.open({ files, capBytes: 1 << 22, nowMs: systemClock.now(), turns: new Mutex() });
  const nodeBytes = Buffer.from(idBytes(node.nodeId));
  const identity = () => ({
    nodeId: nodeBytes,
    certificateSerial: node.identity.serial,
    privateKey: node.identity.keys.privateKey,
  });
  const tenantOf = new Map(
    seed.tenants.flatMap((one) => one.subscriptions.map((id) => [id, one.tenantId] as const)),
  );
  const client = connect(UsageServiceClient, collector.address, {
    tls: node.identity.tls,
    trustDomain: trust.trustDomain,
    servers: ['collector'],
    log,
  });
  const common = {
    wal,
    clock: systemClock,
    timers: systemTimers,
    correctedNow: () => systemClock.now(),
    identity,
    log: silent,
  };
  const sampler: Sampler = new Sampler({
    ...common,
    engines: [engine],
    windowMs: 60_000,
    tenantOf: (id) => tenantOf.get(id) ?? null,
    onSealed: () => sender.notify(),
  });
  const sender: Sender = new Sender({
    ...common,
    client,
    nodeId: node.nodeId,
    agentVersion: 'test',
    onServerTime: () => undefined,
    onEpoch: () => void sampler.seal(false),
    random: () => 0.05,
  });
  sender.start();
  const self: Life = {
    wal,
    sampler,
    sender,
    async kill() {
      await sender.stop();
      client.close();
      await files.close();
    },
  };
  return self;
}

async function ledgerBytes(): Promise<bigint> {
  const { rows } = await sql.query<{ sum: string }>(
    'SELECT coalesce(sum(up_bytes + down_bytes), 0)::text AS sum FROM usage_counter',
  );
  return BigInt(rows[0]?.sum ?? '0');
}

async function settled(): Promise<void> {
  await until(
    async () => {
      await life?.sampler.readAndSeal();
      const { up, down } = engine.total;
      return (await ledgerBytes()) === up + down && life?.wal.unacknowledged === 0;
    },
    'counters equal to the engine',
    30_000,
  );
}

/** Flips one bit in one record of the journal, drawn at random. The type of the record; `none` when there is none. */
async function damage(random: () => number): Promise<string> {
  const folder = join(directory, 'journal');
  const names = (await readdir(folder)).filter((name) => name.endsWith('.wal')).sort();
  const name = names[Math.max(0, names.length - 1 - Math.floor(random() * 2))];
  if (name === undefined) return 'none';
  const bytes = await readFile(join(folder, name));
  const { records } = scanSegment(BigInt(`0x${name.slice(8, 24)}`), bytes);
  // Half of the time a frame with another behind it: what becomes a gap.
  const inner = records.slice(0, -1).filter((candidate) => candidate.type === 'frame');
  const drawnFrom = random() < 0.5 && inner.length > 0 ? inner : records;
  const record = drawnFrom[Math.floor(random() * drawnFrom.length)];
  if (record === undefined) return 'none';
  const at = record.offset + Math.floor(random() * record.length);
  bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << Math.floor(random() * 8)), at);
  await writeFile(join(folder, name), bytes);
  return record.type;
}

/** Flips one bit in each of the given frames of the newest segment. */
async function damageFrames(seqs: readonly bigint[]): Promise<void> {
  const folder = join(directory, 'journal');
  const name = (await readdir(folder))
    .filter((one) => one.endsWith('.wal'))
    .sort()
    .at(-1) as string;
  const bytes = await readFile(join(folder, name));
  for (const record of scanSegment(BigInt(`0x${name.slice(8, 24)}`), bytes).records) {
    if (record.type !== 'frame' || !seqs.includes(decodeFrameBody(record.body).view.header.seq)) continue;
    const at = record.offset + record.length - 1;
    bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
  }
  await writeFile(join(folder, name), bytes);
}

test('damaged journals, killed agents and killed collectors: every byte once, gaps booked, the ledger verifies', async () => {
  const random = seeded(2026);
  const damaged: string[] = [];
  for (let round = 0; round < 30; round++) {
    life = await live();
    const offline = random() < 0.6;
    if (offline) {
      if (random() < 0.7) await until(() => life?.wal.canSeal === true, 'an epoch');
      await life.sender.stop();
    }
    const seals = 2 + Math.floor(random() * 8);
    for (let i = 0; i < seals; i++) {
      for (const key of keys) {
        if (random() < 0.5)
          engine.move(key, BigInt(Math.floor(random() * 1e6)), BigInt(Math.floor(random() * 1e8)));
      }
      await life.sampler.readAndSeal();
    }
    if (!offline && random() < 0.5) await settled();
    await life.kill();
    life = null;
    if (random() < 0.7) damaged.push(await damage(random));
    if (random() < 0.3) {
      await collector.kill();
      collector = await startCollector(db, trust);
    }
  }
  life = await live();
  await settled();

  // And once by rule: frames 1 and 2 of five that nobody acknowledged are lost.
  await life.sender.stop();
  const first = life.wal.state.acked + 1n;
  for (let i = 0; i < 5; i++) {
    for (const key of keys) engine.move(key, 1_000n, 2_000n);
    await life.sampler.readAndSeal();
  }
  await life.kill();
  life = null;
  await damageFrames([first, first + 1n]);
  life = await live();
  await settled();

  expect(damaged.filter((type) => type === 'frame').length).toBeGreaterThan(3);
  const [report] = await verifyFrames(storedFrames(sql), { publicKey: () => node.identity.keys.publicKey });
  expect(report?.problem).toBeNull();
  expect((report?.upBytes ?? 0n) + (report?.downBytes ?? 0n)).toBe(engine.total.up + engine.total.down);
  expect(report?.gaps.slice(-2).map((gap) => gap.seq)).toEqual([first, first + 1n]);
  expect(report?.healedUpBytes).toBeGreaterThanOrEqual(20_000n);
  const { rows } = await sql.query<{ frozen: string }>(
    'SELECT count(*)::text AS frozen FROM stream_head WHERE frozen_at IS NOT NULL',
  );
  expect(rows[0]?.frozen).toBe('0');
  const { rows: quarantined } = await sql.query('SELECT 1 FROM usage_quarantine');
  expect(quarantined).toEqual([]);
}, 240_000);
