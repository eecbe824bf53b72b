// From a journal's segments to its state. Pure but for reading the files. What is damaged is left out and named: frames
// that are missing (the sender makes gap frames of those the ledger wants), and whether the state itself is in doubt.
import { AppError } from '@penstock/domain/errors';
import { digestsOfFrame, frameLink } from '@penstock/ledger/chain';
import { FrameIndex } from './frame-index.js';
import type { WalFiles } from './wal-files.js';
import { addMark, advance, emptyState, type JournalState } from './journal-state.js';
import { scanSegment, SEGMENT_HEADER_BYTES, type ScannedRecord } from './record.js';
import {
  decodeAckBody,
  decodeCheckpoint,
  decodeFrameBody,
  decodeReadingsBody,
  type Acknowledged,
  type FrameBody,
} from './record-body.js';

export interface Replay {
  state: JournalState;
  frames: FrameIndex;
  /** Segment number → bytes. */
  segments: Map<bigint, number>;
  nextOrdinal: bigint;
  /** Damaged stretches found. */
  corrupt: number;
}

const SEGMENT_NAME = /^segment-([0-9a-f]{16})\.wal$/;

export function segmentName(segment: bigint): string {
  return `segment-${segment.toString(16).padStart(16, '0')}.wal`;
}

/** Reads the whole journal, oldest segment first. `nowMs` bounds the marks of what a damaged end may have held. */
export async function replayJournal(files: WalFiles, nowMs: number): Promise<Replay> {
  const numbers = (await files.list())
    .map((name) => SEGMENT_NAME.exec(name)?.[1])
    .filter((hex) => hex !== undefined)
    .map((hex) => BigInt(`0x${hex}`))
    .sort((a, b) => (a < b ? -1 : 1));
  const replayer = new Replayer();
  for (const number of numbers) replayer.segment(number, await files.read(segmentName(number)));
  return replayer.finish(nowMs);
}

class Replayer {
  #state = emptyState();
  readonly #frames = new FrameIndex();
  readonly #segments = new Map<bigint, number>();
  #previousSegment: bigint | null = null;
  #nextOrdinal = 1n;
  #corrupt = 0;
  /** No sound checkpoint stands before what was replayed last. */
  #baseless = false;
  /** Frames that were skipped since the last checkpoint. */
  #skipped: bigint[] = [];
  /** Something that may have been sealed was lost behind the last frame. */
  #lostEnd = false;

  segment(number: bigint, bytes: Buffer): void {
    const scan = scanSegment(number, bytes);
    this.#segments.set(number, bytes.length);
    const first = scan.records[0];
    const startsWithCheckpoint = first?.type === 'checkpoint' && first.offset === SEGMENT_HEADER_BYTES;
    // Without its checkpoint a segment continues its direct predecessor, or nothing.
    const continues = this.#previousSegment !== null && this.#previousSegment === number - 1n;
    if (!startsWithCheckpoint && scan.records.length > 0 && !continues) this.#baseless = true;
    this.#previousSegment = number;
    this.#corrupt += scan.holes.length + (scan.tail === 'corrupt' ? 1 : 0);
    const holes = new Set(scan.holes.map((hole) => hole.offset + hole.length));
    for (const record of scan.records) {
      if (holes.has(record.offset)) this.#lostEnd = true;
      this.#record(number, record);
    }
    if (scan.tail === 'corrupt') this.#lostEnd = true;
  }

  finish(nowMs: number): Replay {
    const state = this.#state;
    for (const seq of this.#frames.seqs())
      if (seq <= state.acked || seq >= state.nextSeq) this.#frames.delete(seq);
    for (const seq of this.#skipped) {
      if (this.#frames.has(seq)) continue;
      if (seq <= state.acked) this.#baseless = true;
      else state.doubtful.add(seq);
    }
    // What stood at a damaged end may be in the ledger: sealing another frame in its place would be a fork.
    if (this.#lostEnd || this.#baseless) {
      const fromMs = Math.min(state.windowEndMs, nowMs);
      addMark(state, { kind: 'record_lost', engine: 0, fromMs, toMs: nowMs });
      state.epoch = 0;
      for (const place of this.#frames.places()) for (const mark of place.marks) addMark(state, mark);
      this.#frames.clear();
    }
    return {
      state,
      frames: this.#frames,
      segments: this.#segments,
      nextOrdinal: this.#nextOrdinal,
      corrupt: this.#corrupt,
    };
  }

  #record(segment: bigint, record: ScannedRecord): void {
    try {
      this.#apply(segment, record);
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      // A sound checksum over a body we cannot read: written by another version of the agent.
      this.#corrupt++;
      this.#lostEnd = true;
    }
    if (record.ordinal >= this.#nextOrdinal) this.#nextOrdinal = record.ordinal + 1n;
  }

  #apply(segment: bigint, record: ScannedRecord): void {
    const state = this.#state;
    switch (record.type) {
      case 'checkpoint': {
        const next = decodeCheckpoint(record.body);
        if (next.epoch !== state.epoch) this.#frames.clear();
        for (const seq of this.#frames.seqs()) if (seq >= next.nextSeq) this.#frames.delete(seq);
        this.#state = next;
        this.#baseless = false;
        this.#skipped = [];
        this.#lostEnd = false;
        return;
      }
      case 'frame':
        this.#frame(segment, record, decodeFrameBody(record.body));
        return;
      case 'gap': {
        const body = decodeFrameBody(record.body);
        const { digest } = digestsOfFrame(body.view);
        const seq = body.view.header.seq;
        if (body.view.header.epoch !== state.epoch || seq >= state.nextSeq) return;
        this.#place(segment, record, body, Buffer.from(frameLink(body.view, digest)));
        state.lost.add(seq);
        state.doubtful.delete(seq);
        this.#skipped = this.#skipped.filter((skipped) => skipped !== seq);
        return;
      }
      case 'ack': {
        const ack = decodeAckBody(record.body);
        if (ack.epoch === state.epoch) this.#acked(ack.acked);
        return;
      }
      case 'readings': {
        const body = decodeReadingsBody(record.body);
        state.engines = body.engines;
        state.marks = body.marks;
        for (const { number, identity, tenant, up, down } of body.readings) {
          state.meters.applyReading(number, identity, tenant, up, down);
        }
        return;
      }
    }
  }

  #frame(segment: bigint, record: ScannedRecord, body: FrameBody): void {
    const state = this.#state;
    const { epoch, seq } = body.view.header;
    if (epoch !== state.epoch) {
      // The checkpoint that began this epoch is unreadable.
      this.#baseless = true;
      state.epoch = epoch;
      state.nextSeq = seq;
    }
    if (seq < state.nextSeq) return;
    for (let skipped = state.nextSeq; skipped < seq; skipped++) this.#skipped.push(skipped);
    this.#lostEnd = false;
    state.meters.applyFrame(body.view);
    state.engines = body.engines;
    const { link } = advance(state, body.view);
    this.#place(segment, record, body, link);
    this.#acked(body.acked);
  }

  #place(segment: bigint, record: ScannedRecord, body: FrameBody, link: Buffer): void {
    const { header } = body.view;
    this.#frames.set(header.seq, {
      segment,
      offset: record.offset,
      length: record.length,
      link,
      windowEndMs: header.windowStartMs + header.windowMs,
      marks: header.marks,
    });
  }

  #acked({ seq, link }: Acknowledged): void {
    const state = this.#state;
    if (seq <= state.acked || seq >= state.nextSeq) return;
    state.acked = seq;
    state.ackedLink = Buffer.from(link);
  }
}
