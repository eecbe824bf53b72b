// Takes tokens from named limits. Everybody who refuses for frequency asks here. The buckets are in Redis, common to
// all processes; a process takes tokens in leases that grow with use, so a busy key costs a round trip every few dozen
// requests and not each. Tokens leave the bucket before they are spent: the sum over all processes never exceeds the
// limit, and stays below it by at most one lease a process. Without Redis: local-buckets.ts, as limits.ts says.
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { Context } from '../context.js';
import { LocalBuckets } from './local-buckets.js';
import { limits, quarter, scaled, type Limit, type LimitName } from './limits.js';
import { networkOf, siteOf } from './networks.js';
import { SharedBuckets } from './shared-buckets.js';

/** Tokens that were not used by then are not used: others may want them. */
const LEASE_MS = 1_000;
const LEASES_MAX = 10_000;
/** How often one request asks again when others took what was leased. */
const ASKS_MAX = 3;

/** How one limit stands for one key. */
export interface Verdict {
  granted: boolean;
  limit: Limit;
  remaining: number;
  retryAfterMs: number;
  fullInMs: number;
  /** Decided by this process alone although a Redis is configured. */
  alone: boolean;
}

interface Lease {
  tokens: number;
  /** What to take next time. */
  size: number;
  untilMs: number;
  /** Until then the bucket is empty, as Redis said. */
  emptyUntilMs: number;
  /** What was left in Redis after the last take, and when it would be full. */
  remaining: number;
  fullAtMs: number;
  asking: Promise<boolean> | undefined;
  waiting: number;
}

@Injectable()
export class Limiter {
  readonly #local: LocalBuckets;
  readonly #leases = new Map<string, Lease>();
  readonly #limits: Record<LimitName, Limit>;

  constructor(
    private readonly context: Context,
    private readonly shared: SharedBuckets,
  ) {
    this.#local = new LocalBuckets(context.clock);
    const factor = context.config.RATE_LIMIT_FACTOR;
    this.#limits = Object.fromEntries(
      Object.entries(limits).map(([name, limit]) => [name, scaled(limit, factor)]),
    ) as Record<LimitName, Limit>;
  }

  limit(name: LimitName): Limit {
    return this.#limits[name];
  }

  /** One token of `key`, from the lease at hand or else from Redis. `name` tells the limits apart. */
  take(name: string, key: string, limit: Limit): Verdict | Promise<Verdict> {
    const full = `${name}:${key}`;
    if (!this.shared.configured) return this.#takeHere(full, limit, false);
    const nowMs = this.context.clock.monotonic();
    const lease = this.#leaseOf(full);
    if (lease.tokens > 0 && nowMs < lease.untilMs) {
      lease.tokens--;
      return verdict(limit, lease, nowMs, true);
    }
    if (nowMs < lease.emptyUntilMs) return verdict(limit, lease, nowMs, false);
    return this.#takeShared(full, limit, lease);
  }

  /** One guess from an address (for sign-in of its IPv6 site, too). Throws rate_limited or unavailable. */
  async takeGuess(name: 'sign_in' | 'refresh' | 'setup' | 'one_time_link', ip: string | null): Promise<void> {
    refuse(await this.take(name, networkOf(ip), this.#limits[name]));
    const site = siteOf(ip);
    if (site !== null && name === 'sign_in')
      refuse(await this.take('sign_in_network', site, this.#limits.sign_in_network));
  }

  async #takeShared(full: string, limit: Limit, lease: Lease): Promise<Verdict> {
    lease.waiting++;
    try {
      for (let asked = 0; asked < ASKS_MAX; asked++) {
        lease.asking ??= this.#ask(full, limit, lease).finally(() => (lease.asking = undefined));
        if (!(await lease.asking)) break;
        const nowMs = this.context.clock.monotonic();
        if (lease.tokens > 0) {
          lease.tokens--;
          return verdict(limit, lease, nowMs, true);
        }
        if (nowMs < lease.emptyUntilMs) return verdict(limit, lease, nowMs, false);
      }
    } finally {
      lease.waiting--;
      // One who came once leaves nothing here: strangers' addresses are many.
      const spent = lease.tokens === 0 && lease.emptyUntilMs === 0 && lease.waiting === 0;
      if (spent && (limit.leaseMax === 1 || this.#leases.size >= LEASES_MAX)) this.#leases.delete(full);
    }
    return this.#takeHere(full, limit, true);
  }

  /** Fills the lease from Redis; false when Redis does not answer. */
  async #ask(full: string, limit: Limit, lease: Lease): Promise<boolean> {
    const startMs = this.context.clock.monotonic();
    const inUse = startMs < lease.untilMs;
    lease.size = inUse ? Math.min(limit.leaseMax, lease.size * 2) : 1;
    // Near the end of a bucket little is taken, so that nobody sits on what another could use.
    const careful = inUse ? Math.max(1, Math.floor(lease.remaining / 8)) : 1;
    const wanted = Math.max(lease.waiting, Math.min(lease.size, careful));
    const answer = await this.shared.take(full, limit, wanted);
    if (answer === null) return false;
    const nowMs = this.context.clock.monotonic();
    lease.tokens = Math.min(wanted, Math.max(0, answer.granted));
    lease.untilMs = nowMs + LEASE_MS;
    lease.remaining = answer.remaining;
    lease.fullAtMs = nowMs + answer.fullInMs;
    lease.emptyUntilMs = answer.granted > 0 ? 0 : nowMs + Math.min(answer.retryAfterMs, limit.refillMs);
    return true;
  }

  #takeHere(full: string, limit: Limit, alone: boolean): Verdict {
    const own = alone && limit.away === 'quarter' ? quarter(limit) : limit;
    const { granted, remaining, retryAfterMs, fullInMs } = this.#local.take(full, own, 1);
    return { granted: granted > 0, limit: own, remaining, retryAfterMs, fullInMs, alone };
  }

  #leaseOf(full: string): Lease {
    const known = this.#leases.get(full);
    if (known !== undefined) return known;
    if (this.#leases.size >= LEASES_MAX) {
      // The oldest: what it still holds was taken from the bucket, so forgetting it gives nobody more.
      const oldest = this.#leases.keys().next();
      if (oldest.done !== true) this.#leases.delete(oldest.value);
    }
    const lease: Lease = {
      ...{ tokens: 0, size: 1, untilMs: 0, emptyUntilMs: 0 },
      ...{ remaining: 0, fullAtMs: 0, asking: undefined, waiting: 0 },
    };
    this.#leases.set(full, lease);
    return lease;
  }
}

function verdict(limit: Limit, lease: Lease, nowMs: number, granted: boolean): Verdict {
  return {
    ...{ granted, limit, alone: false },
    remaining: lease.remaining + lease.tokens,
    retryAfterMs: granted ? 0 : Math.max(1, Math.ceil(lease.emptyUntilMs - nowMs)),
    fullInMs: Math.max(0, lease.fullAtMs - nowMs),
  };
}

/** Null, rate_limited, or unavailable when this process alone may not let more guesses pass. */
export function refusal(verdict: Verdict): AppError | null {
  if (verdict.granted) return null;
  const { retryAfterMs } = verdict;
  if (verdict.alone && verdict.limit.away === 'quarter')
    return new AppError('unavailable', 'this is not possible right now, try again', { retryAfterMs });
  return new AppError('rate_limited', 'too many attempts, try again later', { retryAfterMs });
}

function refuse(verdict: Verdict): void {
  const error = refusal(verdict);
  if (error !== null) throw error;
}
