// What the collector keeps in memory of one node's stream. Two ends: `seq`/`digest`/meters' last values run ahead with
// every validated frame, `keptSeq` and the sums follow with every committed one. When anything about the database is
// uncertain the whole state is thrown away (`end`) and read again at the next open: memory never argues with the ledger.
import type { KeyObject } from 'node:crypto';
import { AppError } from '@penstock/domain/errors';
import type { NodeId } from '@penstock/domain/ids';
import { Meters } from './meters.js';
import { Series } from './series.js';
import { Subscriptions } from './subscriptions.js';
import type { Lane } from './lanes.js';
import type { CheckedFrame } from './accept.js';
import type { Multiplier } from './multiplier.js';

/** A place in a stream. */
export interface Position {
  epoch: number;
  seq: bigint;
}

/** How far derived state of each kind has come. */
export interface Marks {
  counter: Position;
  meter: Position;
  series: Position;
}

export interface NodeCertificate {
  publicKey: KeyObject;
  notBeforeMs: number;
  notAfterMs: number;
  /** Infinity while good. */
  revokedAtMs: number;
}

export interface NodeTerms {
  /** By time, not empty. */
  multipliers: readonly Multiplier[];
  linkMbps: number;
}

/** The digest that the next slice of a tenant must name, and the stream's gap count when it was set. */
export interface SliceEnd {
  digest: Buffer;
  gap: number;
}

/** Frames whose digest is remembered, for repeats; older ones are looked up. */
const DIGESTS_KEPT = 64;

/** The open connection of a stream. */
export interface Session {
  /** All frames up to here are durable. */
  accepted(position: Position): void;
  end(error: AppError): void;
  /** This frame stops the stream. */
  refuse(seq: bigint, error: AppError): void;
}

/** Windows' bounds are not exact to the second. */
export const CEILING_SLACK_MS = 2_000;

export class Stream {
  readonly meters = new Meters();
  readonly subscriptions = new Subscriptions();
  readonly series = new Series();
  /** Tenants that the node serves or served (from assignments), by hex; the value is the id as text. */
  readonly tenants = new Map<string, string>();
  readonly sliceEnds = new Map<string, SliceEnd>();
  /** By hex of the serial; null: not a certificate of this node. */
  readonly certificates = new Map<string, NodeCertificate | null>();
  private readonly digests = new Map<bigint, Buffer>();

  /** End of what was validated. */
  epoch: number;
  seq: bigint;
  digest: Buffer;
  /** End of the latest data window; the ceiling of the next one is measured from here. */
  windowEndMs = Number.NaN;
  /** What the ceiling lets through beyond real time, in ms of the link's rate; used up by excess, refilled by time. */
  slackMs = CEILING_SLACK_MS;
  /** Grows with every gap frame: until a meter's first row after it, the row may start higher. */
  gaps: number;

  /** End of what is committed. */
  kept: Position;
  /** How far counters, meters and series are flushed. Series move with the meters, so meterMark never lies above. */
  counterMark: Position;
  meterMark: Position;
  seriesMark: Position;

  /** Validated frames that are not yet committed or given up. */
  inFlight = 0;
  /** Set once the state may no longer be trusted or written. */
  ended: AppError | null = null;
  session: Session | null = null;
  private waiting: (() => void)[] = [];
  /** Subscriptions that the node showed and that are not assigned to it. */
  readonly unassigned = new Set<number>();
  unassignedAskedAtMs = 0;
  /** When assignments were last read as a whole. */
  assignmentsReadAtMs: number;
  /** Number of the last validation, for Meters.seen. */
  validation = 0;
  lastUsedMs: number;

  constructor(
    readonly nodeId: NodeId,
    readonly nodeBytes: Buffer,
    public fence: bigint,
    readonly lane: Lane<CheckedFrame>,
    public node: NodeTerms,
    head: Position & { digest: Buffer },
    marks: Marks,
    gaps: number,
    nowMs: number,
  ) {
    this.epoch = head.epoch;
    this.seq = head.seq;
    this.digest = head.digest;
    this.kept = { epoch: head.epoch, seq: head.seq };
    this.counterMark = marks.counter;
    this.meterMark = marks.meter;
    this.seriesMark = marks.series;
    this.gaps = gaps;
    this.assignmentsReadAtMs = nowMs;
    this.lastUsedMs = nowMs;
  }

  /** Digest of a frame of the current epoch that was validated here, if it is still remembered. */
  digestOf(seq: bigint): Buffer | undefined {
    return this.digests.get(seq);
  }

  remember(seq: bigint, digest: Buffer): void {
    this.digests.set(seq, digest);
    if (this.digests.size > DIGESTS_KEPT) this.digests.delete(seq - BigInt(DIGESTS_KEPT));
  }

  /** Begins a granted epoch: numbering starts again, meters and slice chains go on. */
  beginEpoch(epoch: number): void {
    this.epoch = epoch;
    this.seq = 0n;
    this.kept = { epoch, seq: 0n };
    this.digests.clear();
  }

  /** Marks the state as not to be used again and closes the connection that feeds it. */
  end(error: AppError): void {
    if (this.ended !== null) return;
    this.ended = error;
    this.session?.end(error);
    this.session = null;
    this.wake();
  }

  /** Like end, and tells the node which frame it was. */
  refuse(seq: bigint, error: AppError): void {
    this.session?.refuse(seq, error);
    this.session = null;
    this.end(error);
  }

  /** A frame that was on its way is committed or given up. */
  settled(): void {
    this.inFlight--;
    this.wake();
  }

  /** Resolves when fewer than `frames` frames are on their way to the database. */
  async below(frames: number): Promise<void> {
    while (this.inFlight >= frames) await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  private wake(): void {
    const woken = this.waiting;
    this.waiting = [];
    for (const resolve of woken) resolve();
  }
}

export function after(a: Position, b: Position): boolean {
  return a.epoch > b.epoch || (a.epoch === b.epoch && a.seq > b.seq);
}
