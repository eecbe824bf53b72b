// The generic cell rate algorithm: a bucket is one number, the moment at which it will be full again. Pure; the same
// arithmetic runs in Redis (bucket.lua.ts), and limits.test.ts compares the two.
import type { Limit } from './limits.js';

export interface Taken {
  /** Tokens given: 0 up to what was asked. */
  granted: number;
  /** Tokens left afterwards. */
  remaining: number;
  /** When one token will be there; 0 when something was granted. */
  retryAfterMs: number;
  /** When the bucket will be full. */
  fullInMs: number;
  /** The bucket's new number. */
  fullAtMs: number;
}

/** Takes up to `wanted` tokens at `nowMs` from a bucket that is full at `fullAtMs` (undefined: it is full now). */
export function takeTokens(limit: Limit, fullAtMs: number | undefined, nowMs: number, wanted: number): Taken {
  const { burst, refillMs } = limit;
  const from = Math.max(fullAtMs ?? nowMs, nowMs);
  const left = Math.floor(burst - (from - nowMs) / refillMs + EPSILON);
  const granted = Math.max(0, Math.min(wanted, left));
  const full = from + granted * refillMs;
  const retryAfterMs = granted > 0 ? 0 : Math.max(1, Math.ceil(from + refillMs - nowMs - burst * refillMs));
  return {
    ...{ granted, retryAfterMs, fullAtMs: full, fullInMs: full - nowMs },
    remaining: Math.max(0, left - granted),
  };
}

/** Divisions of milliseconds must not swallow a whole token. */
const EPSILON = 1e-6;
