// What the sampler promises when engines die, hang or are stopped, and when the disk is slow: the loss is marked with its
// bounds and never more than what was counted since the last read; nothing waits for what hangs.
import { beforeEach, describe, expect, test } from 'vitest';
import { FakeClock } from '@penstock/domain/clock';
import { newId, type SubscriptionId, type TenantId } from '@penstock/domain/ids';
import { decodeFrame, type LossMark } from '@penstock/ledger/frame';
import type { CounterReading } from '../../src/engines/engine.js';
import { Mutex } from '../../src/engines/wireguard/mutex.js';
import { Sampler, type SamplerDeps } from '../../src/accounting/sampler.js';
import { Wal } from '../../src/accounting/wal.js';
import { openMemoryFiles, type WalFiles } from '../../src/accounting/wal-files.js';
import { readPauseMs } from '../../src/accounting/window.js';
import { ModelLedger, testIdentity } from './model-ledger.js';
import { silent } from './sim-node.js';

const nodeId = Buffer.alloc(16, 0x55);
const subscriptionId = newId<SubscriptionId>();
const deviceId = newId();
const tenant = newId<TenantId>();

/** Timers that fire when the test moves time. */
class ManualTimers {
  readonly #waiting = new Set<{ at: number; run: () => void }>();

  constructor(private readonly clock: FakeClock) {}

  after(ms: number, run: () => void): () => void {
    const timer = { at: this.clock.monotonic() + ms, run };
    this.#waiting.add(timer);
    return () => {
      this.#waiting.delete(timer);
    };
  }

  async advance(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 100) {
      this.clock.advance(100);
      for (const timer of [...this.#waiting]) {
        if (timer.at > this.clock.monotonic()) continue;
        this.#waiting.delete(timer);
        timer.run();
      }
      await turns();
    }
  }
}

/** Lets everything that can go on without time go on. */
async function turns(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
}

let clock: FakeClock;
let timers: ManualTimers;
let files: WalFiles;
let wal: Wal;
let sampler: Sampler;
let xray: CounterReading[] | Error | Promise<CounterReading[]>;
let wireguard: CounterReading[];
let reads: number;
let seals: number;

const xrayReading = (boot: string, up: bigint): CounterReading => ({
  subscriptionId,
  deviceId: null,
  boot: boot.repeat(32),
  up,
  down: 0n,
});
const peerReading = (boot: string, up: bigint): CounterReading => ({ ...xrayReading(boot, up), deviceId });

async function start(overrides: Partial<SamplerDeps> = {}): Promise<void> {
  wal = await Wal.open({ files, capBytes: 1 << 20, nowMs: clock.now(), turns: new Mutex() });
  if (wal.state.epoch === 0) {
    const grant = new ModelLedger(nodeId).open(wal.head());
    await wal.beginEpoch({ ...grant, nowMs: clock.now() });
  }
  sampler = new Sampler({
    engines: [
      {
        name: 'xray',
        counters: () => {
          reads++;
          return xray instanceof Error ? Promise.reject(xray) : Promise.resolve(xray);
        },
      },
      { name: 'wireguard', counters: () => Promise.resolve(wireguard) },
    ],
    wal,
    windowMs: 5000,
    clock,
    timers,
    correctedNow: () => clock.now(),
    identity: () => testIdentity(nodeId),
    tenantOf: () => tenant,
    onSealed: () => seals++,
    log: silent,
    ...overrides,
  });
}

beforeEach(async () => {
  clock = new FakeClock();
  timers = new ManualTimers(clock);
  files = openMemoryFiles();
  xray = [];
  wireguard = [];
  reads = 0;
  seals = 0;
  await start();
});

async function frames(): Promise<ReturnType<typeof decodeFrame>[]> {
  const out = [];
  for (let seq = wal.state.acked + 1n; seq < wal.state.nextSeq; seq++) {
    const frame = await wal.frameAt(seq);
    if (frame !== null) out.push(decodeFrame(frame.frameBytes));
  }
  return out;
}

async function marks(): Promise<LossMark[]> {
  return (await frames()).flatMap((frame) => frame.header.marks);
}

describe('time', () => {
  test('reads every second, seals every window, and a window in which nothing moved makes no frame', async () => {
    sampler.start();
    await timers.advance(20_000);
    expect(reads).toBeGreaterThanOrEqual(19);
    expect(seals).toBe(0);
    xray = [xrayReading('a', 5n)];
    await timers.advance(10_000);
    expect(seals).toBe(1);
    const [frame] = await frames();
    expect(frame?.header.windowMs).toBe(5000);
    expect((frame?.header.windowStartMs ?? 0) % 5000).toBe(1_700_000_000_000 % 5000);
    sampler.stop();
    xray = [xrayReading('a', 50n)];
    await timers.advance(20_000);
    expect(seals).toBe(1);
  });

  test('slow reads stretch the pause so that reading stays below 5 % of a core', () => {
    expect(readPauseMs(1000, 5)).toBe(995);
    expect(readPauseMs(1000, 50)).toBe(950);
    expect(readPauseMs(1000, 200)).toBe(3800);
    expect(readPauseMs(1000, 60_000)).toBe(10_000);
  });

  test('the first window after a restart begins where the journal ends', async () => {
    xray = [xrayReading('a', 5n)];
    await sampler.readAndSeal();
    const endMs = clock.now();
    clock.advance(3_600_000);
    await start();
    xray = [xrayReading('a', 9n)];
    await sampler.readAndSeal();
    const header = (await frames())[1]?.header;
    expect(header).toMatchObject({ windowStartMs: endMs, windowMs: 3_600_000 });
    clock.advance(2000);
    xray = [xrayReading('a', 10n)];
    await sampler.readAndSeal();
    expect((await frames())[2]?.header).toMatchObject({ windowMs: 2000 });
  });
});

describe('an engine that dies', () => {
  test('takes at most what it counted since the last read: that is sealed, the rest is marked with its bounds', async () => {
    sampler.start();
    xray = [xrayReading('a', 100n)];
    await timers.advance(1000);
    const readMs = clock.now();
    xray = new Error('gone');
    clock.advance(400);
    await sampler.engineDied('xray', clock.now());
    expect(await marks()).toEqual([
      { kind: 'engine_died', engine: 1, fromMs: expect.any(Number) as number, toMs: clock.now() },
    ]);
    const [mark] = await marks();
    expect(readMs - (mark?.fromMs ?? 0)).toBeLessThanOrEqual(1000);
    expect((await frames())[0]?.slices[0]?.rows).toBe(1);
    // Its next life is no second loss.
    xray = [xrayReading('b', 7n)];
    await timers.advance(6000);
    expect(await marks()).toHaveLength(1);
  });

  test('unseen between two reads is noticed by its new boot', async () => {
    xray = [xrayReading('a', 100n)];
    await sampler.read();
    const fromMs = clock.now();
    clock.advance(1000);
    xray = [xrayReading('b', 3n)];
    await sampler.readAndSeal();
    expect(await marks()).toEqual([{ kind: 'engine_died', engine: 1, fromMs, toMs: clock.now() }]);
  });

  test('together with the agent costs what it counted since the last journalled read', async () => {
    xray = [xrayReading('a', 100n)];
    await sampler.readAndSeal();
    const fromMs = clock.now();
    clock.advance(4000);
    xray = [xrayReading('a', 180n)];
    await sampler.read();
    clock.advance(60_000);
    await start();
    xray = [];
    await sampler.readAndSeal();
    expect(await marks()).toEqual([]);
    xray = [xrayReading('b', 9n)];
    await sampler.readAndSeal();
    expect(await marks()).toEqual([{ kind: 'engine_died', engine: 1, fromMs, toMs: clock.now() }]);
  });

  test('is not said of an engine that was stopped after a last read, here or before a restart of the agent', async () => {
    xray = [xrayReading('a', 100n)];
    await sampler.readAndSeal();
    await sampler.engineStopped('xray');
    clock.advance(60_000);
    await start();
    xray = [xrayReading('b', 9n)];
    await sampler.readAndSeal();
    expect(await marks()).toEqual([]);
    clock.advance(1000);
    xray = [xrayReading('c', 9n)];
    await sampler.readAndSeal();
    expect(await marks()).toHaveLength(1);
  });

  test('is not said of a WireGuard peer that was removed and added again', async () => {
    wireguard = [peerReading('a', 100n)];
    await sampler.readAndSeal();
    wireguard = [peerReading('a', 120n), peerReading('b', 0n)];
    await sampler.readAndSeal();
    wireguard = [peerReading('b', 30n)];
    await sampler.readAndSeal();
    expect(await marks()).toEqual([]);
    expect((await frames()).map((frame) => frame.slices[0]?.rows)).toEqual([1, 1, 1]);
    expect(wal.state.meters.size).toBe(2);
  });

  test('before any epoch was granted is marked in the first frame', async () => {
    files = openMemoryFiles();
    wal = await Wal.open({ files, capBytes: 1 << 20, nowMs: clock.now(), turns: new Mutex() });
    const early = new Sampler({
      engines: [{ name: 'xray', counters: () => Promise.resolve([xrayReading('a', 100n)]) }],
      wal,
      windowMs: 5000,
      clock,
      timers,
      correctedNow: () => clock.now(),
      identity: () => testIdentity(nodeId),
      tenantOf: () => tenant,
      onSealed: () => undefined,
      log: silent,
    });
    await early.read();
    await early.engineDied('xray', clock.now());
    await start();
    await sampler.seal(false);
    expect(await marks()).toMatchObject([{ kind: 'engine_died', engine: 1 }]);
    expect((await frames())[0]?.slices[0]?.rows).toBe(1);
  });
});

describe('waiting', () => {
  test('a removal gets a read that began after it asked, shared by all that wait', async () => {
    let answer: (readings: CounterReading[]) => void = () => undefined;
    xray = new Promise((resolve) => {
      answer = resolve;
    });
    const first = sampler.read();
    const waiting = [sampler.readAndSeal(), sampler.readAndSeal()];
    const late = [xrayReading('a', 77n)];
    xray = late;
    answer([xrayReading('a', 70n)]);
    await Promise.all([first, ...waiting]);
    expect(reads).toBe(2);
    expect(wal.state.meters.all()[Symbol.iterator]().next().value).toMatchObject({ baseUp: 77n });
  });

  test('an engine that hangs does not hold up the removal of a neighbour for longer than two seconds', async () => {
    xray = new Promise(() => undefined);
    wireguard = [peerReading('a', 50n)];
    let done = false;
    void sampler.readAndSeal().then(() => {
      done = true;
    });
    await timers.advance(1500);
    expect(done).toBe(false);
    await timers.advance(1000);
    expect(done).toBe(true);
    expect((await frames())[0]?.slices[0]?.rows).toBe(1);
  });

  test('an engine that cannot be read is told after three tries, and no longer when it can', async () => {
    xray = new Error('no');
    for (let i = 0; i < 2; i++) await sampler.read();
    expect(sampler.degraded.has('engine_unreadable')).toBe(false);
    await sampler.read();
    expect(sampler.degraded.has('engine_unreadable')).toBe(true);
    xray = [];
    await sampler.read();
    expect(sampler.degraded.has('engine_unreadable')).toBe(false);
  });

  test('a disk that takes ten seconds is told, and reading goes on meanwhile (R1-14)', async () => {
    let finish: () => void = () => undefined;
    const sync = files.sync;
    files.sync = (name) =>
      new Promise((resolve) => {
        finish = () => {
          resolve(sync(name));
        };
      });
    sampler.start();
    xray = [xrayReading('a', 5n)];
    await timers.advance(6000);
    const before = reads;
    await timers.advance(9000);
    expect(reads).toBeGreaterThan(before + 5);
    expect(sampler.writeIsSlow).toBe(true);
    expect(await frames()).toEqual([]);
    finish();
    await turns();
    expect(sampler.writeIsSlow).toBe(false);
    expect(await frames()).toHaveLength(1);
  });
});
