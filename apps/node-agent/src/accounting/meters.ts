// Meters: which number an engine's counter has, what of it is sealed, what is still to be sealed. Pure.
//
// A meter is one life of one engine counter. Its number is derived from that life (engine, boot, subscription, device,
// generation), so the same life has the same number in every epoch and after every loss of state: whoever sees the
// counter again continues it and never counts it twice. A value that falls without reason starts a new generation.
// Invariant: for each meter Σ sealed deltas (+ healed) = its last sealed cumulative = `base`; a new row's delta is
// `read − base`. Read by sampler, sealer and journal; rows may start above the ledger's value only after a gap frame:
//
// The gap rule. A row says where it starts: start = cumulative − delta. Start equals the meter's last cumulative (0
// for a new one). After a gap frame the first row of each meter may start higher: healed = start − last, and the
// ledger counts delta + healed. Rows sealed before the loss was noticed heal so by themselves; for meters whose last
// row is known to stand in a lost frame the next frame has a row even if nothing moved (delta 0).
import type { CounterReading } from '../engines/engine.js';
import { idBytes } from '@penstock/domain/ids';
import { BYTES_MAX } from '@penstock/domain/terms';
import { blake3Digest } from '@penstock/ledger/digest';
import {
  openedMeters,
  rowColumns,
  type FrameView,
  type OpenedMeter,
  type SampleRow,
} from '@penstock/ledger/frame';

export const NO_ID: Buffer = Buffer.alloc(16);
/** openedSeq of a meter that an earlier epoch opened. */
export const OPENED_EARLIER = 0xffff_ffff_ffff_ffffn;
/** A meter that its engine has not shown in this many successful reads (an hour at least) is dead and forgotten. */
export const PRUNE_AFTER_READS = 3600;
const NUMBER_MASK = 0x7fff_ffff_ffff_ffffn;

export interface Meter {
  readonly number: bigint;
  readonly engine: number;
  /** 16 bytes each. Boot and device are null when the frame that opened the meter was lost. */
  readonly subscription: Buffer;
  boot: Buffer | null;
  device: Buffer | null;
  /** null until somebody can say whose it is; the meter is not sealed before. */
  tenant: Buffer | null;
  /** Sealed so far. */
  baseUp: bigint;
  baseDown: bigint;
  /** Last value seen. */
  readUp: bigint;
  readDown: bigint;
  /** Seq (in this epoch) of the frame with its last row and of the one that opened it; 0 for none. */
  lastSeq: bigint;
  openedSeq: bigint;
  /** Reads of its engine when it was last seen. */
  seenAtRead: number;
}

export interface MeterIdentity {
  engine: number;
  boot: Buffer;
  subscription: Buffer;
  device: Buffer;
}

/** What one reading of an engine showed beside the values. */
export interface Observation {
  /** Counters that fell without reason. */
  fell: number;
  /** Counters at the end of what we can store. */
  saturated: number;
  /** Subscriptions with bytes whose tenant nobody knows. */
  tenantless: number;
}

/** One row to seal, with what the meter was when it was taken. */
export interface PendingRow {
  meter: Meter;
  row: SampleRow;
  opened: OpenedMeter | null;
}

export function meterNumber(identity: MeterIdentity, generation: number): bigint {
  const tail = Buffer.allocUnsafe(5);
  tail.writeUInt8(identity.engine, 0);
  tail.writeUInt32BE(generation, 1);
  const digest = blake3Digest(identity.boot, identity.subscription, identity.device, tail);
  const number = digest.readBigUInt64BE(0) & NUMBER_MASK;
  return number === 0n ? 1n : number;
}

export class MeterBook {
  readonly #byNumber = new Map<bigint, Meter>();
  /** Newest generation of a life, by the reading's own words; only a cache. */
  readonly #byLife = new Map<string, Meter>();
  readonly #tenants = new Map<string, Buffer>();
  readonly #reads = new Map<number, number>();
  /** Meters whose reading changed since it was last written to the journal. */
  readonly #dirty = new Set<Meter>();

  get size(): number {
    return this.#byNumber.size;
  }

  all(): Iterable<Meter> {
    return this.#byNumber.values();
  }

  get(number: bigint): Meter | undefined {
    return this.#byNumber.get(number);
  }

  /**
   * Takes over one successful read of an engine. `tenantOf` answers 16 bytes or null. Readings of zero of a new life
   * open nothing.
   */
  observe(
    engine: number,
    readings: readonly CounterReading[],
    tenantOf: (subscriptionId: string) => Buffer | null,
  ): Observation {
    const seen: Observation = { fell: 0, saturated: 0, tenantless: 0 };
    const read = (this.#reads.get(engine) ?? 0) + 1;
    this.#reads.set(engine, read);
    for (const reading of readings) {
      let { up, down } = reading;
      const life = `${String(engine)}/${reading.boot}/${reading.subscriptionId}/${reading.deviceId ?? ''}`;
      let meter = this.#byLife.get(life);
      if (meter === undefined) {
        if (up === 0n && down === 0n) continue;
        meter = this.#resolve(identityOf(engine, reading));
        this.#byLife.set(life, meter);
      }
      if (up > BYTES_MAX || down > BYTES_MAX) {
        seen.saturated++;
        if (up > BYTES_MAX) up = BYTES_MAX;
        if (down > BYTES_MAX) down = BYTES_MAX;
      }
      if (up < meter.readUp || down < meter.readDown) {
        if (up === 0n && down === 0n) continue;
        seen.fell++;
        meter = this.#nextGeneration(identityOf(engine, reading));
        this.#byLife.set(life, meter);
      }
      meter.seenAtRead = read;
      if (meter.tenant === null) {
        meter.tenant =
          tenantOf(reading.subscriptionId) ?? this.#tenants.get(meter.subscription.toString('hex')) ?? null;
        if (meter.tenant !== null) this.#rememberTenant(meter);
        else seen.tenantless++;
      }
      if (up !== meter.readUp || down !== meter.readDown) {
        meter.readUp = up;
        meter.readDown = down;
        this.#dirty.add(meter);
      }
    }
    return seen;
  }

  /** Meters of one engine, of all lives. */
  *livesOf(engine: number): Generator<Meter> {
    for (const meter of this.#byNumber.values()) if (meter.engine === engine) yield meter;
  }

  /**
   * Rows for the next frame, at most `rowsMax` of at most `tenantsMax` tenants; `more` says that some had to wait.
   * `lost`: seqs of frames that a gap frame replaced and no frame has healed yet.
   */
  pending(
    rowsMax: number,
    tenantsMax: number,
    lost: ReadonlySet<bigint>,
  ): { rows: PendingRow[]; more: boolean } {
    const rows: PendingRow[] = [];
    const tenants = new Set<string>();
    let more = false;
    for (const meter of this.#byNumber.values()) {
      if (meter.tenant === null) continue;
      const reopen = meter.openedSeq === 0n || lost.has(meter.openedSeq);
      const moved = meter.readUp !== meter.baseUp || meter.readDown !== meter.baseDown;
      if (!moved && !(lost.size > 0 && (lost.has(meter.lastSeq) || lost.has(meter.openedSeq)))) continue;
      if (rows.length >= rowsMax) return { rows, more: true };
      if (tenants.size >= tenantsMax && !tenants.has(meter.tenant.toString('hex'))) {
        more = true;
        continue;
      }
      if (tenants.size < tenantsMax) tenants.add(meter.tenant.toString('hex'));
      rows.push({ meter, row: rowOf(meter), opened: reopen ? openingOf(meter) : null });
    }
    return { rows, more };
  }

  /** The rows are durable in frame `seq`: their meters' bases move. */
  sealed(rows: readonly PendingRow[], seq: bigint): void {
    for (const { meter, row, opened } of rows) {
      meter.baseUp = row.cumulativeUp;
      meter.baseDown = row.cumulativeDown;
      meter.lastSeq = seq;
      if (opened !== null) meter.openedSeq = seq;
      if (meter.readUp === meter.baseUp && meter.readDown === meter.baseDown) this.#dirty.delete(meter);
    }
  }

  /** Replays a sealed frame. */
  applyFrame(frame: FrameView): void {
    const seq = frame.header.seq;
    for (const slice of frame.slices) {
      for (const opened of openedMeters(slice)) {
        const known = opened.boot.compare(NO_ID) !== 0;
        const meter = this.#at(opened.meter, opened.engine, opened.subscription);
        meter.openedSeq = seq;
        meter.boot ??= known ? Buffer.from(opened.boot) : null;
        meter.device ??= known ? Buffer.from(opened.device) : null;
      }
      const tenant = Buffer.from(slice.tenantId);
      const columns = rowColumns(slice);
      for (let i = 0; i < slice.rows; i++) {
        const number = columns.meter.readBigUInt64BE(i * 8);
        const subscription = columns.subscription.subarray(i * 16, i * 16 + 16);
        const meter = this.#at(number, columns.engine.readUInt8(i), subscription);
        meter.baseUp = columns.cumulativeUp.readBigUInt64BE(i * 8);
        meter.baseDown = columns.cumulativeDown.readBigUInt64BE(i * 8);
        raiseRead(meter, meter.baseUp, meter.baseDown);
        meter.lastSeq = seq;
        if (meter.tenant === null) {
          meter.tenant = tenant;
          this.#rememberTenant(meter);
        }
      }
    }
  }

  /** Replays a value that was journalled outside a frame. */
  applyReading(
    number: bigint,
    identity: MeterIdentity,
    tenant: Buffer | null,
    up: bigint,
    down: bigint,
  ): void {
    const meter = this.#at(number, identity.engine, identity.subscription);
    meter.boot ??= Buffer.from(identity.boot);
    meter.device ??= Buffer.from(identity.device);
    meter.tenant ??= tenant === null ? null : Buffer.from(tenant);
    if (meter.tenant !== null) this.#rememberTenant(meter);
    raiseRead(meter, up, down);
  }

  /** Puts a meter in as a checkpoint states it. */
  load(meter: Meter): void {
    this.#byNumber.set(meter.number, meter);
    if (meter.tenant !== null) this.#rememberTenant(meter);
  }

  /** Meters whose values are not in the journal yet; they count as written afterwards. */
  takeUnwritten(): Meter[] {
    const out = [...this.#dirty];
    this.#dirty.clear();
    return out;
  }

  /** A write failed: these values are still only in memory. */
  putBackUnwritten(meters: readonly Meter[]): void {
    for (const meter of meters) this.#dirty.add(meter);
  }

  /**
   * A new epoch: the ledger's cumulatives are the bases from now on, what this node saw beyond them is pending again,
   * and meters that the ledger does not know will be opened again and count in full.
   */
  rebase(ledger: ReadonlyMap<bigint, Meter>): void {
    this.#byLife.clear();
    for (const meter of this.#byNumber.values()) {
      const known = ledger.get(meter.number);
      meter.lastSeq = 0n;
      meter.openedSeq = known === undefined ? 0n : OPENED_EARLIER;
      meter.baseUp = known?.baseUp ?? 0n;
      meter.baseDown = known?.baseDown ?? 0n;
      if (known !== undefined) raiseRead(meter, known.baseUp, known.baseDown);
    }
    for (const meter of ledger.values()) {
      if (this.#byNumber.has(meter.number)) continue;
      this.load({ ...meter, lastSeq: 0n, openedSeq: OPENED_EARLIER });
    }
  }

  /** Forgets meters whose life is over: nothing pending, acknowledged, and long unseen in their engine. */
  prune(acked: bigint): number {
    let pruned = 0;
    for (const [life, meter] of this.#byLife) if (this.#isDead(meter, acked)) this.#byLife.delete(life);
    const living = new Set([...this.#byLife.values()].map(familyOf));
    for (const meter of this.#byNumber.values()) {
      if (!this.#isDead(meter, acked) || living.has(familyOf(meter))) continue;
      this.#byNumber.delete(meter.number);
      pruned++;
    }
    if (pruned > 0) {
      this.#tenants.clear();
      for (const meter of this.#byNumber.values()) this.#rememberTenant(meter);
    }
    return pruned;
  }

  #isDead(meter: Meter, acked: bigint): boolean {
    const settled =
      meter.readUp === meter.baseUp && meter.readDown === meter.baseDown && meter.lastSeq <= acked;
    return settled && (this.#reads.get(meter.engine) ?? 0) - meter.seenAtRead > PRUNE_AFTER_READS;
  }

  #at(number: bigint, engine: number, subscription: Buffer): Meter {
    let meter = this.#byNumber.get(number);
    if (meter === undefined) {
      meter = newMeter(number, engine, Buffer.from(subscription));
      this.#byNumber.set(number, meter);
    }
    return meter;
  }

  /** The newest known generation of this life, or a new meter. */
  #resolve(identity: MeterIdentity): Meter {
    let newest: Meter | null = null;
    for (let generation = 0; ; generation++) {
      const number = meterNumber(identity, generation);
      const meter = this.#byNumber.get(number);
      if (meter === undefined) return newest ?? this.#create(number, identity);
      if (isOf(meter, identity)) {
        meter.boot ??= identity.boot;
        meter.device ??= identity.device;
        newest = meter;
      }
    }
  }

  #nextGeneration(identity: MeterIdentity): Meter {
    for (let generation = 1; ; generation++) {
      const number = meterNumber(identity, generation);
      if (!this.#byNumber.has(number)) return this.#create(number, identity);
    }
  }

  #create(number: bigint, identity: MeterIdentity): Meter {
    const meter = newMeter(number, identity.engine, identity.subscription);
    meter.boot = identity.boot;
    meter.device = identity.device;
    this.#byNumber.set(number, meter);
    return meter;
  }

  #rememberTenant(meter: Meter): void {
    if (meter.tenant !== null) this.#tenants.set(meter.subscription.toString('hex'), meter.tenant);
  }
}

export function newMeter(number: bigint, engine: number, subscription: Buffer): Meter {
  return {
    number,
    engine,
    subscription,
    boot: null,
    device: null,
    tenant: null,
    baseUp: 0n,
    baseDown: 0n,
    readUp: 0n,
    readDown: 0n,
    lastSeq: 0n,
    openedSeq: 0n,
    seenAtRead: 0,
  };
}

function identityOf(engine: number, reading: CounterReading): MeterIdentity {
  return {
    engine,
    boot: Buffer.from(reading.boot, 'hex'),
    subscription: Buffer.from(idBytes(reading.subscriptionId)),
    device: reading.deviceId === null ? NO_ID : Buffer.from(idBytes(reading.deviceId)),
  };
}

/** Same life; an unknown boot fits, because the number was derived from it. */
function isOf(meter: Meter, identity: MeterIdentity): boolean {
  return (
    meter.engine === identity.engine &&
    meter.subscription.equals(identity.subscription) &&
    (meter.boot === null || meter.boot.equals(identity.boot)) &&
    (meter.device === null || meter.device.equals(identity.device))
  );
}

function familyOf(meter: Meter): string {
  const boot = meter.boot?.toString('hex') ?? '';
  return `${String(meter.engine)}/${boot}/${meter.subscription.toString('hex')}/${meter.device?.toString('hex') ?? ''}`;
}

function raiseRead(meter: Meter, up: bigint, down: bigint): void {
  if (up > meter.readUp) meter.readUp = up;
  if (down > meter.readDown) meter.readDown = down;
}

function rowOf(meter: Meter): SampleRow {
  return {
    subscription: meter.subscription,
    engine: meter.engine,
    meter: meter.number,
    deltaUp: meter.readUp - meter.baseUp,
    deltaDown: meter.readDown - meter.baseDown,
    cumulativeUp: meter.readUp,
    cumulativeDown: meter.readDown,
  };
}

function openingOf(meter: Meter): OpenedMeter {
  return {
    meter: meter.number,
    engine: meter.engine,
    boot: meter.boot ?? NO_ID,
    subscription: meter.subscription,
    device: meter.device ?? NO_ID,
  };
}
