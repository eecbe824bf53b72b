// The journal of a node: sealed frames until they are acknowledged, and the state that the next frame builds on.
// Invariants: a frame counts as sealed only when its record is synced; nothing unacknowledged is ever removed; every
// segment starts with a checkpoint, so older segments go as soon as their frames are acknowledged; a write that failed
// is never written behind (its segment is given up and the next one starts from the state in memory).
// One caller at a time writes (turns); reads of frames go on beside it. Used by sampler (seals) and sender (sends).
import type { KeyObject } from 'node:crypto';
import { AppError } from '@penstock/domain/errors';
import { digestsOfFrame, frameLink } from '@penstock/ledger/chain';
import { signDigest } from '@penstock/ledger/digest';
import {
  decodeFrame,
  encodeHeader,
  WINDOW_MS_MAX,
  ZERO_DIGEST,
  type FrameHeader,
} from '@penstock/ledger/frame';
import type { Mutex } from '../engines/wireguard/mutex.js';
import type { FrameIndex, FramePlace } from './frame-index.js';
import { addMark, advance, type JournalState } from './journal-state.js';
import type { Meter, PendingRow } from './meters.js';
import {
  decodeRecord,
  encodeRecord,
  encodeSegmentHeader,
  RECORD_HEADER_BYTES,
  type RecordType,
} from './record.js';
import {
  decodeFrameBody,
  encodeAckBody,
  encodeCheckpoint,
  encodeFrameBody,
  encodeReadingsBody,
  type Acknowledged,
  type SealedFrame,
} from './record-body.js';
import type { WalFiles } from './wal-files.js';
import { replayJournal, segmentName } from './wal-replay.js';

/** Who signs: the certificate in use and its key. */
export interface SigningIdentity {
  /** 16 bytes each. */
  nodeId: Buffer;
  certificateSerial: Buffer;
  privateKey: KeyObject;
}

export interface WalOptions {
  files: WalFiles;
  /** Bytes of all segments together; what is sealed right before a removal may use RESERVE_RATIO more. */
  capBytes: number;
  nowMs: number;
  turns: Mutex;
}

export interface NewEpoch {
  epoch: number;
  nextSeq: bigint;
  link: Buffer;
  sliceHeads: Map<string, Buffer>;
  /** The ledger's last values, by meter number. */
  baselines: Map<bigint, Meter>;
  /** Now, corrected by the server's clock. */
  nowMs: number;
}

const SEGMENT_BYTES_MIN = 64 * 1024;
const SEGMENT_BYTES_MAX = 8 * 1024 * 1024;
const SEGMENTS_PER_CAP = 8;
/** Part of the cap that stays free for frames sealed right before a removal or a stop. */
const RESERVE_RATIO = 1 / 8;
const METER_BYTES_ESTIMATE = 128;

interface ActiveSegment {
  number: bigint;
  bytes: number;
  checkpointBytes: number;
}

export class Wal {
  #active: ActiveSegment | null = null;
  /** Never used twice, also not after a failure. */
  #nextSegment = 1n;
  #closed = false;
  #marksWritten = 0;
  readonly #lostLinks = new Map<bigint, Buffer>();

  private constructor(
    private readonly options: WalOptions,
    readonly state: JournalState,
    private readonly frames: FrameIndex,
    private readonly segments: Map<bigint, number>,
    private nextOrdinal: bigint,
    private corrupt: number,
  ) {
    for (const number of segments.keys()) if (number >= this.#nextSegment) this.#nextSegment = number + 1n;
  }

  /** Reads what is there. Nothing is written before the first record. */
  static async open(options: WalOptions): Promise<Wal> {
    const replay = await replayJournal(options.files, options.nowMs);
    return new Wal(options, replay.state, replay.frames, replay.segments, replay.nextOrdinal, replay.corrupt);
  }

  get bytes(): number {
    let sum = 0;
    for (const bytes of this.segments.values()) sum += bytes;
    return sum;
  }

  /** Frames kept because nobody acknowledged them. */
  get unacknowledged(): number {
    return this.frames.size;
  }

  /** Damaged stretches found so far, at opening and since. */
  get corruptRecords(): number {
    return this.corrupt;
  }

  /** How full the journal is with what cannot go yet, 0 to 1 (the reserve left out). */
  get fill(): number {
    const cap = this.options.capBytes * (1 - RESERVE_RATIO);
    return this.frames.size === 0 ? 0 : Math.min(1, this.bytes / cap);
  }

  get canSeal(): boolean {
    return this.state.epoch > 0;
  }

  /** What a stream is opened with. */
  head(): { epoch: number; seq: bigint; link: Buffer; oldestSeq: bigint } {
    const { epoch, nextSeq, link, acked } = this.state;
    if (epoch === 0) return { epoch: 0, seq: 0n, link: ZERO_DIGEST, oldestSeq: 1n };
    return { epoch, seq: nextSeq - 1n, link, oldestSeq: acked + 1n };
  }

  /** Whether a record of `bytes` may be written now; `urgent` may use the reserve. */
  hasRoom(bytes: number, urgent: boolean): boolean {
    if (this.frames.size === 0) return true;
    const checkpoint = this.#active === null ? this.state.meters.size * METER_BYTES_ESTIMATE : 0;
    const cap = urgent ? this.options.capBytes : this.options.capBytes * (1 - RESERVE_RATIO);
    return this.bytes + checkpoint + bytes <= cap;
  }

  /**
   * Seals what `build` makes of the state (null: nothing to seal). True when a frame is on disk and the state has moved;
   * throws unavailable when it could not be written.
   */
  async seal(
    build: (state: JournalState) => { sealed: SealedFrame; rows: readonly PendingRow[] } | null,
  ): Promise<boolean> {
    return this.options.turns.run(async () => {
      const { state } = this;
      const built = this.canSeal ? build(state) : null;
      if (built === null) return false;
      const { sealed, rows } = built;
      const view = decodeFrame(sealed.frameBytes);
      const place = await this.#write('frame', encodeFrameBody(state.engines, this.#acked(), sealed));
      const laterMarks = state.marks.slice(view.header.marks.length);
      const { link } = advance(state, view);
      state.marks = laterMarks;
      state.meters.sealed(rows, view.header.seq);
      const windowEndMs = view.header.windowStartMs + view.header.windowMs;
      this.frames.set(view.header.seq, { ...place, link, windowEndMs, marks: view.header.marks });
      return true;
    });
  }

  /** Journals values and marks that no frame can take now (no epoch yet, no identity). Nothing new: no record. */
  async appendReadings({ force }: { force: boolean }): Promise<void> {
    await this.options.turns.run(async () => {
      const meters = this.state.meters.takeUnwritten();
      if (!force && meters.length === 0 && this.state.marks.length === this.#marksWritten) return;
      const readings = meters.flatMap((meter) =>
        meter.boot === null || meter.device === null
          ? []
          : [
              {
                number: meter.number,
                identity: {
                  engine: meter.engine,
                  boot: meter.boot,
                  subscription: meter.subscription,
                  device: meter.device,
                },
                tenant: meter.tenant,
                up: meter.readUp,
                down: meter.readDown,
              },
            ],
      );
      try {
        const { engines, marks } = this.state;
        await this.#write('readings', encodeReadingsBody({ engines, marks, readings }));
        this.#marksWritten = marks.length;
      } catch (error) {
        this.state.meters.putBackUnwritten(meters);
        throw error;
      }
    });
  }

  /** The frame `seq` as it was sealed; null when it is not readable any more (a gap frame must take its place). */
  async frameAt(seq: bigint): Promise<SealedFrame | null> {
    const place = this.frames.get(seq);
    if (place === undefined) return null;
    let bytes: Buffer | null = null;
    try {
      bytes = await this.options.files.readAt(segmentName(place.segment), place.offset, place.length);
    } catch (error) {
      const isRot = error instanceof Error && 'code' in error && error.code === 'EIO';
      if (this.frames.get(seq) === place && !isRot) {
        throw new AppError('unavailable', 'the journal could not be read', { cause: error });
      }
    }
    // It may have been acknowledged and removed while we read.
    if (this.frames.get(seq) !== place) return null;
    const record = bytes === null ? null : decodeRecord(place.segment, bytes, 0);
    if (record === null) {
      this.corrupt++;
      this.frames.delete(seq);
      this.#lostLinks.set(seq, place.link);
      return null;
    }
    return decodeFrameBody(record.body);
  }

  /** True when `seq` was sealed, is not acknowledged and cannot be read. */
  isLost(seq: bigint): boolean {
    return seq > this.state.acked && seq < this.state.nextSeq && !this.frames.has(seq);
  }

  /** Seals a gap frame in the place of the lost frame `seq`. Frames before it must be readable, acknowledged or gaps. */
  async appendGap(seq: bigint, identity: SigningIdentity): Promise<SealedFrame> {
    const next = await this.frameAt(seq + 1n);
    return this.options.turns.run(async () => {
      const { state } = this;
      if (!this.isLost(seq)) throw new AppError('conflict', 'the frame is not lost');
      const before = this.frames.get(seq - 1n);
      const prevDigest = before?.link ?? (seq - 1n === state.acked ? state.ackedLink : undefined);
      if (prevDigest === undefined) throw new AppError('internal', 'the frame before the gap is lost too');
      const nextHeader = next === null ? null : decodeFrame(next.frameBytes).header;
      const head = seq === state.nextSeq - 1n ? state.link : undefined;
      const toMs = nextHeader?.windowStartMs ?? state.windowEndMs;
      const fromMs = Math.min(before?.windowEndMs ?? toMs, toMs);
      const header: FrameHeader = {
        kind: 'gap',
        nodeId: identity.nodeId,
        epoch: state.epoch,
        seq,
        windowStartMs: fromMs,
        windowMs: Math.min(toMs - fromMs, WINDOW_MS_MAX),
        prevDigest,
        certificateSerial: identity.certificateSerial,
        marks: [{ kind: 'record_lost', engine: 0, fromMs, toMs }],
        lostDigest: this.#lostLinks.get(seq) ?? nextHeader?.prevDigest ?? head ?? ZERO_DIGEST,
      };
      const frameBytes = encodeHeader(header, 0);
      const view = decodeFrame(frameBytes);
      const { digest } = digestsOfFrame(view);
      const sealed: SealedFrame = { frameBytes, signature: signDigest(digest, identity.privateKey) };
      const place = await this.#write('gap', encodeFrameBody(state.engines, this.#acked(), sealed));
      this.frames.set(seq, {
        ...place,
        link: Buffer.from(frameLink(view, digest)),
        windowEndMs: toMs,
        marks: header.marks,
      });
      state.lost.add(seq);
      state.doubtful.delete(seq);
      return sealed;
    });
  }

  /**
   * Everything up to `seq` is durable in the ledger. `link` is the ledger's own word where it is known (stream opened).
   * False when this journal was replayed across a frame that the ledger has: only a new epoch gives sound bases then.
   */
  acknowledge(epoch: number, seq: bigint, link?: Buffer): boolean {
    const { state } = this;
    if (epoch !== state.epoch || seq >= state.nextSeq) return true;
    for (const doubtful of state.doubtful) if (doubtful <= seq) return false;
    if (seq <= state.acked) return true;
    state.ackedLink = link ?? this.frames.get(seq)?.link ?? this.#lostLinks.get(seq) ?? state.link;
    for (let done = state.acked + 1n; done <= seq; done++) {
      this.frames.delete(done);
      this.#lostLinks.delete(done);
    }
    state.acked = seq;
    return true;
  }

  /** Link that this journal knows for `seq`, undefined when it does not. */
  linkOf(seq: bigint): Buffer | undefined {
    if (seq === this.state.acked) return this.state.ackedLink;
    if (seq === this.state.nextSeq - 1n) return this.state.link;
    return this.frames.get(seq)?.link ?? this.#lostLinks.get(seq);
  }

  /**
   * Gives up this epoch: unacknowledged frames go, their marks become pending again, what they counted is in the meters.
   * The next stream asks for a new epoch.
   */
  abandonEpoch(): void {
    this.state.epoch = 0;
    for (const place of this.frames.places()) for (const mark of place.marks) addMark(this.state, mark);
    this.frames.clear();
  }

  /** Starts the granted epoch from the ledger's values; durable when it returns. */
  async beginEpoch(granted: NewEpoch): Promise<void> {
    await this.options.turns.run(async () => {
      const { state } = this;
      this.abandonEpoch();
      // This journal never saw the stream: what a lost one held since the last accepted frame (from 0) is not known.
      if (state.windowEndMs === 0 && !granted.link.equals(ZERO_DIGEST)) {
        addMark(state, { kind: 'record_lost', engine: 0, fromMs: 0, toMs: granted.nowMs });
      }
      state.meters.rebase(granted.baselines);
      state.epoch = granted.epoch;
      state.nextSeq = granted.nextSeq;
      state.link = granted.link;
      state.acked = granted.nextSeq - 1n;
      state.ackedLink = granted.link;
      state.sliceHeads = granted.sliceHeads;
      state.lost.clear();
      state.doubtful.clear();
      this.frames.clear();
      this.#lostLinks.clear();
      this.#active = null;
      await this.#rotate();
    });
  }

  /** Removes segments that nobody needs any more. Call after acknowledgements, beside sealing. */
  async removeAcknowledged(): Promise<void> {
    const done = [...this.segments.keys()].some((number) => this.#isDone(number));
    if (this.#active === null || !done) return;
    await this.options.turns.run(() => this.#removeDone());
  }

  /** Writes down how far the ledger is, and lets go of the files. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    try {
      await this.options.turns.run(async () => {
        if (this.#active !== null) await this.#write('ack', encodeAckBody(this.state.epoch, this.#acked()));
      });
    } finally {
      await this.options.files.close();
    }
  }

  #acked(): Acknowledged {
    return { seq: this.state.acked, link: this.state.ackedLink };
  }

  /** A sealed record; on failure the segment is given up and the state has not moved. */
  async #write(type: RecordType, body: Buffer): Promise<Pick<FramePlace, 'segment' | 'offset' | 'length'>> {
    const length = RECORD_HEADER_BYTES + body.length;
    if (this.#active === null || this.#isFull(this.#active, length)) await this.#rotate();
    const active = this.#active;
    if (active === null) throw new AppError('internal', 'the journal has no segment');
    const name = segmentName(active.number);
    const offset = active.bytes;
    try {
      await this.options.files.write(name, offset, encodeRecord(active.number, type, this.nextOrdinal, body));
      await this.options.files.sync(name);
    } catch (error) {
      this.#active = null;
      await this.options.files.truncate(name, offset).catch(() => undefined);
      throw new AppError('unavailable', 'the journal could not be written', { cause: error });
    }
    this.nextOrdinal++;
    active.bytes += length;
    this.segments.set(active.number, active.bytes);
    return { segment: active.number, offset, length };
  }

  #isFull(active: ActiveSegment, length: number): boolean {
    const wanted = this.options.capBytes / SEGMENTS_PER_CAP;
    const max = Math.min(Math.max(wanted, SEGMENT_BYTES_MIN), SEGMENT_BYTES_MAX);
    const grown = active.bytes - active.checkpointBytes;
    return grown > 0 && grown + length > Math.max(max, 2 * active.checkpointBytes);
  }

  async #rotate(): Promise<void> {
    const { files } = this.options;
    const number = this.#nextSegment++;
    const name = segmentName(number);
    this.state.meters.prune(this.state.acked);
    const checkpoint = encodeRecord(number, 'checkpoint', this.nextOrdinal, encodeCheckpoint(this.state));
    const bytes = Buffer.concat([encodeSegmentHeader(number), checkpoint]);
    try {
      await files.create(name);
      await files.write(name, 0, bytes);
      await files.sync(name);
      await files.syncDirectory();
    } catch (error) {
      this.#active = null;
      await files.remove(name).catch(() => undefined);
      throw new AppError('unavailable', 'the journal could not be written', { cause: error });
    }
    this.nextOrdinal++;
    this.#active = { number, bytes: bytes.length, checkpointBytes: bytes.length };
    this.segments.set(number, bytes.length);
    await this.#removeDone();
  }

  #isDone(segment: bigint): boolean {
    return segment !== this.#active?.number && !this.frames.isNeeded(segment);
  }

  async #removeDone(): Promise<void> {
    for (const number of [...this.segments.keys()].sort((a, b) => (a < b ? -1 : 1))) {
      if (!this.#isDone(number)) continue;
      try {
        await this.options.files.remove(segmentName(number));
        this.segments.delete(number);
      } catch {
        // It stays and counts against the cap; the next round tries again.
      }
    }
  }
}
