// The meters of one stream, by number, as columns. Numbers are 63-bit hashes, so they are kept as two 32-bit words and
// found by linear probing: 15 ns a look-up where a Map of bigint takes 120. `last…` is how far the validated frames
// have come, `kept…` how far the committed ones have: only the second is ever written to the meter table.
import { randomBytes } from 'node:crypto';
import { grown } from './growable.js';

const seed = randomBytes(4).readUInt32LE();

/** What is said when a meter is opened; device is all zero where there is none, boot where it is unknown. */
export interface MeterIdentity {
  high: number;
  low: number;
  engine: number;
  /** Index in the stream's subscriptions. */
  subscription: number;
  epoch: number;
  boot: Uint8Array;
  device: Uint8Array;
}

export class Meters {
  count = 0;
  private capacity = 256;
  private slots = new Int32Array(1024).fill(-1);
  high = new Uint32Array(this.capacity);
  low = new Uint32Array(this.capacity);
  engine = new Uint8Array(this.capacity);
  subscription = new Int32Array(this.capacity);
  epoch = new Int32Array(this.capacity);
  /** 32 bytes each: boot, device. */
  identity = new Uint8Array(this.capacity * 32);
  lastUpHigh = new Uint32Array(this.capacity);
  lastUpLow = new Uint32Array(this.capacity);
  lastDownHigh = new Uint32Array(this.capacity);
  lastDownLow = new Uint32Array(this.capacity);
  keptUpHigh = new Uint32Array(this.capacity);
  keptUpLow = new Uint32Array(this.capacity);
  keptDownHigh = new Uint32Array(this.capacity);
  keptDownLow = new Uint32Array(this.capacity);
  /** Number of the validation that last met the meter: a meter has one row in a frame. */
  seen = new Uint32Array(this.capacity);
  /** The stream's gap count when the meter had its last row: it may jump once after each gap. */
  gap = new Uint32Array(this.capacity);
  private changed = new Uint8Array(this.capacity);
  private kept = new Uint8Array(this.capacity);
  /** Meters that moved since the last checkpoint. */
  changes: number[] = [];

  find(high: number, low: number): number {
    const mask = this.slots.length - 1;
    let slot = hash(high, low) & mask;
    for (;;) {
      const index = this.slots[slot] as number;
      if (index < 0 || (this.low[index] === low && this.high[index] === high)) return index;
      slot = (slot + 1) & mask;
    }
  }

  /** Adds a meter that is not there. Its counters stand at 0. */
  add(meter: MeterIdentity): number {
    if (this.count === this.capacity) this.grow();
    const index = this.count++;
    this.high[index] = meter.high;
    this.low[index] = meter.low;
    this.engine[index] = meter.engine;
    this.subscription[index] = meter.subscription;
    this.epoch[index] = meter.epoch;
    this.identity.set(meter.boot, index * 32);
    this.identity.set(meter.device, index * 32 + 16);
    if (this.count * 2 > this.slots.length) this.rehash(this.slots.length * 4);
    else this.place(index);
    return index;
  }

  /** True once a committed frame has shown the meter. */
  isKept(index: number): boolean {
    return this.kept[index] === 1;
  }

  /** Notes that a committed frame moved the meter. */
  change(index: number): void {
    this.kept[index] = 1;
    if (this.changed[index] === 1) return;
    this.changed[index] = 1;
    this.changes.push(index);
  }

  /** Takes the list of meters to checkpoint. */
  takeChanges(): number[] {
    const taken = this.changes;
    for (const index of taken) this.changed[index] = 0;
    this.changes = [];
    return taken;
  }

  private place(index: number): void {
    const mask = this.slots.length - 1;
    let slot = hash(this.high[index] as number, this.low[index] as number) & mask;
    while ((this.slots[slot] as number) >= 0) slot = (slot + 1) & mask;
    this.slots[slot] = index;
  }

  private rehash(size: number): void {
    this.slots = new Int32Array(size).fill(-1);
    for (let i = 0; i < this.count; i++) this.place(i);
  }

  private grow(): void {
    const to = (this.capacity *= 2);
    this.high = grown(this.high, to);
    this.low = grown(this.low, to);
    this.engine = grown(this.engine, to);
    this.subscription = grown(this.subscription, to);
    this.epoch = grown(this.epoch, to);
    this.identity = grown(this.identity, to * 32);
    this.lastUpHigh = grown(this.lastUpHigh, to);
    this.lastUpLow = grown(this.lastUpLow, to);
    this.lastDownHigh = grown(this.lastDownHigh, to);
    this.lastDownLow = grown(this.lastDownLow, to);
    this.keptUpHigh = grown(this.keptUpHigh, to);
    this.keptUpLow = grown(this.keptUpLow, to);
    this.keptDownHigh = grown(this.keptDownHigh, to);
    this.keptDownLow = grown(this.keptDownLow, to);
    this.seen = grown(this.seen, to);
    this.gap = grown(this.gap, to);
    this.changed = grown(this.changed, to);
    this.kept = grown(this.kept, to);
  }
}

/** Seeded, so that a node cannot choose numbers that collide. */
function hash(high: number, low: number): number {
  let h = Math.imul(low ^ seed, 0x9e3779b1) ^ Math.imul(high, 0x85ebca6b);
  h ^= h >>> 15;
  h = Math.imul(h, 0xc2b2ae35);
  return (h ^ (h >>> 13)) >>> 0;
}
