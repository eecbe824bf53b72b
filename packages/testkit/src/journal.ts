// A node's journal for tests and benchmarks: makes real, signed, linked frames out of usage that a test states. Keeps
// what an agent would keep (meters, slice ends, last digest) and nothing on disk.
import { createHash, type KeyObject } from 'node:crypto';
import { idBytes, type NodeId } from '@penstock/domain/ids';
import { engineNumber, type Engine } from '@penstock/domain/terms';
import { digestsOfFrame, frameLink } from '@penstock/ledger/chain';
import { signDigest } from '@penstock/ledger/digest';
import {
  decodeFrame,
  encodeFrame,
  encodeHeader,
  encodePayload,
  ZERO_DIGEST,
  type FrameHeader,
  type LossMark,
  type OpenedMeter,
  type SampleRow,
  type SliceView,
} from '@penstock/ledger/frame';

export interface Usage {
  tenantId: string;
  subscriptionId: string;
  up: bigint;
  down: bigint;
  /** xray when absent. */
  engine?: Engine;
}

export interface SealedFrame {
  epoch: number;
  seq: bigint;
  bytes: Buffer;
  signature: Buffer;
  digest: Buffer;
  link: Buffer;
}

/** What a test may want to be wrong in a frame. */
export interface Deviation {
  header?: Partial<FrameHeader>;
  /** Changes rows after the sums were made. */
  rows?: (rows: SampleRow[]) => SampleRow[];
  opened?: (opened: OpenedMeter[]) => OpenedMeter[];
  slicePrevDigest?: Buffer;
  signWith?: KeyObject;
  marks?: LossMark[];
  /** The journal does not move on: the next frame has the same number. */
  dry?: boolean;
}

interface JournalMeter {
  number: bigint;
  opened: boolean;
  up: bigint;
  down: bigint;
}

const NO_DEVICE = Buffer.alloc(16);

export class TestJournal {
  epoch = 1;
  seq = 0n;
  link: Buffer = ZERO_DIGEST;
  windowEndMs: number;
  readonly sliceEnds = new Map<string, Buffer>();
  readonly meters = new Map<string, JournalMeter>();
  private readonly node: Buffer;

  constructor(
    readonly nodeId: NodeId,
    private readonly serial: Buffer,
    private readonly key: KeyObject,
    startMs: number,
    private readonly windowMs = 1000,
    /** Another boot means other meters. */
    public boot: Buffer = Buffer.alloc(16, 1),
  ) {
    this.node = Buffer.from(idBytes(nodeId));
    this.windowEndMs = startMs;
  }

  /** Seals one frame. A subscription's usage of one engine may be named once. */
  seal(usage: readonly Usage[], deviation: Deviation = {}): SealedFrame {
    const before = deviation.dry === true ? this.copy() : null;
    const byTenant = Map.groupBy(usage, (u) => u.tenantId);
    const tenants = [...byTenant.keys()].sort();
    const slices: SliceView[] = [];
    for (const tenant of tenants) {
      const opened: OpenedMeter[] = [];
      const rows: SampleRow[] = [];
      for (const item of byTenant.get(tenant) ?? []) this.addRow(item, opened, rows);
      const openedOut = deviation.opened?.(opened) ?? opened;
      const rowsOut = deviation.rows?.(rows) ?? rows;
      slices.push({
        tenantId: Buffer.from(idBytes(tenant)),
        opened: openedOut.length,
        rows: rowsOut.length,
        prevDigest: deviation.slicePrevDigest ?? this.sliceEnds.get(tenant) ?? ZERO_DIGEST,
        payload: encodePayload(openedOut, rowsOut),
      });
    }
    const header: FrameHeader = {
      kind: 'data',
      nodeId: this.node,
      epoch: this.epoch,
      seq: this.seq + 1n,
      windowStartMs: this.windowEndMs,
      windowMs: this.windowMs,
      prevDigest: this.link,
      certificateSerial: this.serial,
      marks: deviation.marks ?? [],
      lostDigest: null,
      ...deviation.header,
    };
    const frame = this.sign(header, slices, deviation.signWith);
    tenants.forEach((tenant, i) => this.sliceEnds.set(tenant, frame.sliceDigests[i] as Buffer));
    this.advance(frame.sealed);
    if (before !== null) Object.assign(this, before);
    return frame.sealed;
  }

  /** Seals a gap frame in place of a lost one. */
  sealGap(lostDigest: Buffer): SealedFrame {
    const { sealed } = this.sign(
      {
        kind: 'gap',
        nodeId: this.node,
        epoch: this.epoch,
        seq: this.seq + 1n,
        windowStartMs: this.windowEndMs,
        windowMs: this.windowMs,
        prevDigest: this.link,
        certificateSerial: this.serial,
        marks: [
          {
            kind: 'record_lost',
            engine: 0,
            fromMs: this.windowEndMs,
            toMs: this.windowEndMs + this.windowMs,
          },
        ],
        lostDigest,
      },
      [],
    );
    this.advance(sealed);
    return sealed;
  }

  /** Takes a granted epoch: numbering starts again. */
  beginEpoch(epoch: number, headDigest: Buffer): void {
    this.epoch = epoch;
    this.seq = 0n;
    this.link = headDigest;
  }

  private addRow(item: Usage, opened: OpenedMeter[], rows: SampleRow[]): void {
    const engine = engineNumber[item.engine ?? 'xray'];
    const subscription = Buffer.from(idBytes(item.subscriptionId));
    const name = `${item.subscriptionId}/${engine}/${this.boot.toString('hex')}`;
    let meter = this.meters.get(name);
    if (meter === undefined) {
      meter = { number: meterNumber(this.node, name), opened: false, up: 0n, down: 0n };
      this.meters.set(name, meter);
    }
    if (!meter.opened)
      opened.push({ meter: meter.number, engine, boot: this.boot, subscription, device: NO_DEVICE });
    meter.opened = true;
    meter.up += item.up;
    meter.down += item.down;
    rows.push({
      subscription,
      engine,
      meter: meter.number,
      deltaUp: item.up,
      deltaDown: item.down,
      cumulativeUp: meter.up,
      cumulativeDown: meter.down,
    });
  }

  private sign(header: FrameHeader, slices: SliceView[], key = this.key) {
    const bytes = encodeFrame(encodeHeader(header, slices.length), slices);
    const view = decodeFrame(bytes);
    const { digest, sliceDigests } = digestsOfFrame(view);
    const sealed: SealedFrame = {
      epoch: header.epoch,
      seq: header.seq,
      bytes,
      signature: signDigest(digest, key),
      digest,
      link: frameLink(view, digest),
    };
    return { sealed, sliceDigests };
  }

  private advance(frame: SealedFrame): void {
    this.seq = frame.seq;
    this.link = frame.link;
    this.windowEndMs += this.windowMs;
  }

  private copy() {
    return {
      seq: this.seq,
      link: this.link,
      windowEndMs: this.windowEndMs,
      sliceEnds: new Map(this.sliceEnds),
      meters: new Map([...this.meters].map(([name, meter]) => [name, { ...meter }])),
    };
  }
}

function meterNumber(node: Buffer, name: string): bigint {
  return (createHash('sha256').update(node).update(name).digest().readBigUInt64BE() >> 1n) | 1n;
}
