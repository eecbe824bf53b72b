// Argon2id in threads of its own, so that no hash holds a thread of libuv's pool (files, names and the platform's
// cryptography wait there) or takes processor time from a request (hash-worker.ts). Measured with 100 sign-ins a second
// offered: see `login-flood` in bench/.
import { once } from 'node:events';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';

/** Memory in KiB. */
export interface HashParameters {
  memoryCost: number;
  timeCost: number;
  parallelism: number;
}

export interface HashJob {
  password: string;
  /** Checked against this hash; without one a new hash is made. */
  against?: string;
  parameters: HashParameters;
}

export type HashAnswer = { hash: string } | { matches: boolean } | { failed: string };

const extension = extname(fileURLToPath(import.meta.url));
const program = new URL(`./hash-worker${extension}`, import.meta.url);
/** A thread needs little beside the hash's memory, which is not V8's. */
const HEAP_MAX_MB = 16;

/** One thread; it takes one job at a time (the caller sees to that) and does not keep the process alive. */
export class HashThread {
  #worker: Worker | undefined;

  /** Throws when the thread died or the stored hash has no known form. */
  async run(job: HashJob): Promise<HashAnswer> {
    const worker = (this.#worker ??= this.#start());
    worker.ref();
    try {
      const ended = new AbortController();
      const answered = once(worker, 'message', { signal: ended.signal }) as Promise<[HashAnswer]>;
      const died = once(worker, 'exit', { signal: ended.signal }).then(() => {
        throw new Error('the hashing thread ended');
      });
      worker.postMessage(job);
      const [answer] = await Promise.race([answered, died]).finally(() => ended.abort());
      return answer;
    } finally {
      worker.unref();
    }
  }

  async stop(): Promise<void> {
    await this.#worker?.terminate();
  }

  #start(): Worker {
    const worker = new Worker(program, {
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MAX_MB, maxYoungGenerationSizeMb: 2 },
    });
    worker.once('exit', () => {
      if (this.#worker === worker) this.#worker = undefined;
    });
    return worker;
  }
}
