// What the journal's records amount to: the numbering, the links, the meters. Pure; made by replaying records in order
// and moved on by the same functions when a record has become durable, so that a restart arrives at the same state.
import type { LossMark } from '@penstock/ledger/frame';
import { MARKS_MAX, ZERO_DIGEST, type FrameView } from '@penstock/ledger/frame';
import { digestsOfFrame, frameLink } from '@penstock/ledger/chain';
import { MeterBook } from './meters.js';

/** How far an engine had been read when a record was written. */
export interface EngineRead {
  /** Server-corrected ms of the last successful read; 0 for none. */
  readMs: number;
  /** The engine was ended on purpose after that read: a new boot is no loss. */
  ended: boolean;
}

export interface JournalState {
  /** 0: no epoch was granted yet, or this journal lost what it needs to go on in its epoch. */
  epoch: number;
  /** Seq of the next frame and what it must name as its predecessor. */
  nextSeq: bigint;
  link: Buffer;
  /** Last acknowledged seq of this epoch and its link. */
  acked: bigint;
  ackedLink: Buffer;
  /** End of the last sealed window, ms since 1970; 0 for none. */
  windowEndMs: number;
  /** Tenant (hex) → digest of its last slice. */
  sliceHeads: Map<string, Buffer>;
  meters: MeterBook;
  engines: Map<number, EngineRead>;
  /** Losses noticed and not sealed yet. */
  marks: LossMark[];
  /** Seqs that a gap frame took and that no frame has healed yet. */
  lost: Set<bigint>;
  /**
   * Unreadable frames that this state was replayed across. It is right if the ledger lacks them (a gap frame comes) and
   * wrong if the ledger has them: then only a new epoch gives sound bases.
   */
  doubtful: Set<bigint>;
}

export function emptyState(): JournalState {
  return {
    epoch: 0,
    nextSeq: 1n,
    link: ZERO_DIGEST,
    acked: 0n,
    ackedLink: ZERO_DIGEST,
    windowEndMs: 0,
    sliceHeads: new Map(),
    meters: new MeterBook(),
    engines: new Map(),
    marks: [],
    lost: new Set(),
    doubtful: new Set(),
  };
}

/** A data frame is durable: numbering, links and slice heads move. Meters are moved by their own functions. */
export function advance(state: JournalState, frame: FrameView): { digest: Buffer; link: Buffer } {
  const { digest, sliceDigests } = digestsOfFrame(frame);
  const link = Buffer.from(frameLink(frame, digest));
  state.nextSeq = frame.header.seq + 1n;
  state.link = link;
  state.windowEndMs = frame.header.windowStartMs + frame.header.windowMs;
  frame.slices.forEach((slice, i) => {
    state.sliceHeads.set(slice.tenantId.toString('hex'), sliceDigests[i] as Buffer);
  });
  state.marks = [];
  state.lost.clear();
  return { digest, link };
}

/** Adds a mark; marks of one kind and engine melt into one when there are too many for a frame. */
export function addMark(state: JournalState, mark: LossMark): void {
  if (state.marks.length < MARKS_MAX) {
    state.marks.push(mark);
    return;
  }
  const like = state.marks.find((other) => other.kind === mark.kind && other.engine === mark.engine);
  if (like === undefined) return;
  like.fromMs = Math.min(like.fromMs, mark.fromMs);
  like.toMs = Math.max(like.toMs, mark.toMs);
}
