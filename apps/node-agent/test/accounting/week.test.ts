// A node with 1,000 busy subscriptions is cut off for seven days: the journal stays within 64 MB by stretching its
// windows, no byte is lost, and everything is sent within five minutes (G2). On a real directory, with real syncs.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { FakeClock } from '@penstock/domain/clock';
import { newId, type SubscriptionId, type TenantId } from '@penstock/domain/ids';
import { CAP_BYTES_DEFAULT } from '../../src/accounting/accounting.js';
import { Sampler } from '../../src/accounting/sampler.js';
import { Wal } from '../../src/accounting/wal.js';
import { openDiskFiles } from '../../src/accounting/wal-files.js';
import { Mutex } from '../../src/engines/wireguard/mutex.js';
import { ModelLedger, testIdentity } from './model-ledger.js';
import { silent, SimEngine } from './sim-node.js';

const WEEK_MS = 7 * 24 * 3600 * 1000;
const nodeId = Buffer.alloc(16, 0x66);
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'penstock-week-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

test('seven days without a collector: nothing lost, 64 MB, sent in minutes [G2]', async () => {
  const clock = new FakeClock();
  const files = await openDiskFiles(join(directory, 'journal'));
  const open = (): Promise<Wal> =>
    Wal.open({ files, capBytes: CAP_BYTES_DEFAULT, nowMs: clock.now(), turns: new Mutex() });
  let wal = await open();
  const ledger = new ModelLedger(nodeId);
  await wal.beginEpoch({ ...ledger.open(wal.head()), nowMs: clock.now() });
  const engine = new SimEngine('xray');
  const tenants = [newId<TenantId>(), newId<TenantId>()] as const;
  const tenantOf = new Map<SubscriptionId, TenantId>();
  for (let i = 0; i < 1000; i++) {
    const id = newId<SubscriptionId>();
    tenantOf.set(id, tenants[i % 2] as TenantId);
    engine.add(id, id, null);
  }
  const sampler = new Sampler({
    engines: [engine],
    wal,
    windowMs: 5000,
    clock,
    timers: { after: () => () => undefined },
    correctedNow: () => clock.now(),
    identity: () => testIdentity(nodeId),
    tenantOf: (id) => tenantOf.get(id) ?? null,
    onSealed: () => undefined,
    log: silent,
  });
  const startMs = clock.now();
  let largest = 0;
  let longestMs = 0;
  while (clock.now() - startMs < WEEK_MS) {
    clock.advance(sampler.windowMs);
    longestMs = Math.max(longestMs, sampler.windowMs);
    for (const key of engine.lives.keys()) engine.move(key, 1_000_003n, 10_000_019n);
    await sampler.read();
    await sampler.seal(false);
    largest = Math.max(largest, wal.bytes);
  }
  expect(largest).toBeLessThanOrEqual(CAP_BYTES_DEFAULT);
  expect([...sampler.degraded]).toEqual([]);
  expect(wal.fill).toBeLessThan(1);
  expect(longestMs).toBeLessThanOrEqual(3_600_000);

  // The agent is killed and comes back, then the collector does.
  const opening = performance.now();
  wal = await open();
  const openedMs = performance.now() - opening;
  const draining = performance.now();
  const frames = wal.unacknowledged;
  for (let seq = 1n; seq < wal.state.nextSeq; seq++) {
    const frame = await wal.frameAt(seq);
    if (frame === null) throw new Error(`frame ${String(seq)} is gone`);
    ledger.receive(frame);
    wal.acknowledge(1, seq);
    await wal.removeAcknowledged();
  }
  const drainedMs = performance.now() - draining;
  expect(ledger.totals).toEqual(engine.total);
  expect(ledger.verifier.report).toMatchObject({ frames, gaps: [], problem: null });
  expect(openedMs).toBeLessThan(30_000);
  expect(drainedMs).toBeLessThan(300_000);
  await wal.close();
}, 180_000);
