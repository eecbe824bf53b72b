// 100,000 generated inputs for each decoder: refused with a code of ours, or decoded exactly (encoding the result gives
// the same bytes). Never anything else.
import { expect, test } from 'vitest';
import { AppError } from '@penstock/domain/errors';
import {
  decodeFrame,
  decodeHeader,
  encodeFrame,
  encodeHeader,
  encodePayload,
  openedMeters,
  sampleRows,
} from './frame.js';

const INPUTS = 100_000;

function seeded(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 4_294_967_296) * below);
  };
}

function randomBytes(below: (n: number) => number, length: number): Buffer {
  const out = Buffer.alloc(length);
  for (let i = 0; i < length; i++) out[i] = below(256);
  return out;
}

function validHeader(below: (n: number) => number, slices: number): Buffer {
  const kind = below(5) === 0 ? ('gap' as const) : ('data' as const);
  return encodeHeader(
    {
      kind,
      nodeId: randomBytes(below, 16),
      epoch: 1 + below(1000),
      seq: BigInt(1 + below(1_000_000)),
      windowStartMs: below(2 ** 31) * 1000,
      windowMs: below(60_000),
      prevDigest: randomBytes(below, 32),
      certificateSerial: randomBytes(below, 16),
      marks: Array.from({ length: below(3) }, () => ({
        kind: 'engine_died' as const,
        engine: below(3),
        fromMs: below(100),
        toMs: 100 + below(100),
      })),
      lostDigest: kind === 'gap' ? randomBytes(below, 32) : null,
    },
    slices,
  );
}

function validFrame(below: (n: number) => number): Buffer {
  const count = below(4);
  const slices = Array.from({ length: count }, (_, i) => {
    const opened = below(3);
    const rows = below(4);
    const tenantId = randomBytes(below, 16);
    tenantId[0] = i * 50;
    const payload = randomBytes(below, opened * 57 + rows * 57);
    return { tenantId, opened, rows, prevDigest: randomBytes(below, 32), payload };
  });
  return encodeFrame(validHeader(below, count), slices);
}

/** Flips, cuts, joins and overwrites a valid input; now and then leaves it, or makes something from nothing. */
function generated(below: (n: number) => number, valid: (below: (n: number) => number) => Buffer): Buffer {
  const what = below(12);
  if (what === 0) return randomBytes(below, below(300));
  let bytes = valid(below);
  if (what === 1) return bytes;
  for (let changes = 1 + below(3); changes > 0 && bytes.length > 0; changes--) {
    const at = below(bytes.length);
    switch (below(6)) {
      case 0:
        bytes[at] = (bytes[at] as number) ^ (1 << below(8));
        break;
      case 1:
        bytes = bytes.subarray(0, at);
        break;
      case 2:
        bytes = Buffer.concat([bytes, randomBytes(below, below(80))]);
        break;
      case 3:
        bytes.fill([0, 0xff, 0x7f, 0x80][below(4)] as number, at, Math.min(bytes.length, at + 1 + below(8)));
        break;
      case 4:
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          bytes.subarray(Math.min(bytes.length, at + below(70))),
        ]);
        break;
      case 5:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(below(bytes.length))]);
        break;
    }
  }
  return bytes;
}

function run(
  seed: number,
  valid: (below: (n: number) => number) => Buffer,
  exact: (bytes: Buffer) => boolean,
): { exact: number; refused: number } {
  const below = seeded(seed);
  const counts = { exact: 0, refused: 0 };
  for (let i = 0; i < INPUTS; i++) {
    const bytes = generated(below, valid);
    try {
      if (!exact(bytes))
        expect.fail(
          `input ${String(i)} of seed ${String(seed)} decoded to something else: ${bytes.toString('hex')}`,
        );
      counts.exact++;
    } catch (error) {
      if (!(error instanceof AppError) || !['frame_malformed', 'frame_too_large'].includes(error.code))
        throw error;
      counts.refused++;
    }
  }
  return counts;
}

test('headers', () => {
  const counts = run(
    1,
    (below) => validHeader(below, below(9)),
    (bytes) => {
      const { header, length, sliceCount } = decodeHeader(bytes);
      return encodeHeader(header, sliceCount).equals(bytes.subarray(0, length));
    },
  );
  expect(counts.exact).toBeGreaterThan(10_000);
  expect(counts.refused).toBeGreaterThan(10_000);
}, 120_000);

test('frames [R3-19]', () => {
  const counts = run(2, validFrame, (bytes) => {
    const frame = decodeFrame(bytes);
    const payloads = frame.slices.every((slice) =>
      encodePayload(openedMeters(slice), sampleRows(slice)).equals(slice.payload),
    );
    const header = encodeHeader(frame.header, frame.slices.length);
    return payloads && encodeFrame(header, frame.slices).equals(bytes);
  });
  expect(counts.exact).toBeGreaterThan(5_000);
  expect(counts.refused).toBeGreaterThan(10_000);
}, 120_000);
