// Password hashing: Argon2id, few at a time. One hash costs 64 MiB and about 150 ms of a core, so a flood of sign-ins
// waits in a short queue and is then told to come back, rather than taking the machine's memory.
import { argon2id, hash, verify, needsRehash } from 'argon2';
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';

const PARAMETERS = { type: argon2id, timeCost: 3, memoryCost: 64 * 1024, parallelism: 2 } as const;
export const HASHES_IN_FLIGHT_MAX = 2;
export const HASHES_QUEUED_MAX = 20;
const RETRY_AFTER_MS = 2_000;
const HASH_PREFIX = '$argon2id$';

/** Keyboards and systems compose the same letter differently. */
const normal = (password: string): string => password.normalize('NFKC');

@Injectable()
export class Passwords {
  #running = 0;
  #expected = 0;
  readonly #waiting: (() => void)[] = [];
  #decoy: Promise<string> | undefined;

  hash(password: string): Promise<string> {
    return this.#bounded(() => hash(normal(password), PARAMETERS));
  }

  /**
   * Runs `work`, which is going to ask for one hash, unless the hashes that others are going to ask for leave no room for
   * it. Throws unavailable at once: what is refused has asked nothing of the database, whose connections all others need.
   */
  async withRoom<T>(work: () => Promise<T>): Promise<T> {
    if (this.#expected >= HASHES_IN_FLIGHT_MAX + HASHES_QUEUED_MAX) throw tooMany();
    this.#expected++;
    try {
      return await work();
    } finally {
      this.#expected--;
    }
  }

  /**
   * True when the password belongs to the hash. Without a hash (an unknown name, an account that never had a password)
   * it costs the same and is false. Throws unavailable when the queue is full.
   * `rehash`: the hash was made with other parameters than today's.
   */
  async check(password: string, stored: string | null): Promise<{ matches: boolean; rehash: boolean }> {
    this.#decoy ??= hash('no account has this password', PARAMETERS);
    const usable = stored?.startsWith(HASH_PREFIX) ?? false;
    const against = usable && stored !== null ? stored : await this.#decoy;
    const matches = await this.#bounded(() => verify(against, normal(password)));
    return { matches: matches && usable, rehash: needsRehash(against, PARAMETERS) };
  }

  async #bounded<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running >= HASHES_IN_FLIGHT_MAX) {
      if (this.#waiting.length >= HASHES_QUEUED_MAX) throw tooMany();
      // The one that ends hands its place over, so nobody can slip in between.
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else {
      this.#running++;
    }
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next();
    }
  }
}

function tooMany(): AppError {
  return new AppError('unavailable', 'too many sign-ins at once, try again', {
    retryAfterMs: RETRY_AFTER_MS,
  });
}
