// The subscriptions that one stream has shown, as columns: who they are, since when and until when they are assigned to
// the node, the period that their usage falls into, and the committed sums that wait for the next flush.
import { grown } from './growable.js';

/** Nothing is known of the assignment yet. */
export const ASSIGNMENT_UNKNOWN = Number.NaN;

/** A sum that left its column: the period rolled, or the number would no longer be exact as a double. */
interface RolledSum {
  period: number;
  up: number;
  down: number;
  billable: number;
}

/** Sums on their way to the counters, as columns. Every number is exact. */
export interface Sums {
  count: number;
  period: Int32Array;
  up: Float64Array;
  down: Float64Array;
  billable: Float64Array;
}

/** Above this a sum is put aside before anything is added to it: one frame brings less, so no sum passes 2^53. */
const SUM_MAX = 2 ** 51;

export class Subscriptions {
  count = 0;
  private capacity = 256;
  private readonly byKey = new Map<string, number>();
  /** Hex of tenant and subscription, 64 digits. */
  readonly keys: string[] = [];
  /** The 16 bytes of the id as four big-endian words: compared with every row. */
  words = new Uint32Array(this.capacity * 4);
  /** The node serves it in [from, until], grace included; from > until: not at all; NaN: not asked yet. */
  from = new Float64Array(this.capacity);
  until = new Float64Array(this.capacity);
  /** Index of the period of the last row; -1: none yet. */
  period = new Int32Array(this.capacity);
  /** Committed, not flushed. */
  sumPeriod = new Int32Array(this.capacity);
  sumUp = new Float64Array(this.capacity);
  sumDown = new Float64Array(this.capacity);
  sumBillable = new Float64Array(this.capacity);
  private summed = new Uint8Array(this.capacity);
  private touched: number[] = [];
  private rolled: RolledSum[] = [];

  find(key: string): number {
    return this.byKey.get(key) ?? -1;
  }

  add(key: string, id: Uint8Array): number {
    if (this.count === this.capacity) this.grow();
    const index = this.count++;
    const view = new DataView(id.buffer, id.byteOffset, 16);
    for (let w = 0; w < 4; w++) this.words[index * 4 + w] = view.getUint32(w * 4);
    this.from[index] = ASSIGNMENT_UNKNOWN;
    this.until[index] = ASSIGNMENT_UNKNOWN;
    this.period[index] = -1;
    this.keys.push(key);
    this.byKey.set(key, index);
    return index;
  }

  /** Adds committed usage of a subscription in a period. */
  sum(index: number, period: number, up: number, down: number, billable: number): void {
    if (this.summed[index] === 0) {
      this.summed[index] = 1;
      this.touched.push(index);
      this.sumPeriod[index] = period;
    } else if (
      this.sumPeriod[index] !== period ||
      (this.sumUp[index] as number) + (this.sumDown[index] as number) > SUM_MAX ||
      (this.sumBillable[index] as number) > SUM_MAX
    ) {
      this.rolled.push({
        period: this.sumPeriod[index] as number,
        up: this.sumUp[index] as number,
        down: this.sumDown[index] as number,
        billable: this.sumBillable[index] as number,
      });
      this.clear(index);
      this.sumPeriod[index] = period;
    }
    this.sumUp[index] = (this.sumUp[index] as number) + up;
    this.sumDown[index] = (this.sumDown[index] as number) + down;
    this.sumBillable[index] = (this.sumBillable[index] as number) + billable;
  }

  /** Puts back what a flush could not write. */
  rollBack(sums: Sums): void {
    for (let i = 0; i < sums.count; i++) {
      this.rolled.push({
        period: sums.period[i] as number,
        up: sums.up[i] as number,
        down: sums.down[i] as number,
        billable: sums.billable[i] as number,
      });
    }
  }

  /** Hands out all waiting sums and starts from nothing. */
  takeSums(): Sums {
    const count = this.touched.length + this.rolled.length;
    const sums: Sums = {
      count,
      period: new Int32Array(count),
      up: new Float64Array(count),
      down: new Float64Array(count),
      billable: new Float64Array(count),
    };
    let at = 0;
    for (const rolled of this.rolled) {
      sums.period[at] = rolled.period;
      sums.up[at] = rolled.up;
      sums.down[at] = rolled.down;
      sums.billable[at++] = rolled.billable;
    }
    for (const index of this.touched) {
      sums.period[at] = this.sumPeriod[index] as number;
      sums.up[at] = this.sumUp[index] as number;
      sums.down[at] = this.sumDown[index] as number;
      sums.billable[at++] = this.sumBillable[index] as number;
      this.clear(index);
      this.summed[index] = 0;
    }
    this.touched = [];
    this.rolled = [];
    return sums;
  }

  private clear(index: number): void {
    this.sumUp[index] = 0;
    this.sumDown[index] = 0;
    this.sumBillable[index] = 0;
  }

  private grow(): void {
    const to = (this.capacity *= 2);
    this.words = grown(this.words, to * 4);
    this.from = grown(this.from, to);
    this.until = grown(this.until, to);
    this.period = grown(this.period, to);
    this.sumPeriod = grown(this.sumPeriod, to);
    this.sumUp = grown(this.sumUp, to);
    this.sumDown = grown(this.sumDown, to);
    this.sumBillable = grown(this.sumBillable, to);
    this.summed = grown(this.summed, to);
  }
}
