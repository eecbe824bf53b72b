// Which epoch a node's stream goes on in when it opens. Pure: the caller reads the head (locked) and, where the node is
// behind it, whether the ledger holds the node's last frame.
export interface Head {
  epoch: number;
  seq: bigint;
  /** What the next frame must name as its predecessor. */
  digest: Buffer;
  frozen: boolean;
  /** Frozen, and somebody said that it may go on. */
  released: boolean;
}

export interface JournalEnd {
  /** 0: no usable journal. */
  epoch: number;
  /** Last sealed frame and its link. */
  seq: bigint;
  digest: Buffer;
  /** Oldest frame that can still be sent; seq + 1 when none is kept. */
  oldestSeq: bigint;
}

/** The ledger's view of the frame that a journal behind the head names as its last. */
export type InLedger = 'same' | 'absent' | 'not_asked';

export type Grant =
  | { kind: 'same' }
  /** The agent fetches baselines before it seals; numbering starts at 1. */
  | {
      kind: 'new';
      epoch: number;
      reason:
        'first' | 'no_journal' | 'older_epoch' | 'newer_epoch' | 'lost_tail' | 'lost_frames' | 'released';
    }
  | { kind: 'frozen'; reason: 'already' | 'other_digest' };

/** True when the decision needs to know whether (epoch, seq, digest) of the journal is in the ledger. */
export function needsLedger(head: Head | null, end: JournalEnd): boolean {
  return head !== null && !head.frozen && end.epoch === head.epoch && end.seq < head.seq;
}

/**
 * Same epoch when the journal continues the head; epoch + 1 when the node cannot continue it but nothing contradicts
 * the ledger (baselines make it exact); frozen when the node claims another digest for a frame we hold: a restored
 * snapshot or a thief. A frozen stream goes on in a new epoch once it was released: what both sides sent of the old one
 * is not told apart any more, and baselines say where the new one starts.
 */
export function grantEpoch(head: Head | null, end: JournalEnd, inLedger: InLedger): Grant {
  if (head === null) return { kind: 'new', epoch: end.epoch === 0 ? 1 : end.epoch + 1, reason: 'first' };
  const next = Math.max(head.epoch, end.epoch) + 1;
  if (head.frozen) {
    return head.released
      ? { kind: 'new', epoch: next, reason: 'released' }
      : { kind: 'frozen', reason: 'already' };
  }
  if (end.epoch === 0) return { kind: 'new', epoch: next, reason: 'no_journal' };
  if (end.epoch < head.epoch) return { kind: 'new', epoch: next, reason: 'older_epoch' };
  if (end.epoch > head.epoch) return { kind: 'new', epoch: next, reason: 'newer_epoch' };
  if (end.seq < head.seq) {
    return inLedger === 'same'
      ? { kind: 'new', epoch: next, reason: 'lost_tail' }
      : { kind: 'frozen', reason: 'other_digest' };
  }
  if (end.seq === head.seq && head.seq > 0n && !end.digest.equals(head.digest)) {
    return { kind: 'frozen', reason: 'other_digest' };
  }
  if (end.oldestSeq > head.seq + 1n) return { kind: 'new', epoch: next, reason: 'lost_frames' };
  return { kind: 'same' };
}
