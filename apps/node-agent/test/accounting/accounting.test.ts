// The node's accounting as main.ts uses it, against a collector over real gRPC whose line breaks in every way, with a
// journal in a real directory: every byte arrives exactly once.
import { execFile } from 'node:child_process';
import {
  chmod,
  chown,
  mkdir,
  mkdtemp,
  open,
  readdir,
  rm,
  stat,
  writeFile,
  type FileHandle,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { systemClock } from '@penstock/domain/clock';
import { idBytes, newId, type NodeId, type SubscriptionId, type TenantId } from '@penstock/domain/ids';
import { createAccounting, type Accounting, type AccountingDeps } from '../../src/accounting/accounting.js';
import { noFaults, startCollector, type CollectorServer, type Faults } from './collector-server.js';
import { seeded } from './crashing-files.js';
import { ModelLedger, testIdentity } from './model-ledger.js';
import { silent, SimEngine } from './sim-node.js';

const run = promisify(execFile);

let directory: string;
let nodeId: NodeId;
let ledger: ModelLedger;
let collector: CollectorServer;
let engine: SimEngine;
const tenants = [newId<TenantId>(), newId<TenantId>(), newId<TenantId>()];
const running: Accounting[] = [];

beforeEach(async () => {
  directory = join(await mkdtemp(join(tmpdir(), 'penstock-accounting-')), 'journal');
  nodeId = newId<NodeId>();
  ledger = new ModelLedger(Buffer.from(idBytes(nodeId)));
  collector = await startCollector(ledger, nodeId);
  engine = new SimEngine('xray');
});

afterEach(async () => {
  await Promise.all(running.splice(0).map((one) => one.stop()));
  await collector.close();
  await rm(join(directory, '..'), { recursive: true, force: true });
});

async function agent(overrides: Partial<AccountingDeps> = {}): Promise<Accounting> {
  const identity = testIdentity(Buffer.from(idBytes(nodeId)));
  const accounting = await createAccounting({
    nodeId,
    agentVersion: 'test',
    bufferMode: 'wal',
    directory,
    windowMs: 60_000,
    engines: [engine],
    client: collector.client,
    identity: () => ({ serial: identity.certificateSerial, privateKey: identity.privateKey }),
    tenantOf: (id) => tenants[(idBytes(id)[15] as number) % tenants.length] as TenantId,
    clock: systemClock,
    log: silent,
    ...overrides,
  });
  running.push(accounting);
  return accounting;
}

function subscribe(count: number): string[] {
  return Array.from({ length: count }, () => {
    const id = newId<SubscriptionId>();
    engine.add(id, id, null);
    return id;
  });
}

async function settled(accounting: Accounting): Promise<void> {
  await accounting.readAndSeal();
  await vi.waitFor(
    async () => {
      await accounting.readAndSeal();
      expect(accounting.status().frames).toBe(0);
      expect(ledger.totals).toEqual(engine.total);
    },
    { timeout: 20_000, interval: 20 },
  );
}

const drawn = (seed: number, kinds: ReturnType<Faults['next']>[], odds: number): Faults => {
  const random = seeded(seed);
  return { next: () => (random() < odds ? (kinds[Math.floor(random() * kinds.length)] as 'busy') : 'none') };
};

describe('sending', () => {
  test('a frame is on its way right after its seal', async () => {
    const [id] = subscribe(1) as [string];
    const accounting = await agent();
    accounting.start();
    await vi.waitFor(() => expect(accounting.status().epoch).toBe(1));
    for (let i = 0; i < 5; i++) {
      engine.move(id, 10n, 20n);
      const before = performance.now();
      await accounting.readAndSeal();
      await vi.waitFor(() => expect(accounting.status().ackedSeq).toBe(BigInt(i + 1)), { interval: 1 });
      expect(performance.now() - before).toBeLessThan(1000);
    }
    expect(ledger.totals).toEqual(engine.total);
    expect(collector.streams).toBe(1);
  });

  test('lost, doubled and late answers, lost frames, busy and cut streams: every byte once', async () => {
    const ids = subscribe(20);
    const random = seeded(77);
    collector.faults = drawn(5, ['lose answer', 'double answer', 'busy', 'end', 'end after accept'], 0.3);
    const accounting = await agent({ random: () => 0.05 });
    accounting.start();
    for (let i = 0; i < 150; i++) {
      for (const id of ids)
        if (random() < 0.3)
          engine.move(id, BigInt(Math.floor(random() * 1e6)), BigInt(Math.floor(random() * 1e9)));
      await accounting.readAndSeal();
    }
    // A swallowed answer is made good by the next one.
    collector.faults = noFaults;
    engine.move(ids[0] as string, 1n, 1n);
    await settled(accounting);
    expect(collector.streams).toBeGreaterThan(3);
    expect(ledger.verifier.report.problem).toBeNull();
  });

  test('frames that never arrive are sent again from where the ledger stands', async () => {
    const ids = subscribe(5);
    const random = seeded(3);
    const accounting = await agent();
    accounting.start();
    await vi.waitFor(() => expect(accounting.status().epoch).toBe(1));
    let lost = 0;
    collector.faults = { next: () => (random() < 0.2 && lost++ < 20 ? 'lose frame' : 'none') };
    for (let i = 0; i < 60; i++) {
      for (const id of ids) engine.move(id, 7n, 9n);
      await accounting.readAndSeal();
    }
    collector.faults = noFaults;
    engine.move(ids[0] as string, 1n, 1n);
    await settled(accounting);
    expect(lost).toBeGreaterThan(5);
    expect(collector.streams).toBe(1);
  });

  test('a frame above one message travels in parts', async () => {
    const ids = subscribe(12_000);
    for (const id of ids) engine.move(id, 1n, 2n);
    const accounting = await agent();
    accounting.start();
    await settled(accounting);
    expect(collector.parts).toBeGreaterThanOrEqual(2);
    expect(ledger.verifier.report.rows).toBe(12_000);
  });

  test('a refusal stops the stream and is told', async () => {
    const [id] = subscribe(1) as [string];
    collector.faults = { next: () => 'refuse' };
    const accounting = await agent();
    accounting.start();
    engine.move(id, 1n, 1n);
    await vi.waitFor(async () => {
      await accounting.readAndSeal();
      expect(accounting.status().degraded).toContain('stream_refused');
    });
    const { streams } = collector;
    for (let i = 0; i < 20; i++) {
      engine.move(id, 1n, 1n);
      await accounting.readAndSeal();
    }
    expect(collector.streams).toBe(streams);
    expect(accounting.status().frames).toBeGreaterThan(0);
  });
});

describe('the journal on disk', () => {
  test('an agent that stopped while cut off sends everything after its restart', async () => {
    const ids = subscribe(8);
    const first = await agent();
    first.start();
    await vi.waitFor(() => expect(first.status().epoch).toBe(1));
    collector.faults = { next: () => 'end' };
    for (let i = 0; i < 20; i++) {
      for (const id of ids) engine.move(id, 100n, 1000n);
      await first.readAndSeal();
    }
    await first.stop();
    running.length = 0;
    for (const id of ids) engine.move(id, 3n, 4n);
    collector.faults = noFaults;
    const second = await agent();
    expect(second.status().frames).toBeGreaterThanOrEqual(20);
    second.start();
    await settled(second);
    expect(second.status().epoch).toBe(1);
    expect(ledger.verifier.report.gaps).toEqual([]);
  });

  test('files are 0600 in a directory 0700 [R1-12]', async () => {
    subscribe(1).forEach((id) => engine.move(id, 1n, 1n));
    const accounting = await agent();
    accounting.start();
    await settled(accounting);
    expect((await stat(directory)).mode & 0o777).toBe(0o700);
    for (const name of await readdir(directory))
      expect((await stat(join(directory, name))).mode & 0o777, name).toBe(0o600);
  });

  test('acknowledged segments go, and the journal stays small', async () => {
    const ids = subscribe(400);
    const accounting = await agent({ capBytes: 256 * 1024 });
    accounting.start();
    for (let i = 0; i < 40; i++) {
      for (const id of ids) engine.move(id, 1n, 1n);
      await accounting.readAndSeal();
      if (i % 5 === 4) await settled(accounting);
    }
    await settled(accounting);
    expect((await readdir(directory)).filter((name) => name.endsWith('.wal')).length).toBeLessThanOrEqual(3);
  });

  test('two agents cannot use one journal [R1-20]', async () => {
    await agent();
    await expect(agent()).rejects.toThrow(/ERR_WAL_DIR_UNUSABLE.*another agent/);
  });

  test('a lock that a killed agent left is taken over', async () => {
    await mkdir(directory, { mode: 0o700 });
    await writeFile(join(directory, 'lock'), 'another-boot 1 12345', { mode: 0o600 });
    await agent();
  });

  test('a directory open to others, a file in its place, a place that cannot be made: one clear sentence [R1-11]', async () => {
    await mkdir(directory, { mode: 0o700 });
    await chmod(directory, 0o755);
    await expect(agent()).rejects.toMatchObject({
      code: 'failed_precondition',
      message: expect.stringMatching(/ERR_WAL_DIR_UNUSABLE.*755.*chmod 700/) as string,
    });
    await rm(directory, { recursive: true });
    await writeFile(directory, 'x');
    await expect(agent()).rejects.toThrow('ERR_WAL_DIR_UNUSABLE');
    await expect(agent({ directory: join(directory, 'below') })).rejects.toThrow('ERR_WAL_DIR_UNUSABLE');
    await expect(agent({ directory: '/proc/penstock' })).rejects.toThrow('ERR_WAL_DIR_UNUSABLE');
  });

  test.runIf(process.getuid?.() === 0)(
    'a directory of somebody else, and one on a read-only file system (as root) [R1-11]',
    async () => {
      await mkdir(directory, { mode: 0o700 });
      await chown(directory, 65_534, 65_534);
      await expect(agent()).rejects.toMatchObject({
        code: 'failed_precondition',
        message: expect.stringMatching(/ERR_WAL_DIR_UNUSABLE.*belongs to uid 65534/) as string,
      });
      await chown(directory, 0, 0);
      await run('mount', ['-t', 'tmpfs', '-o', 'ro,mode=0700', 'tmpfs', directory]);
      try {
        await expect(agent()).rejects.toThrow(/ERR_WAL_DIR_UNUSABLE.*cannot be written and synced \(EROFS\)/);
      } finally {
        await run('umount', [directory]);
      }
      await agent();
    },
  );

  test.each(['EIO', 'ENOSYS'])('a directory whose files cannot be synced (%s) [R1-11]', async (code) => {
    const probe = await open(directory.concat('-probe'), 'w');
    const handles = Object.getPrototypeOf(probe) as FileHandle;
    await probe.close();
    await rm(directory.concat('-probe'));
    // What a disk that fails, or a file system without fsync, answers.
    const failure = (): Promise<never> => Promise.reject(Object.assign(new Error(code), { code }));
    const spies = [vi.spyOn(handles, 'sync'), vi.spyOn(handles, 'datasync')];
    for (const spy of spies) spy.mockImplementation(failure);
    try {
      await expect(agent()).rejects.toThrow(`cannot be written and synced (${code})`);
    } finally {
      for (const spy of spies) spy.mockRestore();
    }
    await agent();
  });
});

describe('buffer mode amnesia', () => {
  test('writes nothing, and its next life is an epoch that continues the ledger’s values', async () => {
    const ids = subscribe(5);
    const first = await agent({ bufferMode: 'amnesia' });
    first.start();
    for (const id of ids) engine.move(id, 10n, 10n);
    await settled(first);
    await first.stop();
    running.length = 0;
    for (const id of ids) engine.move(id, 5n, 5n);
    const second = await agent({ bufferMode: 'amnesia' });
    second.start();
    await settled(second);
    expect(second.status()).toMatchObject({ mode: 'amnesia', epoch: 2 });
    expect(ledger.verifier.report.marks).toMatchObject([{ kind: 'record_lost', engine: 0 }]);
    await expect(readdir(directory)).rejects.toThrow('ENOENT');
  });
});
