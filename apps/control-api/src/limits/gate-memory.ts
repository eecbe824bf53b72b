// What is remembered of tries to sign in: failures and the next allowed moment of each pair of name and network, and
// the failures of a name from everywhere. In Redis when there is one, else in this process; both are bounded.
import { Injectable } from '@nestjs/common';
import { Context } from '../context.js';
import { RedisLink } from '../redis.js';
import { delayMs, PAIR_KEPT_MS, PRESSURE_KEPT_MS, slowMs } from './backoff.js';
import { gateScript } from './gate.lua.js';

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

  constructor(
    private readonly context: Context,
    private readonly redis: RedisLink,
  ) {}

  /** 0: go on, and the try counts as a failure; else how long to wait, and nothing is counted. */
  async enter(pair: Pair): Promise<number> {
    const wait = await this.#ask('enter', pair);
    return wait ?? this.#enterHere(pair);
  }

  #enterHere(pair: Pair): number {
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

  /** The try was wrong. */
  async failed(pair: Pair): Promise<void> {
    if ((await this.#ask('failed', pair)) !== null) return;
    const nowMs = this.context.clock.monotonic();
    const failures = this.#pressureOf(pair.name, nowMs) + 1;
    this.#pressure.delete(pair.name);
    forgetOldest(this.#pressure, NAMES_MAX);
    this.#pressure.set(pair.name, { failures, atMs: nowMs });
  }

  /** The try was right: the pair is forgotten, here too. */
  async succeeded(pair: Pair): Promise<void> {
    await this.#ask('succeeded', pair);
    this.#pairs.delete(`${pair.name} ${pair.network}`);
  }

  /** The try is taken back. */
  async undecided(pair: Pair): Promise<void> {
    if ((await this.#ask('undecided', pair)) !== null) return;
    const state = this.#pairs.get(`${pair.name} ${pair.network}`);
    if (state === undefined || state.failures === 0) return;
    state.failures--;
    state.nextAtMs = this.context.clock.monotonic() + delayMs(state.failures);
  }

  /** Hashes of the names that failed, as this process remembers them: oldest first. */
  knownNames(): Iterable<string> {
    return this.#pressure.keys();
  }

  /** The answer of Redis; null when this process has to decide. */
  async #ask(question: 'enter' | 'failed' | 'succeeded' | 'undecided', pair: Pair): Promise<number | null> {
    if (!this.redis.configured) return null;
    // One hash tag a name: both keys lie in one slot of a cluster.
    const name = `pst:gate:{${pair.name}}`;
    const answer = await this.redis.run(gateScript, [`${name}:${pair.network}`, name], [question]);
    return typeof answer === 'number' && answer >= 0 ? answer : null;
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
