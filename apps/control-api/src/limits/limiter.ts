// Takes tokens from named limits. Everybody who refuses for frequency asks here.
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { Context } from '../context.js';
import { LocalBuckets } from './local-buckets.js';
import { limits, type LimitName } from './limits.js';
import { networkOf, siteOf } from './networks.js';

@Injectable()
export class Limiter {
  readonly #local: LocalBuckets;

  constructor(context: Context) {
    this.#local = new LocalBuckets(context.clock);
  }

  /** One guess from an address (and, for sign-in, its IPv6 site). Throws rate_limited or unavailable. */
  async takeGuess(name: 'sign_in' | 'refresh' | 'setup' | 'one_time_link', ip: string | null): Promise<void> {
    this.#takeLocal(name, networkOf(ip));
    const site = siteOf(ip);
    if (site !== null && name === 'sign_in') this.#takeLocal('sign_in_network', site);
  }

  #takeLocal(name: LimitName, key: string): void {
    const { granted, retryAfterMs } = this.#local.take(`${name} ${key}`, limits[name], 1);
    if (granted === 0)
      throw new AppError('rate_limited', 'too many attempts, try again later', { retryAfterMs });
  }
}
