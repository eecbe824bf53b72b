// Walks stored frames and says whether they are what the nodes sealed. Pure: frames come in, a report goes out; the CLI
// feeds it from an export or from the database. It checks, for each stream: numbering, links of frames, digests, the
// node's signature, links of each tenant's slices, and that every meter's rows add up to its cumulative.
//
// Gaps. A gap frame takes the seq of a record that the node lost; the next frame names the lost digest (chain.ts). After
// a gap the first slice of a tenant may name a predecessor nobody has, and the first row of a meter may start above the
// meter's last cumulative: that difference is `healed`. Σ deltas + Σ healed = cumulative, always.
import type { KeyObject } from 'node:crypto';
import { AppError } from '@penstock/domain/errors';
import { idFromBytes } from '@penstock/domain/ids';
import { frameLink } from './chain.js';
import { frameDigest, sliceDigest, verifyDigest } from './digest.js';
import {
  decodeHeader,
  OPENED_BYTES,
  openedMeters,
  ROW_BYTES,
  sampleRows,
  ZERO_DIGEST,
  type FrameHeader,
  type LossMark,
  type OpenedMeter,
  type SampleRow,
  type SliceView,
} from './frame.js';

/** A slice as it is stored, or, in a tenant's export, the digest alone of a slice that is not the tenant's. */
export type StoredSlice = (SliceView & { digest: Buffer }) | { digest: Buffer };

export interface StoredFrame {
  header: Buffer;
  signature: Buffer;
  digest: Buffer;
  /**
   * When the ledger took it, and its flags. Bit 0: the node's clock was implausible; its certificate is judged by the
   * time of acceptance then. Left out where nobody knows: the window's own end decides.
   */
  accepted?: { atMs: number; flags: number };
  /** In the order of the frame (tenant order). */
  slices: StoredSlice[];
}

export type ProblemReason =
  | 'header_malformed'
  | 'numbering_broken'
  | 'frame_link_broken'
  | 'frame_digest_wrong'
  | 'signature_invalid'
  | 'certificate_unknown'
  | 'slice_missing'
  | 'slice_order_wrong'
  | 'slice_digest_wrong'
  | 'slice_link_broken'
  | 'slice_malformed'
  | 'meter_unopened'
  | 'meter_changed'
  | 'sums_wrong';

export interface Problem {
  nodeId: string;
  epoch: number;
  seq: bigint;
  /** The slice's tenant; null when it is the frame as a whole. */
  tenantId: string | null;
  reason: ProblemReason;
  detail: string;
}

export interface StreamReport {
  nodeId: string;
  frames: number;
  slices: number;
  rows: number;
  upBytes: bigint;
  downBytes: bigint;
  /** Part of the bytes above that came back after a gap. */
  healedUpBytes: bigint;
  healedDownBytes: bigint;
  gaps: { epoch: number; seq: bigint; fromMs: number; toMs: number }[];
  marks: LossMark[];
  /** The first thing that is wrong; nothing behind it was looked at. */
  problem: Problem | null;
}

export interface VerifyOptions {
  /** The key of a certificate of this node that was valid when the window closed; null when there is none. */
  publicKey(serial: Buffer, nodeId: string, closedAtMs: number): KeyObject | null;
  /**
   * The stream is not verified from its first frame (older days are gone): what the first frame, the first slice of each
   * tenant and the first row of each meter build on is believed.
   */
  startsLater?: boolean;
}

class Wrong extends Error {
  constructor(
    readonly reason: ProblemReason,
    readonly detail: string,
    readonly tenantId: Buffer | null = null,
  ) {
    super(detail);
  }
}

interface MeterState {
  subscription: Buffer;
  engine: number;
  tenant: string;
  boot: Buffer | null;
  device: Buffer | null;
  up: bigint;
  down: bigint;
  /** Index of the frame with its last row. */
  at: number;
}

const NO_ID = Buffer.alloc(16);

/** Verifies one stream, frame by frame in order. */
export class StreamVerifier {
  readonly report: StreamReport;
  readonly meters = new Map<bigint, MeterState>();
  readonly #sliceHeads = new Map<string, { digest: Buffer; at: number }>();
  #epoch = 0;
  #nextSeq = 1n;
  #link: Buffer = ZERO_DIGEST;
  #index = 0;
  /** Index of the newest gap frame; -1 for none. */
  #gapAt = -1;

  constructor(
    nodeId: string,
    private readonly options: VerifyOptions,
  ) {
    this.report = {
      nodeId,
      frames: 0,
      slices: 0,
      rows: 0,
      upBytes: 0n,
      downBytes: 0n,
      healedUpBytes: 0n,
      healedDownBytes: 0n,
      gaps: [],
      marks: [],
      problem: null,
    };
  }

  /** Takes the next frame; the problem when it is wrong. A stream with a problem takes no more. */
  accept(frame: StoredFrame): Problem | null {
    if (this.report.problem !== null) return this.report.problem;
    let header: FrameHeader | null = null;
    try {
      const decoded = decodeHeader(frame.header);
      header = decoded.header;
      if (decoded.length !== frame.header.length)
        throw new Wrong('header_malformed', 'bytes behind the header');
      this.#frame(header, decoded.sliceCount, frame);
    } catch (error) {
      this.report.problem = this.#problem(error, header);
    }
    return this.report.problem;
  }

  #problem(error: unknown, header: FrameHeader | null): Problem {
    const place = {
      nodeId: this.report.nodeId,
      epoch: header?.epoch ?? this.#epoch,
      seq: header?.seq ?? this.#nextSeq,
    };
    if (error instanceof Wrong) {
      const tenantId = error.tenantId === null ? null : idFromBytes(error.tenantId);
      return { ...place, tenantId, reason: error.reason, detail: error.detail };
    }
    if (error instanceof AppError)
      return { ...place, tenantId: null, reason: 'header_malformed', detail: error.message };
    throw error;
  }

  #frame(header: FrameHeader, sliceCount: number, frame: StoredFrame): void {
    this.#numbering(header);
    if (frame.slices.length !== sliceCount) {
      throw new Wrong(
        'slice_missing',
        `the header names ${String(sliceCount)} slices, ${String(frame.slices.length)} are there`,
      );
    }
    const digest = this.#digests(header, frame);
    this.#index++;
    for (const slice of frame.slices) if ('payload' in slice) this.#slice(header, slice);
    this.#epoch = header.epoch;
    this.#nextSeq = header.seq + 1n;
    this.#link = Buffer.from(frameLink({ header }, digest));
    this.report.frames++;
    this.report.slices += frame.slices.length;
    this.report.marks.push(...header.marks);
    if (header.kind === 'gap') {
      this.#gapAt = this.#index;
      const { epoch, seq, windowStartMs, windowMs } = header;
      this.report.gaps.push({ epoch, seq, fromMs: windowStartMs, toMs: windowStartMs + windowMs });
    }
  }

  #numbering(header: FrameHeader): void {
    if (idFromBytes(header.nodeId) !== this.report.nodeId)
      throw new Wrong('numbering_broken', 'a frame of another node');
    const isFirst = this.#index === 0;
    if (isFirst && this.options.startsLater === true) return;
    const continues = header.epoch === this.#epoch && header.seq === this.#nextSeq;
    const begins = header.epoch > this.#epoch && header.seq === 1n;
    if (!continues && !begins) {
      throw new Wrong(
        'numbering_broken',
        `expected seq ${String(this.#nextSeq)} of epoch ${String(this.#epoch)}`,
      );
    }
    if (!header.prevDigest.equals(this.#link)) {
      throw new Wrong('frame_link_broken', 'the frame does not name the frame before it');
    }
  }

  /** Checks digests and signature; a slice whose bytes were changed is named rather than its frame. */
  #digests(header: FrameHeader, frame: StoredFrame): Buffer {
    const windowEndMs = header.windowStartMs + header.windowMs;
    const { atMs = windowEndMs, flags = 0 } = frame.accepted ?? {};
    const closedAtMs = (flags & 1) === 0 ? Math.min(windowEndMs, atMs) : atMs;
    const key = this.options.publicKey(header.certificateSerial, this.report.nodeId, closedAtMs);
    if (key === null)
      throw new Wrong('certificate_unknown', 'no certificate of this node has that serial number');
    const stored = frame.slices.map((slice) => slice.digest);
    const computed = frame.slices.map((slice) =>
      'payload' in slice ? sliceDigest(frame.header, slice) : slice.digest,
    );
    const signed = (sliceDigests: Buffer[]): Buffer | null => {
      const digest = frameDigest(header.prevDigest, frame.header, sliceDigests);
      return verifyDigest(digest, frame.signature, key) ? digest : null;
    };
    const digest = signed(stored);
    const whole = frame.slices.filter((slice) => 'payload' in slice);
    const changed = whole.filter((slice) => !sliceDigest(frame.header, slice).equals(slice.digest));
    const [first] = changed;
    // Where all differ and no signature fits, it is the header that was changed.
    if (
      first !== undefined &&
      (digest !== null || changed.length < whole.length || signed(computed) !== null)
    ) {
      throw new Wrong('slice_digest_wrong', 'the slice is not what was sealed', first.tenantId);
    }
    if (digest === null) {
      const expected = frameDigest(header.prevDigest, frame.header, stored);
      throw expected.equals(frame.digest)
        ? new Wrong('signature_invalid', 'the signature is not the node’s')
        : new Wrong('frame_digest_wrong', 'header or slice digests are not what was sealed');
    }
    if (!digest.equals(frame.digest))
      throw new Wrong('frame_digest_wrong', 'the stored frame digest is wrong');
    return digest;
  }

  #slice(header: FrameHeader, slice: SliceView & { digest: Buffer }): void {
    const { tenantId } = slice;
    if (slice.payload.length !== slice.opened * OPENED_BYTES + slice.rows * ROW_BYTES) {
      throw new Wrong('slice_malformed', 'the slice has another length than its counts say', tenantId);
    }
    const tenant = idFromBytes(tenantId);
    const head = this.#sliceHeads.get(tenant);
    const mayJump = this.options.startsLater === true && head === undefined;
    if (
      !mayJump &&
      !this.#isAfterGap(head?.at ?? 0) &&
      !slice.prevDigest.equals(head?.digest ?? ZERO_DIGEST)
    ) {
      throw new Wrong('slice_link_broken', 'the slice does not name the tenant’s slice before it', tenantId);
    }
    this.#sliceHeads.set(tenant, { digest: slice.digest, at: this.#index });
    for (const opened of openedMeters(slice)) this.#opened(opened, tenant, tenantId);
    for (const row of sampleRows(slice)) this.#row(header, row, tenant, tenantId);
  }

  /** True when a gap lies between frame `at` (0: none) and now. */
  #isAfterGap(at: number): boolean {
    return this.#gapAt > at;
  }

  #opened(opened: OpenedMeter, tenant: string, tenantId: Buffer): void {
    const known = this.meters.get(opened.meter);
    const hasBoot = !opened.boot.equals(NO_ID);
    if (known === undefined) {
      this.meters.set(opened.meter, {
        subscription: Buffer.from(opened.subscription),
        engine: opened.engine,
        tenant,
        boot: hasBoot ? Buffer.from(opened.boot) : null,
        device: hasBoot ? Buffer.from(opened.device) : null,
        up: 0n,
        down: 0n,
        at: 0,
      });
      return;
    }
    const same =
      known.engine === opened.engine &&
      known.tenant === tenant &&
      known.subscription.equals(opened.subscription) &&
      (known.boot === null || !hasBoot || known.boot.equals(opened.boot)) &&
      (known.device === null || !hasBoot || known.device.equals(opened.device));
    if (!same)
      throw new Wrong('meter_changed', `meter ${String(opened.meter)} was opened as another`, tenantId);
    if (hasBoot) {
      known.boot ??= Buffer.from(opened.boot);
      known.device ??= Buffer.from(opened.device);
    }
  }

  #row(header: FrameHeader, row: SampleRow, tenant: string, tenantId: Buffer): void {
    const wrong = (reason: ProblemReason, detail: string): Wrong =>
      new Wrong(reason, `meter ${String(row.meter)}: ${detail}`, tenantId);
    let meter = this.meters.get(row.meter);
    const isBelieved = this.options.startsLater === true && meter === undefined;
    if (meter === undefined) {
      if (!isBelieved && !this.#isAfterGap(0)) throw wrong('meter_unopened', 'nobody opened it');
      const { subscription, engine } = row;
      meter = {
        subscription: Buffer.from(subscription),
        engine,
        tenant,
        boot: null,
        device: null,
        up: 0n,
        down: 0n,
        at: 0,
      };
      this.meters.set(row.meter, meter);
    }
    if (
      meter.tenant !== tenant ||
      meter.engine !== row.engine ||
      !meter.subscription.equals(row.subscription)
    ) {
      throw wrong('meter_changed', 'it belongs to another subscription');
    }
    if (meter.at === this.#index) throw wrong('sums_wrong', 'it has two rows in one frame');
    const startUp = row.cumulativeUp - row.deltaUp;
    const startDown = row.cumulativeDown - row.deltaDown;
    if (isBelieved) {
      meter.up = startUp;
      meter.down = startDown;
    }
    const healedUp = startUp - meter.up;
    const healedDown = startDown - meter.down;
    if (startUp < 0n || startDown < 0n || healedUp < 0n || healedDown < 0n)
      throw wrong('sums_wrong', 'bytes are counted twice');
    if ((healedUp > 0n || healedDown > 0n) && !this.#isAfterGap(meter.at)) {
      throw wrong(
        'sums_wrong',
        `${String(healedUp + healedDown)} bytes are missing before seq ${String(header.seq)}`,
      );
    }
    meter.up = row.cumulativeUp;
    meter.down = row.cumulativeDown;
    meter.at = this.#index;
    const { report } = this;
    report.rows++;
    report.upBytes += row.deltaUp + healedUp;
    report.downBytes += row.deltaDown + healedDown;
    report.healedUpBytes += healedUp;
    report.healedDownBytes += healedDown;
  }
}

/**
 * Verifies frames of any number of nodes; each node's frames in order of epoch and seq. One report a node, in order of
 * first appearance. Behind the first problem of a stream nothing of that stream is looked at.
 */
export async function verifyFrames(
  frames: AsyncIterable<StoredFrame> | Iterable<StoredFrame>,
  options: VerifyOptions,
): Promise<StreamReport[]> {
  const streams = new Map<string, StreamVerifier>();
  let last: StreamVerifier | undefined;
  for await (const frame of frames) {
    // A header too damaged to name its node belongs to the stream that was being read.
    const nodeId =
      frame.header.length >= 20 ? idFromBytes(frame.header, 4) : (last?.report.nodeId ?? idFromBytes(NO_ID));
    let stream = streams.get(nodeId);
    if (stream === undefined) streams.set(nodeId, (stream = new StreamVerifier(nodeId, options)));
    stream.accept(frame);
    last = stream;
  }
  return [...streams.values()].map((stream) => stream.report);
}
