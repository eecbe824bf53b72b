// Argon2id in threads of its own, so that no hash holds a thread of libuv's pool (files, names and the platform's
// cryptography wait there) or takes processor time from a request (hash-worker.ts). Measured with 100 sign-ins a second
// offered: see `login-flood` in bench/.
import { once } from 'node:events';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { AppError } from '@penstock/domain/errors';

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

/** A job that takes longer is given up, with its thread: a busy machine may need seconds. */
const JOB_MAX_MS = 30_000;
const RETRY_AFTER_MS = 2_000;

/** One thread; it takes one job at a time (the caller sees to that) and does not keep the process alive. */
export class HashThread {
  #worker: Worker | undefined;

  /** Throws unavailable when the thread died, was stopped or takes too long; the next job has a new one. */
  async run(job: HashJob): Promise<HashAnswer> {
    const worker = (this.#worker ??= this.#start());
    worker.ref();
    const signal = AbortSignal.timeout(JOB_MAX_MS);
    const over = new AbortController();
    try {
      const answered = once(worker, 'message', { signal: AbortSignal.any([signal, over.signal]) });
      const died = once(worker, 'exit', { signal: over.signal });
      died.catch(() => undefined);
      worker.postMessage(job);
      const [answer] = (await Promise.race([answered, died.then(() => [null])])) as [HashAnswer | null];
      if (answer === null) throw new Error('the thread ended');
      return answer;
    } catch (error) {
      await this.stop();
      throw new AppError('unavailable', 'the password could not be looked at, try again', {
        retryAfterMs: RETRY_AFTER_MS,
        cause: error,
      });
    } finally {
      over.abort();
      worker.unref();
    }
  }

  /** Ends the thread, with the job that it has. */
  async stop(): Promise<void> {
    const worker = this.#worker;
    this.#worker = undefined;
    await worker?.terminate();
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
