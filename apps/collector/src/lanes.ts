// The bounded queue between streams and the group commit: one lane a node, emptied round-robin, so that a node that
// sends a hundred times as much waits behind its own frames and nobody else's.

export interface Lane<T> {
  items: T[];
  waiting: boolean;
}

export class Lanes<T extends { bytes: number }> {
  frames = 0;
  bytes = 0;
  private readonly turn: Lane<T>[] = [];

  constructor(
    private readonly framesMax: number,
    private readonly bytesMax: number,
  ) {}

  lane(): Lane<T> {
    return { items: [], waiting: false };
  }

  /** True while one more item of `bytes` fits. An empty queue takes any item. */
  fits(bytes: number): boolean {
    return this.frames === 0 || (this.frames < this.framesMax && this.bytes + bytes <= this.bytesMax);
  }

  push(lane: Lane<T>, item: T): void {
    lane.items.push(item);
    this.frames++;
    this.bytes += item.bytes;
    if (lane.waiting) return;
    lane.waiting = true;
    this.turn.push(lane);
  }

  /** Up to `framesMax` items and about `bytesMax` bytes, one of each lane in turn; order within a lane is kept. */
  take(framesMax: number, bytesMax: number): T[] {
    const taken: T[] = [];
    let bytes = 0;
    while (taken.length < framesMax && bytes < bytesMax) {
      const lane = this.turn.shift();
      if (lane === undefined) break;
      const item = lane.items.shift();
      if (lane.items.length > 0) this.turn.push(lane);
      else lane.waiting = false;
      if (item === undefined) continue;
      taken.push(item);
      bytes += item.bytes;
      this.frames--;
      this.bytes -= item.bytes;
    }
    return taken;
  }

  /** Throws away what waits in a lane; the lane may be used again. */
  clear(lane: Lane<T>): T[] {
    const gone = lane.items;
    lane.items = [];
    for (const item of gone) {
      this.frames--;
      this.bytes -= item.bytes;
    }
    return gone;
  }
}
