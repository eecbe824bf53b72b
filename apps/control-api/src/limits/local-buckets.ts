// Buckets of this process: without Redis they are the limits, with one they stand in while it is away. Bounded: when
// too many keys are known the one untouched longest is forgotten, which can only give somebody a full bucket again.
import type { Clock } from '@penstock/domain/clock';
import { takeTokens, type Taken } from './gcra.js';
import type { Limit } from './limits.js';

const KEYS_MAX = 20_000;

export class LocalBuckets {
  readonly #fullAtMs = new Map<string, number>();

  constructor(private readonly clock: Clock) {}

  take(key: string, limit: Limit, wanted: number): Taken {
    const taken = takeTokens(limit, this.#fullAtMs.get(key), this.clock.monotonic(), wanted);
    this.#fullAtMs.delete(key);
    if (this.#fullAtMs.size >= KEYS_MAX) {
      const oldest = this.#fullAtMs.keys().next();
      if (oldest.done !== true) this.#fullAtMs.delete(oldest.value);
    }
    this.#fullAtMs.set(key, taken.fullAtMs);
    return taken;
  }
}
