import { describe, expect, it } from 'vitest';
import { grantEpoch, needsLedger, type Head, type JournalEnd } from './epochs.js';

const digest = Buffer.alloc(32, 7);
const head: Head = { epoch: 2, seq: 10n, digest, frozen: false, released: false };
const end = (change: Partial<JournalEnd> = {}): JournalEnd => ({
  epoch: 2,
  seq: 10n,
  digest,
  oldestSeq: 11n,
  ...change,
});

describe('the epoch of a stream that opens', () => {
  it.each([
    ['goes on at the head', head, end(), { kind: 'same' }],
    [
      'goes on with frames that can still be sent',
      head,
      end({ seq: 15n, oldestSeq: 11n, digest: Buffer.alloc(32) }),
      { kind: 'same' },
    ],
    [
      'goes on when nothing was accepted in it yet',
      { ...head, seq: 0n },
      end({ seq: 0n, digest: Buffer.alloc(0), oldestSeq: 1n }),
      { kind: 'same' },
    ],
    ['is the first of a new node', null, end({ epoch: 0 }), { kind: 'new', epoch: 1, reason: 'first' }],
    [
      'is above any that the node has seen',
      null,
      end({ epoch: 4 }),
      { kind: 'new', epoch: 5, reason: 'first' },
    ],
    ['is new without a journal', head, end({ epoch: 0 }), { kind: 'new', epoch: 3, reason: 'no_journal' }],
    [
      'is new after an older epoch',
      head,
      end({ epoch: 1 }),
      { kind: 'new', epoch: 3, reason: 'older_epoch' },
    ],
    [
      'is new when the database was restored',
      head,
      end({ epoch: 6 }),
      { kind: 'new', epoch: 7, reason: 'newer_epoch' },
    ],
    [
      'is new when frames in between are gone',
      head,
      end({ seq: 15n, oldestSeq: 13n }),
      { kind: 'new', epoch: 3, reason: 'lost_frames' },
    ],
    [
      'is refused for another digest at the head',
      head,
      end({ digest: Buffer.alloc(32) }),
      { kind: 'frozen', reason: 'other_digest' },
    ],
    ['stays refused', { ...head, frozen: true }, end({ epoch: 0 }), { kind: 'frozen', reason: 'already' }],
    [
      'is new when an operator let the stream go on',
      { ...head, frozen: true, released: true },
      end({ digest: Buffer.alloc(32) }),
      { kind: 'new', epoch: 3, reason: 'released' },
    ],
  ] as const)('%s', (_, stored, journal, grant) => {
    expect(grantEpoch(stored, journal, 'not_asked')).toEqual(grant);
  });

  it('depends on the ledger when the node is behind the head', () => {
    const behind = end({ seq: 4n });
    expect(needsLedger(head, behind)).toBe(true);
    expect(grantEpoch(head, behind, 'same')).toEqual({ kind: 'new', epoch: 3, reason: 'lost_tail' });
    expect(grantEpoch(head, behind, 'absent')).toEqual({ kind: 'frozen', reason: 'other_digest' });
  });
});
