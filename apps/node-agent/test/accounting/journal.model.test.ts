// The journal against a disk that loses what was not synced, at every operation: nothing sealed is lost, nothing is
// counted twice, whatever order crashes, lost answers and engine restarts come in (R1-10, R1-02, R1-03, V47).
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { scanSegment } from '../../src/accounting/record.js';
import { CrashingFiles, seeded } from './crashing-files.js';
import { ModelLedger } from './model-ledger.js';
import { SimNode } from './sim-node.js';

const CRASH_POINTS = 1000;
const nodeId = Buffer.alloc(16, 0x42);

type Step =
  | { kind: 'traffic'; key: number; up: number; down: number }
  | { kind: 'read' }
  | { kind: 'seal' }
  | { kind: 'exchange'; frames: number; lost: number }
  | { kind: 'again'; key: number }
  | { kind: 'kill' }
  | { kind: 'cut'; after: number }
  | { kind: 'damage'; record: number; at: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('traffic' as const),
      key: fc.nat(7),
      up: fc.nat(5000),
      down: fc.nat(90_000),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('read' as const) }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('seal' as const) }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('exchange' as const), frames: fc.nat(6), lost: fc.nat(3) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('again' as const), key: fc.nat(7) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('kill' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('cut' as const), after: fc.nat(12) }) },
);

const damage: fc.Arbitrary<Step> = fc.record({
  kind: fc.constant('damage' as const),
  record: fc.nat(99),
  at: fc.nat(999),
});

/** Every frame that counts as sealed, by epoch and seq. */
type Sealed = Map<string, Buffer>;

async function note(node: SimNode, sealed: Sealed): Promise<void> {
  const { state } = node.wal;
  for (let seq = state.acked + 1n; seq < state.nextSeq; seq++) {
    const key = `${String(state.epoch)}/${String(seq)}`;
    if (sealed.has(key)) continue;
    const frame = await node.wal.frameAt(seq);
    if (frame !== null) sealed.set(key, frame.frameBytes);
  }
}

async function comeBack(node: SimNode, ledger: ModelLedger, sealed: Sealed): Promise<void> {
  await node.boot();
  for (const [key, bytes] of sealed) {
    const [epoch, seq] = key.split('/').map(BigInt) as [bigint, bigint];
    if (epoch !== BigInt(node.wal.state.epoch)) continue;
    const inLedger = epoch < BigInt(ledger.epoch) || seq <= ledger.seq;
    if (seq <= node.wal.state.acked && inLedger) continue;
    const frame = await node.wal.frameAt(seq);
    // Segments of acknowledged frames may be gone before the journal says so.
    if (frame === null && inLedger) continue;
    expect(frame?.frameBytes.equals(bytes), `frame ${key} after a restart`).toBe(true);
  }
}

async function play(steps: Step[], seed: number, cutAt = Infinity): Promise<number> {
  const files = new CrashingFiles(seeded(seed));
  files.cutAt = cutAt;
  const node = new SimNode(files, nodeId);
  const ledger = new ModelLedger(nodeId);
  const sealed: Sealed = new Map();
  const survive = async (work: () => Promise<unknown>): Promise<void> => {
    try {
      await work();
      if (!node.files.isOff) await note(node, sealed);
    } catch (error) {
      if (!node.files.isOff) throw error;
    }
    if (!node.files.isOff) return;
    node.files = node.files.restart();
    await comeBack(node, ledger, sealed);
  };
  await survive(() => node.boot());
  for (const one of steps) {
    const key = 'key' in one ? (node.keys[one.key] as string) : '';
    switch (one.kind) {
      case 'traffic':
        node.engineOf(key).move(key, BigInt(one.up), BigInt(one.down));
        break;
      case 'read':
        await node.sampler.read();
        break;
      case 'seal':
        await survive(() => node.readAndSeal());
        break;
      case 'exchange':
        await survive(() => node.exchange(ledger, one.frames, one.lost));
        break;
      case 'again':
        // A life ends only after its last value is journalled: what beforeRemoval is for.
        await survive(async () => {
          if (await node.readAndSeal()) node.engineOf(key).again(key);
        });
        break;
      case 'kill':
        node.files = node.files.reopen();
        await comeBack(node, ledger, sealed);
        break;
      case 'damage':
        node.files = node.files.reopen();
        flip(node.files, one.record, one.at);
        sealed.clear();
        await node.boot();
        break;
      case 'cut':
        node.files.cutAt = node.files.operations + 1 + one.after;
        break;
    }
  }
  const operations = node.files.operations;
  node.files.cutAt = Infinity;
  if (node.files.isOff) {
    node.files = node.files.restart();
    await comeBack(node, ledger, sealed);
  }
  await node.settle(ledger);
  expect(ledger.totals).toEqual(node.total);
  return operations;
}

/** Flips a bit in one record, counted from the newest. */
function flip(files: CrashingFiles, record: number, at: number): void {
  const all = files
    .names()
    .filter((name) => name.endsWith('.wal'))
    .flatMap((name) => {
      const number = BigInt(`0x${name.slice(8, 24)}`);
      return scanSegment(number, files.content(name)).records.map(({ offset, length }) => ({
        name,
        offset,
        length,
      }));
    })
    .reverse();
  const place = all[record % Math.max(1, all.length)];
  if (place === undefined) return;
  files.corrupt(place.name, (bytes) => {
    const byte = place.offset + (at % place.length);
    bytes.writeUInt8(bytes.readUInt8(byte) ^ 0x20, byte);
    return bytes;
  });
}

describe('the journal over a disk that loses power', () => {
  test('any order of crashes, lost answers and restarts keeps totals exact [V47]', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 60 }), fc.integer(), (steps, seed) =>
        play(steps, seed).then(() => undefined),
      ),
      { numRuns: 600 },
    );
  }, 120_000);

  test('damaged records on top of that: what the engines still show is counted once, and no stream is frozen', async () => {
    // Without lives that end: what only a damaged record knew of them is lost, and marked (journal.damage.test.ts).
    const steps = fc.array(fc.oneof({ weight: 12, arbitrary: step }, { weight: 1, arbitrary: damage }), {
      minLength: 4,
      maxLength: 60,
    });
    await fc.assert(
      fc.asyncProperty(steps, fc.integer(), async (all, seed) => {
        await play(
          all.filter((one) => one.kind !== 'again'),
          seed,
        );
      }),
      { numRuns: 400 },
    );
  }, 120_000);

  test('a power cut at every single operation of a long run loses nothing that was sealed [R1-10]', async () => {
    const random = seeded(20);
    const steps: Step[] = [];
    for (let i = 0; i < 36; i++) {
      steps.push({
        kind: 'traffic',
        key: Math.floor(random() * 8),
        up: Math.floor(random() * 1e6),
        down: Math.floor(random() * 1e9),
      });
      if (i % 2 === 0) steps.push({ kind: 'seal' });
      if (i % 6 === 5) steps.push({ kind: 'exchange', frames: 5, lost: i % 3 });
      if (i % 10 === 9) steps.push({ kind: 'again', key: Math.floor(random() * 8) });
    }
    const operations = await play(steps, 1);
    expect(operations).toBeGreaterThan(50);
    // What an unsynced write leaves behind is drawn anew each time round.
    for (let points = 0; points < CRASH_POINTS; points++) {
      await play(steps, points, 1 + (points % operations));
    }
  }, 240_000);
});
