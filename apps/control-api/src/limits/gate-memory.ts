// What is remembered of tries to sign in: failures and the next allowed moment of each pair of name and network, and
// the failures of a name from everywhere. In Redis when there is one, else in this process; both are bounded.
import { Injectable } from '@nestjs/common';
import { Context } from '../context.js';
import { delayMs, PAIR_KEPT_MS, PRESSURE_KEPT_MS, slowMs } from './backoff.js';

export interface Pair {
  /** Keyed hash of the name. */
  name: string;
  network: string;
}

const PAIRS_MAX = 20_000;
const NAMES_MAX = 20_000;

interface PairState {
  failures: number;
  nextAtMs: number;
  seenAtMs: number;
}

@Injectable()
export class GateMemory {
  readonly #pairs = new Map<string, PairState>();
  readonly #pressure = new Map<string, { failures: number; atMs: number }>();

  constructor(private readonly context: Context) {}

  /** 0: go on, and the try counts as a failure; else how long to wait, and nothing is counted. */
  async enter(pair: Pair): Promise<number> {
    const nowMs = this.context.clock.monotonic();
    const key = `${pair.name} ${pair.network}`;
    const known = this.#pairs.get(key);
    const state = known !== undefined && nowMs - known.seenAtMs <= PAIR_KEPT_MS ? known : undefined;
    if (state !== undefined && nowMs < state.nextAtMs) return state.nextAtMs - nowMs;
    if (state === undefined) {
      const slow = slowMs(this.#pressureOf(pair.name, nowMs));
      if (slow > 0) {
        this.#keep(key, { failures: 0, nextAtMs: nowMs + slow, seenAtMs: nowMs });
        return slow;
      }
    }
    const failures = (state?.failures ?? 0) + 1;
    this.#keep(key, { failures, nextAtMs: nowMs + delayMs(failures), seenAtMs: nowMs });
    return 0;
  }

  async failed(pair: Pair): Promise<void> {
    const nowMs = this.context.clock.monotonic();
    const failures = this.#pressureOf(pair.name, nowMs) + 1;
    this.#pressure.delete(pair.name);
    forgetOldest(this.#pressure, NAMES_MAX);
    this.#pressure.set(pair.name, { failures, atMs: nowMs });
  }

  async succeeded(pair: Pair): Promise<void> {
    this.#pairs.delete(`${pair.name} ${pair.network}`);
  }

  async undecided(pair: Pair): Promise<void> {
    const state = this.#pairs.get(`${pair.name} ${pair.network}`);
    if (state === undefined || state.failures === 0) return;
    state.failures--;
    state.nextAtMs = this.context.clock.monotonic() + delayMs(state.failures);
  }

  #pressureOf(name: string, nowMs: number): number {
    const known = this.#pressure.get(name);
    return known !== undefined && nowMs - known.atMs <= PRESSURE_KEPT_MS ? known.failures : 0;
  }

  #keep(key: string, state: PairState): void {
    this.#pairs.delete(key);
    forgetOldest(this.#pairs, PAIRS_MAX);
    this.#pairs.set(key, state);
  }
}

function forgetOldest(map: Map<string, unknown>, max: number): void {
  if (map.size < max) return;
  const oldest = map.keys().next();
  if (oldest.done !== true) map.delete(oldest.value);
}
