// What the collector promises the agent, in memory and to the letter (docs of verify.ts, usage.proto): heads, epochs,
// duplicates, forks, baselines. Every accepted frame goes through the offline verifier, so a frame that breaks a rule
// fails the test that sent it.
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { digestsOfFrame, frameLink } from '@penstock/ledger/chain';
import { decodeFrame, ZERO_DIGEST } from '@penstock/ledger/frame';
import { StreamVerifier, type StoredFrame } from '@penstock/ledger/verify';
import { idFromBytes } from '@penstock/domain/ids';
import { newMeter, type Meter } from '../../src/accounting/meters.js';
import type { SealedFrame } from '../../src/accounting/record-body.js';
import type { NewEpoch, SigningIdentity } from '../../src/accounting/wal.js';

const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });

export function testIdentity(nodeId: Buffer): SigningIdentity & { publicKey: KeyObject } {
  return {
    nodeId,
    certificateSerial: Buffer.alloc(16, 7),
    privateKey: keys.privateKey,
    publicKey: keys.publicKey,
  };
}

export interface Grant extends Omit<NewEpoch, 'nowMs'> {
  isNew: boolean;
}

export type Verdict = { kind: 'accepted'; duplicate: boolean } | { kind: 'expected'; seq: bigint };

export class ModelLedger {
  epoch = 0;
  /** Last accepted seq of the epoch, its link, and what comes next. */
  seq = 0n;
  link: Buffer = ZERO_DIGEST;
  readonly verifier: StreamVerifier;
  readonly stored: StoredFrame[] = [];
  readonly #digests = new Map<string, { digest: Buffer; link: Buffer }>();
  readonly #sliceHeads = new Map<string, Buffer>();

  constructor(nodeId: Buffer) {
    this.verifier = new StreamVerifier(idFromBytes(nodeId), { publicKey: () => keys.publicKey });
  }

  get totals(): { up: bigint; down: bigint } {
    return { up: this.verifier.report.upBytes, down: this.verifier.report.downBytes };
  }

  /** Answers Open as the collector does. Throws `frozen` for a fork. */
  open(head: { epoch: number; seq: bigint; link: Buffer; oldestSeq: bigint }): Grant {
    if (head.epoch === this.epoch && this.epoch > 0 && head.oldestSeq <= this.seq + 1n) {
      if (head.seq > this.seq) return this.#same();
      const mine =
        head.seq === 0n ? undefined : this.#digests.get(`${String(this.epoch)}/${String(head.seq)}`);
      if (head.seq === this.seq && (head.seq === 0n || mine?.link.equals(head.link) === true))
        return this.#same();
      if (head.seq > 0n && mine?.link.equals(head.link) !== true) throw new Error('frozen: fork');
    }
    this.epoch = Math.max(this.epoch, head.epoch) + 1;
    this.seq = 0n;
    const baselines = new Map<bigint, Meter>();
    for (const [number, known] of this.verifier.meters) {
      const meter = newMeter(number, known.engine, known.subscription);
      meter.boot = known.boot;
      meter.device = known.device;
      meter.tenant = Buffer.from(known.tenant.replaceAll('-', ''), 'hex');
      meter.baseUp = meter.readUp = known.up;
      meter.baseDown = meter.readDown = known.down;
      baselines.set(number, meter);
    }
    const sliceHeads = new Map(this.#sliceHeads);
    return { isNew: true, epoch: this.epoch, nextSeq: 1n, link: this.link, sliceHeads, baselines };
  }

  #same(): Grant {
    const { epoch, seq, link } = this;
    return { isNew: false, epoch, nextSeq: seq + 1n, link, sliceHeads: new Map(), baselines: new Map() };
  }

  receive(frame: SealedFrame): Verdict {
    const view = decodeFrame(frame.frameBytes);
    const { epoch, seq } = view.header;
    const { digest, sliceDigests } = digestsOfFrame(view);
    const known = this.#digests.get(`${String(epoch)}/${String(seq)}`);
    if (known !== undefined) {
      if (!known.digest.equals(digest)) throw new Error(`frozen: another digest for seq ${String(seq)}`);
      return { kind: 'accepted', duplicate: true };
    }
    if (epoch !== this.epoch) throw new Error('a frame of another epoch');
    if (seq !== this.seq + 1n) return { kind: 'expected', seq: this.seq + 1n };
    const stored: StoredFrame = {
      header: Buffer.from(view.headerBytes),
      signature: Buffer.from(frame.signature),
      digest,
      slices: view.slices.map((slice, i) => ({
        ...slice,
        tenantId: Buffer.from(slice.tenantId),
        prevDigest: Buffer.from(slice.prevDigest),
        payload: Buffer.from(slice.payload),
        digest: sliceDigests[i] as Buffer,
      })),
    };
    const problem = this.verifier.accept(stored);
    if (problem !== null) throw new Error(`refused: ${problem.reason} ${problem.detail}`);
    this.stored.push(stored);
    view.slices.forEach((slice, i) => {
      this.#sliceHeads.set(slice.tenantId.toString('hex'), sliceDigests[i] as Buffer);
    });
    this.seq = seq;
    this.link = Buffer.from(frameLink(view, digest));
    this.#digests.set(`${String(epoch)}/${String(seq)}`, { digest, link: this.link });
    return { kind: 'accepted', duplicate: false };
  }
}
