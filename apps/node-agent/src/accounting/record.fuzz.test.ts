// 100,000 generated inputs for the journal's decoders: a record is refused or exact, a body is refused with a code of
// ours or encodes to the same bytes again, and a scan finds every record that nobody touched.
import { expect, test } from 'vitest';
import { AppError } from '@penstock/domain/errors';
import { encodeHeader } from '@penstock/ledger/frame';
import { emptyState } from './journal-state.js';
import { newMeter } from './meters.js';
import { decodeRecord, encodeRecord, encodeSegmentHeader, scanSegment, type RecordType } from './record.js';
import {
  decodeAckBody,
  decodeCheckpoint,
  decodeFrameBody,
  decodeReadingsBody,
  encodeAckBody,
  encodeCheckpoint,
  encodeFrameBody,
  encodeReadingsBody,
} from './record-body.js';

const INPUTS = 100_000;
const types: RecordType[] = ['checkpoint', 'frame', 'gap', 'ack', 'readings'];

type Below = (n: number) => number;

function seeded(seed: number): Below {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 4_294_967_296) * below);
  };
}

function randomBytes(below: Below, length: number): Buffer {
  const out = Buffer.alloc(length);
  for (let i = 0; i < length; i++) out[i] = below(256);
  return out;
}

function changed(below: Below, valid: Buffer): Buffer {
  let bytes = Buffer.from(valid);
  for (let changes = below(4); changes > 0 && bytes.length > 0; changes--) {
    const at = below(bytes.length);
    const what = below(5);
    if (what === 0) bytes[at] = (bytes[at] as number) ^ (1 << below(8));
    else if (what === 1) bytes = bytes.subarray(0, at);
    else if (what === 2) bytes = Buffer.concat([bytes, randomBytes(below, below(60))]);
    else if (what === 3)
      bytes.fill([0, 0xff, 0x7f][below(3)] as number, at, Math.min(bytes.length, at + 1 + below(8)));
    else bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(below(bytes.length))]);
  }
  return bytes;
}

function frameBody(below: Below): Buffer {
  const header = {
    kind: 'data' as const,
    nodeId: randomBytes(below, 16),
    epoch: 1 + below(9),
    seq: BigInt(1 + below(99)),
    windowStartMs: below(2 ** 31),
    windowMs: below(5000),
    prevDigest: randomBytes(below, 32),
    certificateSerial: randomBytes(below, 16),
    marks: [],
    lostDigest: null,
  };
  const engines = new Map([[1 + below(2), { readMs: below(2 ** 31), ended: below(2) === 1 }]]);
  const sealed = { frameBytes: encodeHeader(header, 0), signature: randomBytes(below, 64) };
  const acked = { seq: BigInt(below(100)), link: randomBytes(below, 32) };
  return encodeFrameBody(engines, acked, sealed);
}

function checkpointBody(below: Below): Buffer {
  const state = emptyState();
  state.epoch = below(5);
  state.nextSeq = BigInt(10 + below(9));
  state.acked = BigInt(below(9));
  state.windowEndMs = below(2 ** 31);
  state.engines.set(1, { readMs: below(2 ** 31), ended: below(2) === 1 });
  state.marks = [{ kind: 'record_lost', engine: 0, fromMs: below(9), toMs: 9 + below(9) }];
  state.lost.add(BigInt(below(9)));
  state.doubtful.add(BigInt(below(9)));
  state.sliceHeads.set(randomBytes(below, 16).toString('hex'), randomBytes(below, 32));
  for (let i = below(4); i > 0; i--) {
    const meter = newMeter(BigInt(1 + below(2 ** 31)), 1 + below(2), randomBytes(below, 16));
    if (below(2) === 0) {
      meter.boot = randomBytes(below, 16);
      meter.device = randomBytes(below, 16);
    }
    if (below(3) > 0) meter.tenant = randomBytes(below, 16);
    meter.baseUp = BigInt(below(1000));
    meter.readUp = meter.baseUp + BigInt(below(1000));
    meter.readDown = BigInt(below(2 ** 31));
    meter.lastSeq = BigInt(below(9));
    state.meters.load(meter);
  }
  return encodeCheckpoint(state);
}

function readingsBody(below: Below): Buffer {
  const readings = Array.from({ length: below(4) }, () => ({
    number: BigInt(below(2 ** 31)),
    identity: {
      engine: below(3),
      boot: randomBytes(below, 16),
      subscription: randomBytes(below, 16),
      device: randomBytes(below, 16),
    },
    tenant: below(2) === 0 ? null : randomBytes(below, 16),
    up: BigInt(below(2 ** 31)),
    down: BigInt(below(2 ** 31)),
  }));
  const marks = [{ kind: 'engine_died' as const, engine: 1, fromMs: below(9), toMs: 9 + below(9) }];
  return encodeReadingsBody({ engines: new Map([[1, { readMs: 5, ended: false }]]), marks, readings });
}

/** Decodes and encodes again: equal bytes or a refusal. */
function check(below: Below, make: (below: Below) => Buffer, again: (bytes: Buffer) => Buffer): void {
  let exact = 0;
  let refused = 0;
  for (let i = 0; i < INPUTS / 4; i++) {
    const bytes = below(10) === 0 ? randomBytes(below, below(400)) : changed(below, make(below));
    try {
      const encoded = again(bytes);
      if (!encoded.equals(bytes)) expect.fail(bytes.toString('hex'));
      exact++;
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      refused++;
    }
  }
  expect(exact).toBeGreaterThan(1000);
  expect(refused).toBeGreaterThan(1000);
}

test('bodies of all kinds [R3-19]', () => {
  const below = seeded(4);
  check(below, frameBody, (bytes) => {
    const { engines, acked, ...sealed } = decodeFrameBody(bytes);
    return encodeFrameBody(engines, acked, sealed);
  });
  check(below, checkpointBody, (bytes) => encodeCheckpoint(decodeCheckpoint(bytes)));
  check(below, readingsBody, (bytes) => encodeReadingsBody(decodeReadingsBody(bytes)));
  check(
    below,
    (next) => encodeAckBody(next(2 ** 31), { seq: BigInt(next(2 ** 31)), link: randomBytes(next, 32) }),
    (bytes) => {
      const { epoch, acked } = decodeAckBody(bytes);
      return encodeAckBody(epoch, acked);
    },
  );
}, 120_000);

test('records: only the bytes that were written pass, and only in their own segment', () => {
  const below = seeded(5);
  let exact = 0;
  for (let i = 0; i < INPUTS; i++) {
    const type = types[below(types.length)] as RecordType;
    const segment = BigInt(1 + below(3));
    const valid = encodeRecord(segment, type, BigInt(below(1000)), randomBytes(below, below(120)));
    const bytes = changed(below, valid);
    const record = decodeRecord(segment, bytes, 0);
    if (record !== null) {
      if (!bytes.subarray(0, record.length).equals(valid)) expect.fail(bytes.toString('hex'));
      exact++;
    }
    if (decodeRecord(segment + 1n, valid, 0) !== null) expect.fail('a record passes in another segment');
  }
  expect(exact).toBeGreaterThan(INPUTS / 10);
  expect(exact).toBeLessThan(INPUTS / 2);
}, 120_000);

test('a scan finds every record that nobody touched', () => {
  const below = seeded(6);
  for (let round = 0; round < 3000; round++) {
    const segment = 7n;
    const records = Array.from({ length: 1 + below(8) }, (_, i) =>
      encodeRecord(
        segment,
        types[below(types.length)] as RecordType,
        BigInt(i),
        randomBytes(below, below(90)),
      ),
    );
    const bytes = Buffer.concat([encodeSegmentHeader(segment), ...records]);
    const touched = new Set<number>();
    for (let changes = below(3); changes > 0; changes--) {
      const i = below(records.length);
      const start = 16 + records.slice(0, i).reduce((sum, record) => sum + record.length, 0);
      const at = start + below((records[i] as Buffer).length);
      bytes[at] = (bytes[at] as number) ^ (1 << below(8));
      touched.add(i);
    }
    const scan = scanSegment(segment, bytes);
    const found = new Set(scan.records.map((record) => Number(record.ordinal)));
    for (let i = 0; i < records.length; i++) if (!touched.has(i)) expect(found.has(i)).toBe(true);
    if (touched.size === 0)
      expect(scan).toMatchObject({ holes: [], tail: 'clean', soundBytes: bytes.length });
  }
}, 120_000);
