// What a journal does with the collector's answer to Open. Decides and moves the journal's acknowledgement; no stream.
import { AppError } from '@penstock/domain/errors';
import type { Wal } from './wal.js';

/** The collector said no: nothing is sent until somebody acts or the retry time is over. */
export class StreamRefused extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** The part of `Opened` that decides. */
export interface Answer {
  epoch: number;
  nextSeq: bigint;
  headDigest: Buffer;
  baselinesNeeded: boolean;
}

/**
 * `goOn`: the journal fits, send from nextSeq. `begin`: fetch baselines and begin the granted epoch. `reopen`: the
 * ledger is ahead of this journal (a lost tail), behind what it acknowledged (a restored backup), or has a frame that
 * this journal lost, so the epoch was given up; nothing is lost, because the meters know their cumulatives. Throws
 * StreamRefused for a fork.
 */
export function agree(wal: Wal, answer: Answer): 'goOn' | 'begin' | 'reopen' {
  if (answer.epoch === 0 || answer.nextSeq === 0n)
    throw new AppError('invalid_input', 'the answer has no epoch');
  if (answer.epoch !== wal.state.epoch || answer.baselinesNeeded) return 'begin';
  const before = answer.nextSeq - 1n;
  const { nextSeq, acked } = wal.state;
  const fits = answer.nextSeq <= nextSeq && before >= acked;
  const mine = fits ? wal.linkOf(before) : undefined;
  if (mine !== undefined && answer.headDigest.length > 0 && !mine.equals(answer.headDigest)) {
    throw new StreamRefused('frame_fork', 'the ledger has another frame in the place of ours');
  }
  if (fits && wal.acknowledge(answer.epoch, before, Buffer.from(answer.headDigest))) return 'goOn';
  wal.abandonEpoch();
  return 'reopen';
}
