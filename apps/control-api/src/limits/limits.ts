// Every rate limit of the API on one screen: how much at once, how fast it comes back, how many tokens a process may
// hold locally, and what happens while Redis is away. limiter.ts applies them; docs/operators-guide.md repeats them.

/**
 * What a process does alone while a Redis is configured and away. `full`: the whole limit in each process, since
 * reading is no danger. `quarter`: a quarter of it, and 503 beyond: guessing must not become cheaper by a dead Redis.
 */
export type Away = 'full' | 'quarter';

export interface Limit {
  /** Tokens of a full bucket: what may come at once. */
  burst: number;
  /** Time after which one token is back. */
  refillMs: number;
  /** Tokens that a process takes from Redis in one step at most; the limit's error is one lease a process. */
  leaseMax: number;
  away: Away;
}

export const limits = {
  // Anything at all, before it is looked at.
  address: { burst: 1_200, refillMs: 10, leaseMax: 32, away: 'full' },
  // All /64 of one IPv6 customer together.
  network: { burst: 4_800, refillMs: 2.5, leaseMax: 64, away: 'full' },
  // What acts, once it is known.
  account: { burst: 1_200, refillMs: 10, leaseMax: 32, away: 'full' },
  api_key: { burst: 1_200, refillMs: 10, leaseMax: 32, away: 'full' },
  // Guessing: passwords, codes, refresh tokens, one-time links. Each token is taken from Redis itself.
  sign_in: { burst: 60, refillMs: 1_000, leaseMax: 1, away: 'quarter' },
  sign_in_network: { burst: 240, refillMs: 250, leaseMax: 1, away: 'quarter' },
  refresh: { burst: 120, refillMs: 500, leaseMax: 1, away: 'quarter' },
  setup: { burst: 60, refillMs: 5_000, leaseMax: 1, away: 'quarter' },
  // Three wrong one-time links an address and hour.
  one_time_link: { burst: 3, refillMs: 1_200_000, leaseMax: 1, away: 'quarter' },
} as const satisfies Record<string, Limit>;

export type LimitName = keyof typeof limits;

/** A tenant's own limit, from its `limit_api_per_minute`. */
export function tenantLimit(perMinute: number): Limit {
  return {
    burst: perMinute,
    refillMs: 60_000 / perMinute,
    leaseMax: Math.min(32, Math.max(1, Math.floor(perMinute / 100))),
    away: 'full',
  };
}

/** The limit made `factor` times as wide; limits against guessing are never widened. */
export function scaled(limit: Limit, factor: number): Limit {
  if (factor === 1 || limit.away === 'quarter') return limit;
  return {
    ...limit,
    burst: Math.max(1, Math.round(limit.burst * factor)),
    refillMs: limit.refillMs / factor,
    leaseMax: Math.max(1, Math.round(limit.leaseMax * factor)),
  };
}

/** What is left of the limit for one process alone: at least one at a time. */
export function quarter(limit: Limit): Limit {
  return { ...limit, burst: Math.max(1, Math.floor(limit.burst / 4)), refillMs: limit.refillMs * 4 };
}
