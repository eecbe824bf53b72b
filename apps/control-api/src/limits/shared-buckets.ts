// The buckets that all processes share. Whatever is asked for while the loop handles what came in goes to Redis as one
// step: a request on an idle server waits no longer for it, and a busy server pays for a step and not for each token.
// Measured: `rate-limit` in bench/.
import { Injectable } from '@nestjs/common';
import { RedisLink } from '../redis.js';
import { bucketScript, readBucketAnswer, type BucketAnswer } from './bucket.lua.js';
import type { Limit } from './limits.js';

/** So that Redis is not held for long: a bucket takes it about 12 µs. */
const STEP_MAX = 100;

interface Asked {
  key: string;
  limit: Limit;
  wanted: number;
  told: (answer: BucketAnswer | null) => void;
}

@Injectable()
export class SharedBuckets {
  #asked: Asked[] = [];

  constructor(private readonly redis: RedisLink) {}

  get configured(): boolean {
    return this.redis.configured;
  }

  /** Up to `wanted` tokens; null when there is no Redis or it does not answer. */
  take(key: string, limit: Limit, wanted: number): Promise<BucketAnswer | null> {
    return new Promise((told) => {
      if (this.#asked.push({ key, limit, wanted, told }) === 1) setImmediate(() => this.#send());
    });
  }

  #send(): void {
    const asked = this.#asked;
    this.#asked = [];
    for (let i = 0; i < asked.length; i += STEP_MAX) void this.#step(asked.slice(i, i + STEP_MAX));
  }

  async #step(asked: Asked[]): Promise<void> {
    const keys: string[] = [];
    const values: number[] = [];
    for (const { key, limit, wanted } of asked) {
      keys.push(`pst:limit:{${key}}`);
      values.push(limit.burst, limit.refillMs * 1_000, wanted);
    }
    const answer = await this.redis.run(bucketScript, keys, values);
    asked.forEach(({ told }, i) => told(readBucketAnswer(answer, i, asked.length)));
  }
}
