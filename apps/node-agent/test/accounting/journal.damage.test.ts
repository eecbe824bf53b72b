// Damaged journals: each record in turn, torn ends, lost checkpoints, rot while the agent runs, a full disk. The healthy
// records are replayed, the loss is a signed gap frame or a new epoch, and totals are exact afterwards (R1-13, R1-15).
import { beforeEach, describe, expect, test } from 'vitest';
import { sampleRows } from '@penstock/ledger/frame';
import { decodeFrameBody } from '../../src/accounting/record-body.js';
import { scanSegment } from '../../src/accounting/record.js';
import { stretchedWindowMs } from '../../src/accounting/window.js';
import { CrashingFiles, seeded } from './crashing-files.js';
import { ModelLedger } from './model-ledger.js';
import { SimNode } from './sim-node.js';

const nodeId = Buffer.alloc(16, 0x43);

interface Scene {
  node: SimNode;
  ledger: ModelLedger;
  random: () => number;
}

/** A node with frames 1…`accepted` in the ledger and the rest only in the journal, some answers lost. */
async function scene(seed: number, frames: number, accepted: number, lost = 0): Promise<Scene> {
  const random = seeded(seed);
  const node = new SimNode(new CrashingFiles(random), nodeId);
  const ledger = new ModelLedger(nodeId);
  await node.boot();
  await node.exchange(ledger);
  for (let i = 0; i < frames; i++) {
    for (const key of node.keys)
      if (random() < 0.6) node.engineOf(key).move(key, bytes(random), bytes(random));
    expect(await node.readAndSeal()).toBe(true);
    if (i + 1 === accepted) await node.exchange(ledger, Infinity, lost);
    if (i % 5 === 4) {
      const key = node.keys[Math.floor(random() * node.keys.length)] as string;
      node.engineOf(key).again(key);
    }
  }
  return { node, ledger, random };
}

function bytes(random: () => number): bigint {
  return BigInt(Math.floor(random() * 2 ** 40));
}

/** Where each record of each segment lies. */
function places(
  files: CrashingFiles,
): { name: string; offset: number; length: number; type: string; body: Buffer }[] {
  return files
    .names()
    .filter((name) => name.endsWith('.wal'))
    .flatMap((name) => {
      const number = BigInt(`0x${name.slice(8, 24)}`);
      return scanSegment(number, files.content(name)).records.map((record) => ({ name, ...record }));
    });
}

const damages: Record<string, (bytes: Buffer, offset: number, length: number) => Buffer> = {
  'a flipped bit in the head': (bytes, offset) => flipped(bytes, offset + 9),
  'a flipped bit in the body': (bytes, offset, length) => flipped(bytes, offset + length - 3),
  'a flipped bit in the length': (bytes, offset) => flipped(bytes, offset + 11),
  'a page of zeros': (bytes, offset, length) => bytes.fill(0, offset, offset + length),
  'foreign bytes': (bytes, offset, length) => bytes.fill(0x50, offset + 2, offset + length),
};

function flipped(bytes: Buffer, at: number): Buffer {
  bytes.writeUInt8(bytes.readUInt8(at) ^ 0x10, at);
  return bytes;
}

async function restartAndSettle({ node, ledger, random }: Scene): Promise<void> {
  node.files = node.files.reopen();
  await node.boot();
  for (const key of node.keys) if (random() < 0.5) node.engineOf(key).move(key, bytes(random), bytes(random));
  await node.settle(ledger);
  expect(ledger.verifier.report.problem).toBeNull();
}

describe('a damaged record', () => {
  for (const [what, damage] of Object.entries(damages)) {
    test(`${what}: each record in turn; the others replay and totals are exact [R1-13]`, async () => {
      let gaps = 0;
      const count = places((await scene(1, 14, 4, 2)).node.files).length;
      expect(count).toBeGreaterThan(14);
      for (let i = 0; i < count; i++) {
        const one = await scene(1, 14, 4, 2);
        const place = places(one.node.files)[i] as ReturnType<typeof places>[number];
        // Bytes of lives that ended stand only in their frames: what is lost with one is measured, not guessed.
        const lostAtMost = place.type === 'frame' ? bytesOfEndedLives(place.body, one) : 0n;
        one.node.files.corrupt(place.name, (all) => damage(all, place.offset, place.length));
        await restartAndSettle(one);
        const total = one.node.total;
        const missing = total.up + total.down - one.ledger.totals.up - one.ledger.totals.down;
        expect(missing, `record ${String(i)} (${place.type})`).toBeGreaterThanOrEqual(0n);
        expect(missing, `record ${String(i)} (${place.type})`).toBeLessThanOrEqual(lostAtMost);
        if (what === 'a flipped bit in the body') expect(one.node.wal.corruptRecords).toBe(1);
        gaps += one.ledger.verifier.report.gaps.length;
        if (missing > 0n)
          expect(one.ledger.verifier.report.marks.some((mark) => mark.kind === 'record_lost')).toBe(true);
      }
      expect(gaps).toBeGreaterThan(0);
    }, 60_000);
  }

  /** Bytes in the frame's rows of meters whose life is over, so that no engine can show them again. */
  function bytesOfEndedLives(body: Buffer, one: Scene): bigint {
    const living = new Set(
      one.node.engines.flatMap((engine) => [...engine.lives.values()].map((life) => life.boot)),
    );
    let sum = 0n;
    for (const slice of decodeFrameBody(body).view.slices) {
      for (const row of sampleRows(slice)) {
        const boot = one.node.wal.state.meters.get(row.meter)?.boot;
        if (boot === undefined || boot === null || !living.has(boot.toString('hex')))
          sum += row.deltaUp + row.deltaDown;
      }
    }
    return sum;
  }

  test('two records in a row become two gap frames and heal', async () => {
    const one = await scene(2, 10, 3);
    const frames = places(one.node.files).filter((place) => place.type === 'frame');
    for (const place of frames.slice(5, 7)) {
      one.node.files.corrupt(place.name, (all) => flipped(all, place.offset + place.length - 1));
    }
    await restartAndSettle(one);
    const { report } = one.ledger.verifier;
    expect(report.gaps.map((gap) => gap.seq)).toEqual([6n, 7n]);
    expect(report.healedDownBytes).toBeGreaterThan(0n);
  });

  test('a record that rots while the agent runs heals in full, also for meters that never move again', async () => {
    const one = await scene(3, 8, 2);
    const [place] = places(one.node.files)
      .filter((candidate) => candidate.type === 'frame')
      .slice(4, 5);
    if (place === undefined) throw new Error('no such record');
    one.node.files.corrupt(place.name, (all) => flipped(all, place.offset + 50));
    await one.node.settle(one.ledger);
    expect(one.ledger.verifier.report.gaps).toHaveLength(1);
    expect(one.ledger.totals).toEqual(one.node.total);
    expect(one.node.wal.corruptRecords).toBe(1);
  });

  test('a gap frame that was sent keeps its bytes when it is sent again after a restart', async () => {
    const one = await scene(4, 8, 2);
    const [place] = places(one.node.files)
      .filter((candidate) => candidate.type === 'frame')
      .slice(3, 4);
    if (place === undefined) throw new Error('no such record');
    one.node.files.corrupt(place.name, (all) => flipped(all, place.offset + 50));
    one.node.files = one.node.files.reopen();
    await one.node.boot();
    await one.node.exchange(one.ledger, 3, 3);
    await restartAndSettle(one);
    expect(one.ledger.verifier.report.gaps).toHaveLength(1);
    expect(one.ledger.epoch).toBe(1);
  });

  test('a frame that the ledger has and the journal lost leads to a new epoch, not to a gap', async () => {
    const one = await scene(5, 6, 6, 3);
    const place = places(one.node.files).filter((candidate) => candidate.type === 'frame')[4];
    if (place === undefined) throw new Error('no such record');
    one.node.files.corrupt(place.name, (all) => flipped(all, place.offset + 50));
    await restartAndSettle(one);
    expect(one.ledger.epoch).toBe(2);
    expect(one.ledger.verifier.report.gaps).toHaveLength(0);
    expect(one.ledger.totals).toEqual(one.node.total);
  });
});

describe('the end of the journal', () => {
  let one: Scene;
  beforeEach(async () => {
    one = await scene(6, 6, 3);
  });

  test('a torn write is cut without a word: it was never sealed', async () => {
    const [last] = places(one.node.files).slice(-1);
    if (last === undefined) throw new Error('no record');
    for (let kept = last.offset + 1; kept < last.offset + last.length; kept += 7) {
      const again = await scene(6, 6, 3);
      again.node.files.corrupt(last.name, (all) => all.subarray(0, kept));
      await restartAndSettle(again);
      expect(again.ledger.verifier.report.marks).toEqual([]);
      expect(again.ledger.totals).toEqual(again.node.total);
    }
  });

  test('a damaged end that may have been sealed is marked and leads to a new epoch', async () => {
    const [last] = places(one.node.files).slice(-1);
    if (last === undefined) throw new Error('no record');
    one.node.files.corrupt(last.name, (all) => flipped(all, last.offset + last.length - 1));
    await restartAndSettle(one);
    expect(one.ledger.verifier.report.marks.map((mark) => mark.kind)).toEqual(['record_lost']);
    expect(one.ledger.totals).toEqual(one.node.total);
    expect(one.ledger.epoch).toBe(2);
  });

  test('an end that the ledger has and the journal lost leads to a new epoch', async () => {
    await one.node.exchange(one.ledger, Infinity, 3);
    const [last] = places(one.node.files).slice(-1);
    if (last === undefined) throw new Error('no record');
    one.node.files.corrupt(last.name, (all) => flipped(all, last.offset + last.length - 1));
    await restartAndSettle(one);
    expect(one.ledger.epoch).toBe(2);
    expect(one.ledger.totals).toEqual(one.node.total);
  });

  test('a journal put back from an old copy is a lost tail; one that went another way is frozen', async () => {
    const old = one.node.files;
    const copy = new CrashingFiles(one.random);
    for (const name of old.names()) {
      await copy.create(name);
      await copy.write(name, 0, old.content(name));
    }
    await one.node.exchange(one.ledger);
    for (const key of one.node.keys) one.node.engineOf(key).move(key, 5n, 5n);
    await one.node.settle(one.ledger);
    one.node.files = copy;
    await one.node.boot();
    for (const key of one.node.keys) one.node.engineOf(key).move(key, 7n, 7n);
    await one.node.readAndSeal();
    await expect(one.node.exchange(one.ledger)).rejects.toThrow('frozen');
  });
});

test('an acknowledgement is remembered with its link when its segment is gone', async () => {
  const one = await scene(15, 1, 0);
  const move = (): void => one.node.keys.forEach((key) => one.node.engineOf(key).move(key, 3n, 3n));
  one.node.files = one.node.files.reopen();
  await one.node.boot();
  await one.node.exchange(one.ledger, 1, 1);
  move();
  await one.node.readAndSeal();
  await one.node.exchange(one.ledger, 0);
  move();
  await one.node.readAndSeal();
  await restartAndSettle(one);
  expect(one.ledger.totals).toEqual(one.node.total);
  expect(one.ledger.epoch).toBe(1);
});

describe('lost state', () => {
  test('a lost journal continues from the ledger’s values [V46]', async () => {
    const one = await scene(7, 9, 9);
    one.node.files = new CrashingFiles(one.random);
    await restartAndSettle(one);
    expect(one.ledger.epoch).toBe(2);
    expect(one.ledger.totals).toEqual(one.node.total);
  });

  test('a lost journal with unsent frames loses only what ended engines alone knew', async () => {
    const one = await scene(8, 4, 2);
    one.node.files = new CrashingFiles(one.random);
    await restartAndSettle(one);
    expect(one.ledger.totals).toEqual(one.node.total);
    expect(one.ledger.verifier.report.marks[0]).toMatchObject({ kind: 'record_lost', engine: 0 });
  });

  test('a ledger put back from an old backup gets everything again', async () => {
    const one = await scene(9, 4, 4);
    const restored = new ModelLedger(nodeId);
    await one.node.readAndSeal();
    for (let round = 0; round < 3; round++) await one.node.exchange(restored);
    await one.node.settle(restored);
    expect(restored.totals).toEqual(one.node.total);
  });

  test('values read before the first epoch was granted survive crashes and ended engines', async () => {
    const random = seeded(10);
    const node = new SimNode(new CrashingFiles(random), nodeId);
    await node.boot();
    for (let i = 0; i < 10; i++) {
      const key = node.keys[i % node.keys.length] as string;
      node.engineOf(key).move(key, 100n, 1000n);
      expect(await node.readAndSeal()).toBe(true);
      node.engineOf(key).again(key);
      node.files = node.files.restart();
      await node.boot();
    }
    const ledger = new ModelLedger(nodeId);
    await node.settle(ledger);
    expect(ledger.totals).toEqual(node.total);
  });

  test('usage after a removal still finds its tenant', async () => {
    const one = await scene(11, 3, 1);
    one.node.tenantsKnown = false;
    for (const key of one.node.keys) one.node.engineOf(key).move(key, 11n, 13n);
    await restartAndSettle(one);
    expect(one.ledger.totals).toEqual(one.node.total);
  });
});

describe('a full disk', () => {
  test('stretches the window, keeps serving, and is exact when there is room again [R1-15]', async () => {
    const one = await scene(12, 3, 3);
    one.node.files.spaceBytes = 40_000;
    let failures = 0;
    for (let i = 0; i < 60; i++) {
      for (const key of one.node.keys) one.node.engineOf(key).move(key, 1000n, 2000n);
      if (!(await one.node.readAndSeal())) failures++;
    }
    expect(failures).toBeGreaterThan(10);
    one.node.files.spaceBytes = Infinity;
    await one.node.settle(one.ledger);
    expect(one.ledger.totals).toEqual(one.node.total);
  });

  test('a full journal refuses frames but not those before a removal, and no byte is lost [R1-15]', async () => {
    const node = new SimNode(new CrashingFiles(seeded(13)), nodeId, 40);
    node.capBytes = 256 * 1024;
    const ledger = new ModelLedger(nodeId);
    await node.boot();
    await node.exchange(ledger);
    let fullAt = 0;
    for (let i = 0; i < 120; i++) {
      for (const key of node.keys) node.engineOf(key).move(key, 1000n, 2000n);
      if (!(await node.readAndSeal())) fullAt ||= i;
    }
    expect(fullAt).toBeGreaterThan(10);
    expect(node.wal.bytes).toBeLessThanOrEqual(256 * 1024);
    expect(node.sampler.windowMs).toBeGreaterThan(5000);
    const key = node.keys[0] as string;
    node.engineOf(key).move(key, 5n, 5n);
    await node.sampler.readAndSeal();
    expect(node.sampler.degraded.has('journal_full')).toBe(false);
    node.engineOf(key).again(key);
    node.files = node.files.reopen();
    await node.boot();
    await node.settle(ledger);
    expect(ledger.totals).toEqual(node.total);
    expect(ledger.epoch).toBe(1);
  });

  test('a failing sync is no seal, and nothing is written behind it', async () => {
    const one = await scene(14, 3, 1);
    one.node.files.failSyncs = true;
    const [key] = one.node.keys as [string];
    one.node.engineOf(key).move(key, 9n, 9n);
    expect(await one.node.readAndSeal()).toBe(false);
    one.node.files.failSyncs = false;
    one.node.engineOf(key).move(key, 9n, 9n);
    expect(await one.node.readAndSeal()).toBe(true);
    one.node.files = one.node.files.restart();
    await one.node.boot();
    await one.node.settle(one.ledger);
    expect(one.ledger.totals).toEqual(one.node.total);
    expect(one.ledger.epoch).toBe(1);
  });

  test('windows double with each further twelfth, up to an hour', () => {
    expect(stretchedWindowMs(5000, 0.25)).toBe(5000);
    expect(stretchedWindowMs(5000, 0.32)).toBe(10_000);
    expect(stretchedWindowMs(5000, 0.6)).toBe(160_000);
    expect(stretchedWindowMs(5000, 1)).toBe(3_600_000);
  });
});
