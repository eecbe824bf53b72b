// Password hashing: Argon2id, few at a time. One hash costs 64 MiB and about 75 ms of a core, so a flood of sign-ins
// waits in a short queue and is then told to come back, rather than taking the machine's memory.
import { Injectable, type OnModuleDestroy } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { HashThread, type HashAnswer, type HashParameters } from './hashing.js';

const PARAMETERS: HashParameters = { timeCost: 3, memoryCost: 64 * 1024, parallelism: 2 };
export const HASHES_IN_FLIGHT_MAX = 2;
export const HASHES_QUEUED_MAX = 20;
const RETRY_AFTER_MS = 2_000;
const HASH_PREFIX = '$argon2id$';
/** How a hash of today's parameters begins (PHC string format). */
const TODAY_PREFIX = `${HASH_PREFIX}v=19$m=${PARAMETERS.memoryCost},t=${PARAMETERS.timeCost},p=${PARAMETERS.parallelism}$`;

/** A stored hash that would take more than this was not made by us. */
const COST_MAX = { m: 256 * 1024, t: 10, p: 8 };
const PHC = /^\$argon2id\$v=19\$([a-z]=\d{1,7}(?:,[a-z]=\d{1,7})*)\$/;

/** Whether the text is a hash that we may try a password against. */
function isUsable(stored: string | null): stored is string {
  const costs = PHC.exec(stored ?? '')?.[1]?.split(',') ?? [];
  return (
    costs.length > 0 &&
    costs.every((cost) => Number(cost.slice(2)) <= (COST_MAX[cost[0] as keyof typeof COST_MAX] ?? 0))
  );
}

/** Keyboards and systems compose the same letter differently. */
const normal = (password: string): string => password.normalize('NFKC');

@Injectable()
export class Passwords implements OnModuleDestroy {
  readonly #idle = Array.from({ length: HASHES_IN_FLIGHT_MAX }, () => new HashThread());
  readonly #threads = [...this.#idle];
  readonly #waiting: { take: (thread: HashThread) => void; fail: (error: AppError) => void }[] = [];
  #ended = false;
  #expected = 0;
  #decoy: Promise<string> | undefined;

  /** Throws unavailable when the queue is full. */
  async hash(password: string): Promise<string> {
    const answer = await this.#run(normal(password));
    if ('hash' in answer) return answer.hash;
    throw new Error('a password could not be hashed');
  }

  async onModuleDestroy(): Promise<void> {
    this.#ended = true;
    for (const { fail } of this.#waiting.splice(0)) fail(tooMany());
    await Promise.all(this.#threads.map((thread) => thread.stop()));
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
    const usable = isUsable(stored);
    const against = usable ? stored : await this.#decoyHash();
    const answer = await this.#run(normal(password), against);
    if (!('matches' in answer)) throw new Error('a stored hash could not be read');
    return { matches: answer.matches && usable, rehash: !against.startsWith(TODAY_PREFIX) };
  }

  #decoyHash(): Promise<string> {
    this.#decoy ??= this.hash('no account has this password').catch((error: unknown) => {
      this.#decoy = undefined;
      throw error;
    });
    return this.#decoy;
  }

  async #run(password: string, against?: string): Promise<HashAnswer> {
    if (this.#ended) throw tooMany();
    const thread = this.#idle.pop() ?? (await this.#turn());
    try {
      return await thread.run({
        password,
        parameters: PARAMETERS,
        ...(against !== undefined && { against }),
      });
    } finally {
      // The one that ends hands its thread over, so nobody can slip in between.
      const next = this.#waiting.shift();
      if (next === undefined) this.#idle.push(thread);
      else next.take(thread);
    }
  }

  async #turn(): Promise<HashThread> {
    if (this.#waiting.length >= HASHES_QUEUED_MAX) throw tooMany();
    return new Promise((take, fail) => this.#waiting.push({ take, fail }));
  }
}

function tooMany(): AppError {
  return new AppError('unavailable', 'too many sign-ins at once, try again', {
    retryAfterMs: RETRY_AFTER_MS,
  });
}
