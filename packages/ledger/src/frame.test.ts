// A frame's bytes: what is encoded decodes to the same, what is not exactly one well-formed frame is refused, and the
// bytes and digests of version 1 never change (golden vectors: a change here breaks every stored ledger).
import { describe, expect, test } from 'vitest';
import fc from 'fast-check';
import { AppError } from '@penstock/domain/errors';
import { FRAME_BYTES_MAX } from '@penstock/domain/terms';
import { digestsOfFrame, frameLink } from './chain.js';
import { frameDigest, sliceDigest } from './digest.js';
import {
  decodeFrame,
  decodeHeader,
  encodeFrame,
  encodeHeader,
  encodePayload,
  MARKS_MAX,
  openedMeters,
  rowColumns,
  sampleRows,
  ZERO_DIGEST,
  type FrameHeader,
  type OpenedMeter,
  type SampleRow,
  type SliceView,
} from './frame.js';

const u64 = fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn });
const bytesOf = (length: number): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ minLength: length, maxLength: length }).map((bytes) => Buffer.from(bytes));
const id = bytesOf(16);

const opened: fc.Arbitrary<OpenedMeter> = fc.record({
  meter: u64,
  engine: fc.nat(255),
  boot: id,
  subscription: id,
  device: id,
});
const row: fc.Arbitrary<SampleRow> = fc.record({
  subscription: id,
  engine: fc.nat(255),
  meter: u64,
  deltaUp: u64,
  deltaDown: u64,
  cumulativeUp: u64,
  cumulativeDown: u64,
});
const times = fc
  .tuple(fc.nat(2 ** 31), fc.nat(2 ** 31))
  .map(([a, b]) => ({ fromMs: Math.min(a, b), toMs: Math.max(a, b) }));
const header: fc.Arbitrary<FrameHeader> = fc
  .record({
    kind: fc.constantFrom('data' as const, 'gap' as const),
    nodeId: id,
    epoch: fc.integer({ min: 1, max: 2_147_483_647 }),
    seq: fc.bigInt({ min: 1n, max: 9_223_372_036_854_775_807n }),
    windowStartMs: fc.nat(8_640_000_000_000_000),
    windowMs: fc.nat(604_800_000),
    prevDigest: bytesOf(32),
    certificateSerial: id,
    marks: fc.array(
      fc
        .tuple(fc.constantFrom('engine_died' as const, 'record_lost' as const), fc.nat(255), times)
        .map(([kind, engine, bounds]) => ({ kind, engine, ...bounds })),
      { maxLength: 4 },
    ),
    lost: bytesOf(32),
  })
  .map(({ lost, ...rest }) => ({ ...rest, lostDigest: rest.kind === 'gap' ? lost : null }));
const slices = fc
  .uniqueArray(
    fc.tuple(id, fc.array(opened, { maxLength: 3 }), fc.array(row, { maxLength: 5 }), bytesOf(32)),
    {
      maxLength: 5,
      selector: ([tenant]) => tenant.toString('hex'),
    },
  )
  .map((list) =>
    list
      .sort((a, b) => a[0].compare(b[0]))
      .map(([tenantId, meters, rows, prevDigest]) => ({ tenantId, meters, rows, prevDigest })),
  );

function view(slice: {
  tenantId: Buffer;
  meters: OpenedMeter[];
  rows: SampleRow[];
  prevDigest: Buffer;
}): SliceView {
  const payload = encodePayload(slice.meters, slice.rows);
  return {
    tenantId: slice.tenantId,
    opened: slice.meters.length,
    rows: slice.rows.length,
    prevDigest: slice.prevDigest,
    payload,
  };
}

describe('encoding', () => {
  test('everything that goes in comes out', () => {
    fc.assert(
      fc.property(header, slices, (head, parts) => {
        const bytes = encodeFrame(encodeHeader(head, parts.length), parts.map(view));
        const frame = decodeFrame(bytes);
        expect(frame.header).toEqual(head);
        expect(frame.slices.map((slice) => slice.tenantId)).toEqual(parts.map((part) => part.tenantId));
        frame.slices.forEach((slice, i) => {
          expect(openedMeters(slice)).toEqual(parts[i]?.meters);
          expect(sampleRows(slice)).toEqual(parts[i]?.rows);
          expect(slice.prevDigest).toEqual(parts[i]?.prevDigest);
        });
      }),
      { numRuns: 300 },
    );
  });

  test('any byte more, less or reordered is refused or changes the digest', () => {
    fc.assert(
      fc.property(header, slices, fc.nat(), fc.nat(255), (head, parts, at, value) => {
        const bytes = encodeFrame(encodeHeader(head, parts.length), parts.map(view));
        const original = digestsOfFrame(decodeFrame(bytes)).digest;
        expect(() => decodeFrame(bytes.subarray(0, bytes.length - 1))).toThrow(AppError);
        expect(() => decodeFrame(Buffer.concat([bytes, Buffer.alloc(1)]))).toThrow(AppError);
        const changed = Buffer.from(bytes);
        const place = at % bytes.length;
        if (changed[place] === value) return;
        changed[place] = value;
        try {
          expect(digestsOfFrame(decodeFrame(changed)).digest.equals(original)).toBe(false);
        } catch (error) {
          expect(error).toBeInstanceOf(AppError);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('refusals', () => {
  const head: FrameHeader = {
    kind: 'data',
    nodeId: Buffer.alloc(16, 1),
    epoch: 1,
    seq: 1n,
    windowStartMs: 0,
    windowMs: 5000,
    prevDigest: ZERO_DIGEST,
    certificateSerial: Buffer.alloc(16, 2),
    marks: [],
    lostDigest: null,
  };
  const change = (at: number, bytes: number[]): Buffer => {
    const out = encodeHeader(head, 0);
    Buffer.from(bytes).copy(out, at);
    return out;
  };
  const cases: [string, Buffer, string][] = [
    ['nothing', Buffer.alloc(0), 'cut off'],
    ['another version', change(0, [0, 2]), 'version'],
    ['an unknown kind', change(2, [9]), 'kind'],
    ['unknown flags', change(3, [1]), 'flags'],
    ['epoch 0', change(20, [0, 0, 0, 0]), 'epoch'],
    ['seq 0', change(24, [0, 0, 0, 0, 0, 0, 0, 0]), 'seq'],
    ['a seq beyond int8', change(24, [0x80, 0, 0, 0, 0, 0, 0, 0]), 'range'],
    ['an epoch beyond int4', change(20, [0x80, 0, 0, 0]), 'range'],
    ['a window of a month', change(40, [0x9a, 0x7e, 0xc8, 0]), 'seven days'],
    ['a time after the end of time', change(32, [1, 0, 0, 0, 0, 0, 0, 0]), 'range'],
    ['more slices than there are', change(92, [0, 1]), 'cut off'],
    ['more marks than there are', change(94, [0, 1]), 'cut off'],
    ['65,535 slices', change(92, [0xff, 0xff]), 'too many'],
    ['65,535 marks', change(94, [0xff, 0xff]), 'too many'],
  ];
  test.each(cases)('%s', (_what, bytes, message) => {
    const caught = ((): unknown => {
      try {
        decodeFrame(bytes);
        return undefined;
      } catch (error) {
        return error;
      }
    })();
    expect(caught).toMatchObject({
      code: 'frame_malformed',
      message: expect.stringContaining(message) as string,
    });
  });

  test('a frame above the largest is refused before it is looked at [R1-16]', () => {
    expect(() => decodeFrame(Buffer.alloc(FRAME_BYTES_MAX + 1))).toThrow(
      expect.objectContaining({ code: 'frame_too_large' }) as Error,
    );
  });

  test('slices out of order, twice, or with lengths that do not fit their counts', () => {
    const slice = (tenant: number): SliceView =>
      view({ tenantId: Buffer.alloc(16, tenant), meters: [], rows: [], prevDigest: ZERO_DIGEST });
    const frame = (...list: SliceView[]): Buffer => encodeFrame(encodeHeader(head, list.length), list);
    expect(() => decodeFrame(frame(slice(2), slice(1)))).toThrow('order');
    expect(() => decodeFrame(frame(slice(1), slice(1)))).toThrow('order');
    expect(() => decodeFrame(frame({ ...slice(1), rows: 1 }))).toThrow('length');
    expect(() => decodeFrame(frame({ ...slice(1), opened: 0xffff_ffff, rows: 0xffff_ffff }))).toThrow(
      'length',
    );
    expect(() =>
      encodeHeader(
        {
          ...head,
          marks: Array.from({ length: MARKS_MAX + 1 }, () => ({
            kind: 'engine_died' as const,
            engine: 1,
            fromMs: 0,
            toMs: 1,
          })),
        },
        0,
      ),
    ).toThrow('too many');
  });

  test('a mark that ends before it begins, and one of no known kind', () => {
    const bytes = encodeHeader(
      { ...head, marks: [{ kind: 'engine_died', engine: 1, fromMs: 5, toMs: 9 }] },
      0,
    );
    const backwards = Buffer.from(bytes);
    backwards.writeBigUInt64BE(10n, 98);
    expect(() => decodeHeader(backwards)).toThrow('bounds');
    const unknown = Buffer.from(bytes);
    unknown.writeUInt8(7, 96);
    expect(() => decodeHeader(unknown)).toThrow('mark kind');
  });
});

describe('golden vectors of version 1', () => {
  const filled = (start: number, length: number): Buffer =>
    Buffer.from(Array.from({ length }, (_, i) => (start + i) & 0xff));
  const meters: OpenedMeter[] = [
    {
      meter: 0x0102030405060708n,
      engine: 1,
      boot: filled(0x10, 16),
      subscription: filled(0x20, 16),
      device: Buffer.alloc(16),
    },
  ];
  const rows: SampleRow[] = [
    {
      subscription: filled(0x20, 16),
      engine: 1,
      meter: 0x0102030405060708n,
      deltaUp: 100n,
      deltaDown: 200n,
      cumulativeUp: 100n,
      cumulativeDown: 200n,
    },
    {
      subscription: filled(0x30, 16),
      engine: 2,
      meter: 9n,
      deltaUp: 1n,
      deltaDown: 2n ** 40n,
      cumulativeUp: 5n,
      cumulativeDown: 2n ** 41n,
    },
  ];
  const data: FrameHeader = {
    kind: 'data',
    nodeId: filled(0x40, 16),
    epoch: 3,
    seq: 77n,
    windowStartMs: 1_700_000_000_000,
    windowMs: 5000,
    prevDigest: filled(0x50, 32),
    certificateSerial: filled(0x70, 16),
    marks: [{ kind: 'engine_died', engine: 1, fromMs: 1_700_000_001_000, toMs: 1_700_000_002_000 }],
    lostDigest: null,
  };
  const slice: SliceView = {
    tenantId: filled(0x80, 16),
    opened: 1,
    rows: 2,
    prevDigest: filled(0x90, 32),
    payload: encodePayload(meters, rows),
  };
  const gap: FrameHeader = {
    ...data,
    kind: 'gap',
    seq: 78n,
    marks: [{ kind: 'record_lost', engine: 0, fromMs: 1, toMs: 2 }],
    lostDigest: filled(0xa0, 32),
  };

  test('a data frame [R1-04]', () => {
    const headerBytes = encodeHeader(data, 1);
    expect(headerBytes.toString('hex')).toMatchInlineSnapshot(
      `"00010100404142434445464748494a4b4c4d4e4f00000003000000000000004d0000018bcfe5680000001388505152535455565758595a5b5c5d5e5f606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f0001000101010000018bcfe56be80000018bcfe56fd0"`,
    );
    expect(slice.payload.toString('hex')).toMatchInlineSnapshot(
      `"010203040506070801101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f00000000000000000000000000000000202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f0102010203040506070800000000000000090000000000000064000000000000000100000000000000c800000100000000000000000000000064000000000000000500000000000000c80000020000000000"`,
    );
    const one = sliceDigest(headerBytes, slice);
    expect(one.toString('hex')).toMatchInlineSnapshot(
      `"8b1a4b8e62b0b1a33936fb196f2e2559f5d26065dc1c7d406d47951b8ba6ddd3"`,
    );
    expect(frameDigest(data.prevDigest, headerBytes, [one]).toString('hex')).toMatchInlineSnapshot(
      `"d1a3717bb53640ee51f9e1bba6c293a6a324dd608fd0c5463353327acf8cf1ca"`,
    );
    const frame = decodeFrame(encodeFrame(headerBytes, [slice]));
    const { digest } = digestsOfFrame(frame);
    expect(digest).toEqual(frameDigest(data.prevDigest, headerBytes, [one]));
    expect(frameLink(frame, digest)).toEqual(digest);
    expect(rowColumns(frame.slices[0] as SliceView).deltaDown.toString('hex')).toBe(
      '00000000000000c80000010000000000',
    );
  });

  test('a gap frame links its successor to what was lost', () => {
    const headerBytes = encodeHeader(gap, 0);
    expect(headerBytes.toString('hex')).toMatchInlineSnapshot(
      `"00010200404142434445464748494a4b4c4d4e4f00000003000000000000004e0000018bcfe5680000001388505152535455565758595a5b5c5d5e5f606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f00000001020000000000000000010000000000000002a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"`,
    );
    const frame = decodeFrame(encodeFrame(headerBytes, []));
    const { digest } = digestsOfFrame(frame);
    expect(digest.toString('hex')).toMatchInlineSnapshot(
      `"7fc51daa2f2359fe69d41eac0a8606d4ea873bb4b465d08201e965712c111825"`,
    );
    expect(frameLink(frame, digest)).toEqual(gap.lostDigest);
    const unknown = decodeFrame(encodeFrame(encodeHeader({ ...gap, lostDigest: ZERO_DIGEST }, 0), []));
    const own = digestsOfFrame(unknown).digest;
    expect(frameLink(unknown, own)).toEqual(own);
  });
});
