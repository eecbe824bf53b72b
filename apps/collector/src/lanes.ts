// The bounded queue between streams and the group commit: one lane a node, emptied round-robin, so that a node that
// sends a hundred times as much waits behind its own frames and nobody else's. A lane whose frames are being written is
// passed over until it is released, so several groups can be under way and the frames of one node stay in order. A lane
// has a quarter of the queue at most: whoever fills his own share is told that it is busy, and nobody else is.

/** Lanes that can fill the queue together. */
const LANES_TO_FILL = 4;

export interface Lane<T> {
  items: T[];
  /** Of the items that wait. */
  bytes: number;
  waiting: boolean;
  /** Frames of it are being written. */
  busy: boolean;
}

/** What one group takes; the lanes are to be released when it is written. */
export interface Taken<T> {
  items: T[];
  lanes: Set<Lane<T>>;
}

export class Lanes<T extends { bytes: number }> {
  frames = 0;
  bytes = 0;
  private turn: Lane<T>[] = [];

  constructor(
    private readonly framesMax: number,
    private readonly bytesMax: number,
  ) {}

  lane(): Lane<T> {
    return { items: [], bytes: 0, waiting: false, busy: false };
  }

  /** True while one more item of `bytes` fits, into `lane` too when one is named. An empty queue takes any item. */
  fits(bytes: number, lane?: Lane<T>): boolean {
    if (this.frames === 0) return true;
    if (this.frames >= this.framesMax || this.bytes + bytes > this.bytesMax) return false;
    if (lane === undefined || lane.items.length === 0) return true;
    return (
      lane.items.length < this.framesMax / LANES_TO_FILL &&
      lane.bytes + bytes <= this.bytesMax / LANES_TO_FILL
    );
  }

  push(lane: Lane<T>, item: T): void {
    lane.items.push(item);
    lane.bytes += item.bytes;
    this.frames++;
    this.bytes += item.bytes;
    this.queueUp(lane);
  }

  /** Up to `framesMax` items and about `bytesMax` bytes, one of each lane in turn; order within a lane is kept. */
  take(framesMax: number, bytesMax: number): Taken<T> {
    const items: T[] = [];
    const lanes = new Set<Lane<T>>();
    let bytes = 0;
    while (items.length < framesMax && bytes < bytesMax) {
      const lane = this.turn.shift();
      if (lane === undefined) break;
      const item = lane.items.shift();
      if (lane.items.length > 0) this.turn.push(lane);
      else lane.waiting = false;
      if (item === undefined) continue;
      items.push(item);
      // In the order of the last turn: who had his longest ago comes first when they are released.
      lanes.delete(lane);
      lanes.add(lane);
      bytes += item.bytes;
      lane.bytes -= item.bytes;
      this.frames--;
      this.bytes -= item.bytes;
    }
    for (const lane of lanes) {
      lane.busy = true;
      lane.waiting = false;
    }
    this.turn = this.turn.filter((lane) => !lane.busy);
    return { items, lanes };
  }

  /** The group is written, or given up: its lanes take their turns again. */
  release(lanes: Iterable<Lane<T>>): void {
    for (const lane of lanes) {
      lane.busy = false;
      if (lane.items.length > 0) this.queueUp(lane);
    }
  }

  /** Throws away what waits in a lane; the lane may be used again. */
  clear(lane: Lane<T>): T[] {
    const gone = lane.items;
    lane.items = [];
    lane.bytes = 0;
    for (const item of gone) {
      this.frames--;
      this.bytes -= item.bytes;
    }
    return gone;
  }

  private queueUp(lane: Lane<T>): void {
    if (lane.waiting || lane.busy) return;
    lane.waiting = true;
    this.turn.push(lane);
  }
}
