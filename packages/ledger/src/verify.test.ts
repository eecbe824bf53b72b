// The verifier on a small stream: what was sealed is good, and each single change, loss, repeat or forgery is named with
// the place where it stands.
import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { idFromBytes } from '@penstock/domain/ids';
import { digestsOfFrame, frameLink } from './chain.js';
import { signDigest } from './digest.js';
import { accessDigest, stateDigest } from './state-digest.js';
import {
  decodeFrame,
  encodeFrame,
  encodeHeader,
  encodePayload,
  ZERO_DIGEST,
  type FrameHeader,
  type OpenedMeter,
  type SampleRow,
} from './frame.js';
import {
  StreamVerifier,
  verifyFrames,
  type StoredFrame,
  type StoredSlice,
  type VerifyOptions,
} from './verify.js';

const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const NODE = Buffer.alloc(16, 0xaa);
const TENANTS = [Buffer.alloc(16, 1), Buffer.alloc(16, 2)] as const;
const options: VerifyOptions = { publicKey: () => keys.publicKey };

interface Meter {
  number: bigint;
  tenant: number;
  up: bigint;
  down: bigint;
  opened: boolean;
}

/** Seals like a node: two tenants, two meters each, everything moves in each frame. */
class Chain {
  readonly frames: StoredFrame[] = [];
  readonly meters: Meter[] = [11n, 12n, 21n, 22n].map((number) => ({
    number,
    tenant: number < 20n ? 0 : 1,
    up: 0n,
    down: 0n,
    opened: false,
  }));
  link: Buffer = ZERO_DIGEST;
  heads = new Map<number, Buffer>();
  epoch = 1;
  seq = 1n;

  seal(change: Partial<FrameHeader> = {}, rowsOf?: (meter: Meter) => Partial<SampleRow> | null): this {
    const slices = [0, 1].flatMap((tenant) => {
      const opened: OpenedMeter[] = [];
      const rows: SampleRow[] = [];
      for (const meter of this.meters.filter((one) => one.tenant === tenant)) {
        const changed = rowsOf?.(meter);
        if (changed === null) continue;
        if (!meter.opened)
          opened.push({
            meter: meter.number,
            engine: 1,
            boot: Buffer.alloc(16, 5),
            subscription: Buffer.alloc(16, Number(meter.number)),
            device: Buffer.alloc(16),
          });
        meter.opened = true;
        meter.up += 10n;
        meter.down += 100n;
        rows.push({
          subscription: Buffer.alloc(16, Number(meter.number)),
          engine: 1,
          meter: meter.number,
          deltaUp: 10n,
          deltaDown: 100n,
          cumulativeUp: meter.up,
          cumulativeDown: meter.down,
          ...changed,
        });
      }
      if (rows.length === 0) return [];
      return [
        {
          tenant,
          tenantId: TENANTS[tenant] as Buffer,
          opened: opened.length,
          rows: rows.length,
          prevDigest: this.heads.get(tenant) ?? ZERO_DIGEST,
          payload: encodePayload(opened, rows),
        },
      ];
    });
    const header: FrameHeader = {
      kind: 'data',
      nodeId: NODE,
      epoch: this.epoch,
      seq: this.seq,
      windowStartMs: Number(this.seq) * 5000,
      windowMs: 5000,
      prevDigest: this.link,
      certificateSerial: Buffer.alloc(16, 9),
      marks: [],
      lostDigest: null,
      ...change,
    };
    const view = decodeFrame(encodeFrame(encodeHeader(header, slices.length), slices));
    const { digest, sliceDigests } = digestsOfFrame(view);
    slices.forEach((slice, i) => this.heads.set(slice.tenant, sliceDigests[i] as Buffer));
    this.link = frameLink(view, digest);
    this.seq = header.seq + 1n;
    this.frames.push({
      header: view.headerBytes,
      signature: signDigest(digest, keys.privateKey),
      digest,
      slices: view.slices.map((slice, i) => ({ ...slice, digest: sliceDigests[i] as Buffer })),
    });
    return this;
  }

  /** Frame `seq` is lost and a gap frame takes its place. */
  gap(seq: bigint): this {
    const at = this.frames.findIndex((frame) => decodeHeaderSeq(frame) === seq);
    const lost = this.frames[at] as StoredFrame;
    const before = this.frames[at - 1] as StoredFrame;
    const header: FrameHeader = {
      kind: 'gap',
      nodeId: NODE,
      epoch: this.epoch,
      seq,
      windowStartMs: 1,
      windowMs: 2,
      prevDigest: before.digest,
      certificateSerial: Buffer.alloc(16, 9),
      marks: [{ kind: 'record_lost', engine: 0, fromMs: 1, toMs: 3 }],
      lostDigest: lost.digest,
    };
    const view = decodeFrame(encodeFrame(encodeHeader(header, 0), []));
    const { digest } = digestsOfFrame(view);
    this.frames[at] = {
      header: view.headerBytes,
      signature: signDigest(digest, keys.privateKey),
      digest,
      slices: [],
    };
    return this;
  }
}

const decodeHeaderSeq = (frame: StoredFrame): bigint => frame.header.readBigUInt64BE(24);
const chainOf = (count: number): Chain => {
  const chain = new Chain();
  for (let i = 0; i < count; i++) chain.seal();
  return chain;
};

function copy(frames: StoredFrame[]): StoredFrame[] {
  const again = (bytes: Buffer): Buffer => Buffer.from(bytes);
  return frames.map((frame) => ({
    header: again(frame.header),
    signature: again(frame.signature),
    digest: again(frame.digest),
    slices: frame.slices.map((slice): StoredSlice =>
      'payload' in slice
        ? {
            ...slice,
            tenantId: again(slice.tenantId),
            prevDigest: again(slice.prevDigest),
            payload: again(slice.payload),
            digest: again(slice.digest),
          }
        : { digest: again(slice.digest) },
    ),
  }));
}

async function verify(frames: StoredFrame[], more: Partial<VerifyOptions> = {}) {
  const [report] = await verifyFrames(frames, { ...options, ...more });
  if (report === undefined) throw new Error('no report');
  return report;
}

describe('a stream as it was sealed', () => {
  test('is good, and its sums are told', async () => {
    expect(await verify(chainOf(5).frames)).toMatchObject({
      frames: 5,
      slices: 10,
      rows: 20,
      upBytes: 200n,
      downBytes: 2000n,
      healedUpBytes: 0n,
      gaps: [],
      problem: null,
    });
  });

  test('goes on in a new epoch that names the last frame', async () => {
    const chain = chainOf(3);
    chain.epoch = 4;
    chain.seq = 1n;
    expect((await verify(chain.seal().seal().frames)).problem).toBeNull();
  });

  test('several nodes are told apart', async () => {
    const other = chainOf(2).frames.map((frame) => ({ ...frame }));
    const reports = await verifyFrames([...chainOf(2).frames, ...other.slice(1)], options);
    expect(reports).toHaveLength(1);
    expect(reports[0]?.problem?.reason).toBe('numbering_broken');
  });

  test('a tenant verifies its own slices and sees digests of others only', async () => {
    const own = chainOf(4).frames.map((frame) => ({
      ...frame,
      slices: frame.slices.map((slice) =>
        'payload' in slice && slice.tenantId.equals(TENANTS[0]) ? slice : { digest: slice.digest },
      ),
    }));
    expect(await verify(own)).toMatchObject({ rows: 8, problem: null });
    const changed = copy(own);
    const slice = changed[2]?.slices[0];
    if (slice !== undefined && 'payload' in slice) slice.payload[0] = 0xee;
    expect((await verify(changed)).problem).toMatchObject({
      seq: 3n,
      tenantId: idFromBytes(TENANTS[0]),
      reason: 'slice_digest_wrong',
    });
  });

  test('what stands behind dropped days verifies from there on', async () => {
    const later = chainOf(6).frames.slice(3);
    expect((await verify(later)).problem?.reason).toBe('numbering_broken');
    expect(await verify(later, { startsLater: true })).toMatchObject({
      frames: 3,
      upBytes: 120n,
      problem: null,
    });
  });
});

describe('a change', () => {
  test('of any byte of a stored slice names that slice [R1-04]', async () => {
    const { frames } = chainOf(4);
    for (let f = 0; f < frames.length; f++) {
      for (const s of [0, 1]) {
        const whole = frames[f]?.slices[s] as StoredSlice & { payload: Buffer; tenantId: Buffer };
        for (let at = 0; at < whole.payload.length; at += 5) {
          const changed = copy(frames);
          const payload = (changed[f]?.slices[s] as typeof whole).payload;
          payload[at] = (payload[at] as number) ^ 0x04;
          expect((await verify(changed)).problem).toMatchObject({
            epoch: 1,
            seq: BigInt(f + 1),
            tenantId: idFromBytes(whole.tenantId),
            reason: 'slice_digest_wrong',
          });
        }
      }
    }
  });

  test('of a slice’s digest, link or counts names that slice [R1-04]', async () => {
    const { frames } = chainOf(3);
    for (const edit of [
      (slice: StoredSlice) => slice.digest.writeUInt8(slice.digest.readUInt8(3) ^ 1, 3),
      (slice: StoredSlice) =>
        'payload' in slice && slice.prevDigest.writeUInt8(slice.prevDigest.readUInt8(3) ^ 1, 3),
      (slice: StoredSlice) => 'payload' in slice && (slice.rows += 1),
    ]) {
      const changed = copy(frames);
      edit(changed[1]?.slices[1] as StoredSlice);
      expect((await verify(changed)).problem).toMatchObject({
        seq: 2n,
        tenantId: idFromBytes(TENANTS[1]),
        reason: 'slice_digest_wrong',
      });
    }
  });

  test('of any byte of a header, of the signature or of the stored digest names that frame [R1-04]', async () => {
    const { frames } = chainOf(4);
    const length = frames[2]?.header.length ?? 0;
    for (let at = 20; at < length; at++) {
      const changed = copy(frames);
      const header = changed[2]?.header as Buffer;
      header[at] = (header[at] as number) ^ 0x01;
      const { problem } = await verify(changed);
      expect(problem, `byte ${String(at)}`).not.toBeNull();
      expect(problem?.tenantId, `byte ${String(at)}`).toBeNull();
    }
    const signature = copy(frames);
    (signature[1] as StoredFrame).signature[5] = 0;
    expect((await verify(signature)).problem).toMatchObject({
      seq: 2n,
      tenantId: null,
      reason: 'signature_invalid',
    });
    const digest = copy(frames);
    (digest[1] as StoredFrame).digest[5] = 0;
    expect((await verify(digest)).problem).toMatchObject({
      seq: 2n,
      tenantId: null,
      reason: 'frame_digest_wrong',
    });
  });

  test('of the order, a missing or a repeated frame, a missing slice', async () => {
    const { frames } = chainOf(5);
    const [a, b, c, d, e] = frames as [StoredFrame, StoredFrame, StoredFrame, StoredFrame, StoredFrame];
    expect((await verify([a, b, d, e])).problem).toMatchObject({ seq: 4n, reason: 'numbering_broken' });
    expect((await verify([a, b, b, c])).problem).toMatchObject({ seq: 2n, reason: 'numbering_broken' });
    expect((await verify([b, a])).problem).toMatchObject({ seq: 2n, reason: 'numbering_broken' });
    expect((await verify([a, { ...b, slices: b.slices.slice(1) }])).problem).toMatchObject({
      seq: 2n,
      reason: 'slice_missing',
    });
    expect((await verify([a, { ...b, slices: [...b.slices].reverse() }])).problem?.seq).toBe(2n);
  });
});

describe('a node that cheats or errs', () => {
  test('another key, an unknown certificate', async () => {
    const { frames } = chainOf(2);
    expect((await verify(frames, { publicKey: () => stranger.publicKey })).problem).toMatchObject({
      seq: 1n,
      reason: 'signature_invalid',
    });
    expect((await verify(frames, { publicKey: () => null })).problem).toMatchObject({
      seq: 1n,
      reason: 'certificate_unknown',
    });
  });

  test('a frame that continues another stream', async () => {
    const chain = chainOf(3);
    expect((await verify(chain.seal({ prevDigest: Buffer.alloc(32, 3) }).frames)).problem).toMatchObject({
      seq: 4n,
      reason: 'frame_link_broken',
    });
  });

  const sums: [string, Partial<SampleRow>, string][] = [
    ['bytes that are missing', { deltaUp: 9n }, 'sums_wrong'],
    ['bytes counted twice', { deltaUp: 20n }, 'sums_wrong'],
    ['a delta above its cumulative', { deltaDown: 2n ** 60n }, 'sums_wrong'],
    ['a meter nobody opened', { meter: 99n }, 'meter_unopened'],
    ['a meter that changed its subscription', { subscription: Buffer.alloc(16, 77) }, 'meter_changed'],
    ['a meter that changed its engine', { engine: 2 }, 'meter_changed'],
    ['a meter of another tenant', { meter: 21n }, 'meter_changed'],
  ];
  test.each(sums)('%s', async (_what, change, reason) => {
    const chain = chainOf(3).seal({}, (meter) => (meter.number === 12n ? change : {}));
    expect((await verify(chain.frames)).problem).toMatchObject({
      seq: 4n,
      tenantId: idFromBytes(TENANTS[0]),
      reason,
    });
  });

  test('two rows of one meter in a frame', async () => {
    const chain = chainOf(1);
    const again = { ...(chain.meters[1] as Meter) };
    chain.meters.push(again);
    expect((await verify(chain.seal().frames)).problem).toMatchObject({ seq: 2n, reason: 'sums_wrong' });
  });
});

describe('a gap', () => {
  test('is reported and heals: the bytes come back with the next rows', async () => {
    const report = await verify(chainOf(6).gap(3n).frames);
    expect(report).toMatchObject({
      frames: 6,
      upBytes: 240n,
      downBytes: 2400n,
      healedUpBytes: 40n,
      healedDownBytes: 400n,
      problem: null,
    });
    expect(report.gaps).toEqual([{ epoch: 1, seq: 3n, fromMs: 1, toMs: 3 }]);
    expect(report.marks).toHaveLength(1);
  });

  test('heals each meter once, not later', async () => {
    const chain = chainOf(4).gap(3n);
    chain.seal({}, (meter) => (meter.number === 11n ? { deltaUp: 3n } : {}));
    expect((await verify(chain.frames)).problem).toMatchObject({ seq: 5n, reason: 'sums_wrong' });
  });

  test('in the frame that opened a meter leaves rows that heal from zero', async () => {
    const chain = new Chain();
    chain
      .seal({}, (meter) => (meter.tenant === 0 ? {} : null))
      .seal()
      .seal()
      .gap(2n);
    expect(await verify(chain.frames)).toMatchObject({ upBytes: 100n, healedUpBytes: 40n, problem: null });
  });

  test('never lets a meter run backwards', async () => {
    const chain = chainOf(5).gap(3n);
    const verifier = new StreamVerifier(idFromBytes(NODE), options);
    for (const frame of chain.frames.slice(0, 3)) expect(verifier.accept(frame)).toBeNull();
    const state = verifier.meters.get(11n);
    if (state === undefined) throw new Error('no such meter');
    state.up = 1_000_000n;
    expect(verifier.accept(chain.frames[3] as StoredFrame)).toMatchObject({ reason: 'sums_wrong' });
  });

  test('does not excuse a frame that names something else', async () => {
    const chain = chainOf(5).gap(3n);
    const frames = [...chain.frames.slice(0, 3), ...chain.frames.slice(4)];
    expect((await verify(frames)).problem).toMatchObject({ seq: 5n, reason: 'numbering_broken' });
  });
});

test('the digest of a state does not depend on the order of its entries, and on nothing else', () => {
  const entries = new Map(
    [1, 2, 3].map(
      (n) => [String(n).repeat(32), accessDigest(Buffer.alloc(16, n), Buffer.from([n]))] as const,
    ),
  );
  const config = Buffer.from('config');
  const digest = stateDigest(config, entries);
  expect(stateDigest(config, new Map([...entries].reverse()))).toEqual(digest);
  expect(stateDigest(Buffer.from('other'), entries)).not.toEqual(digest);
  expect(stateDigest(config, new Map([...entries].slice(1)))).not.toEqual(digest);
  expect(digest.toString('hex')).toMatchInlineSnapshot(
    `"c28e93dc3ca20403320d2bf27e5af3f82a6cce774160a8f52b040a798d71f11c"`,
  );
});
