// Rate limits of this process: one token bucket a key, refilled continuously. Bounded: when too many keys are known
// the one that was untouched longest is forgotten, which can only give somebody a full bucket again.
import { isIPv6 } from 'node:net';
import { AppError } from '@penstock/domain/errors';
import type { Clock } from '@penstock/domain/clock';

export interface BucketLimit {
  /** Tokens of a full bucket: what may come at once. */
  burst: number;
  /** Time after which one token is back. */
  refillMs: number;
}

const KEYS_MAX = 20_000;

export class TokenBuckets {
  readonly #buckets = new Map<string, { tokens: number; atMs: number }>();

  constructor(
    private readonly clock: Clock,
    private readonly limit: BucketLimit,
  ) {}

  /** Takes one token of `key`; throws rate_limited with the time until the next. */
  take(key: string): void {
    const nowMs = this.clock.monotonic();
    const { burst, refillMs } = this.limit;
    const bucket = this.#buckets.get(key) ?? { tokens: burst, atMs: nowMs };
    const tokens = Math.min(burst, bucket.tokens + (nowMs - bucket.atMs) / refillMs);
    this.#buckets.delete(key);
    if (this.#buckets.size >= KEYS_MAX) {
      const oldest = this.#buckets.keys().next();
      if (oldest.done !== true) this.#buckets.delete(oldest.value);
    }
    this.#buckets.set(key, { tokens: tokens < 1 ? tokens : tokens - 1, atMs: nowMs });
    if (tokens < 1) {
      throw new AppError('rate_limited', 'too many attempts, try again later', {
        retryAfterMs: Math.ceil((1 - tokens) * refillMs),
      });
    }
  }
}

/** One network of a home or a server: an IPv4 address, or the /64 of an IPv6 one. */
export function networkOf(ip: string | null): string {
  if (ip === null || !isIPv6(ip)) return ip ?? '';
  const [head = '', tail] = ip.split('::');
  const front = head === '' ? [] : head.split(':');
  const back = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - front.length - back.length);
  return [...front, ...Array<string>(zeros).fill('0'), ...back].slice(0, 4).join(':');
}
