// Where the unacknowledged frames lie in the journal, and how many each segment still holds.
import type { LossMark } from '@penstock/ledger/frame';

export interface FramePlace {
  segment: bigint;
  offset: number;
  length: number;
  /** What the frame's successor names. */
  link: Buffer;
  windowEndMs: number;
  marks: LossMark[];
}

export class FrameIndex {
  readonly #places = new Map<bigint, FramePlace>();
  readonly #live = new Map<bigint, number>();

  get size(): number {
    return this.#places.size;
  }

  get(seq: bigint): FramePlace | undefined {
    return this.#places.get(seq);
  }

  has(seq: bigint): boolean {
    return this.#places.has(seq);
  }

  /** Seqs may be deleted while they are gone through. */
  seqs(): Iterable<bigint> {
    return this.#places.keys();
  }

  places(): Iterable<FramePlace> {
    return this.#places.values();
  }

  set(seq: bigint, place: FramePlace): void {
    this.delete(seq);
    this.#places.set(seq, place);
    this.#live.set(place.segment, (this.#live.get(place.segment) ?? 0) + 1);
  }

  delete(seq: bigint): void {
    const place = this.#places.get(seq);
    if (place === undefined) return;
    this.#places.delete(seq);
    const left = (this.#live.get(place.segment) ?? 0) - 1;
    if (left > 0) this.#live.set(place.segment, left);
    else this.#live.delete(place.segment);
  }

  clear(): void {
    this.#places.clear();
    this.#live.clear();
  }

  /** True while a segment holds a frame that nobody acknowledged. */
  isNeeded(segment: bigint): boolean {
    return this.#live.has(segment);
  }
}
