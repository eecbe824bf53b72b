// How often one address may try the enrollment edge: a bucket an address, refilled at a steady rate (GCRA: one number
// an address). Bounded: the address that waited longest is forgotten first. Pure but for the clock it is given.
import { isIPv6 } from 'node:net';
import type { Clock } from '@penstock/domain/clock';

export interface LimitRule {
  perSecond: number;
  burst: number;
  addressesMax: number;
}

/** The enrollment edge's rule unless the process is told another. */
export const ENROLL_LIMIT: LimitRule = { perSecond: 1, burst: 20, addressesMax: 10_000 };

export class AddressLimit {
  /** Address → when its bucket will be full again, ms of the monotonic clock. Oldest first. */
  private readonly fullAt = new Map<string, number>();

  constructor(
    private readonly rule: LimitRule,
    private readonly clock: Clock,
  ) {}

  /** 0 when the try is allowed, else the milliseconds to wait. */
  take(address: string): number {
    const key = networkOf(address);
    const now = this.clock.monotonic();
    const intervalMs = 1000 / this.rule.perSecond;
    const fullAt = Math.max(this.fullAt.get(key) ?? now, now);
    const waitMs = fullAt + intervalMs - now - this.rule.burst * intervalMs;
    if (waitMs > 0) return Math.ceil(waitMs);
    this.fullAt.delete(key);
    if (this.fullAt.size >= this.rule.addressesMax) {
      const oldest = this.fullAt.keys().next().value;
      if (oldest !== undefined) this.fullAt.delete(oldest);
    }
    this.fullAt.set(key, fullAt + intervalMs);
    return 0;
  }
}

/** An IPv6 host has a whole /64 to choose from, so that is what is counted. */
function networkOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  if (!isIPv6(address)) return address;
  const [head = '', tail] = address.split('::');
  const start = head === '' ? [] : head.split(':');
  const end = tail === undefined || tail === '' ? [] : tail.split(':');
  const groups = [...start, ...Array<string>(Math.max(0, 8 - start.length - end.length)).fill('0'), ...end];
  return groups
    .slice(0, 4)
    .map((group) => parseInt(group, 16).toString(16))
    .join(':');
}
