// So many at once, so many waiting, the rest refused at once: for work that holds something scarce.
import { AppError } from '@penstock/domain/errors';

const RETRY_AFTER_MS = 1_000;

export class Places {
  #taken = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(
    private readonly max: number,
    private readonly waitingMax: number,
  ) {}

  /** Runs `work` when there is a place. Throws unavailable when too many wait already. */
  async with<T>(work: () => Promise<T>): Promise<T> {
    if (this.#taken >= this.max) {
      if (this.#waiting.length >= this.waitingMax) {
        throw new AppError('unavailable', 'too many requests at once, try again', {
          retryAfterMs: RETRY_AFTER_MS,
        });
      }
      // The one that ends hands its place over, so nobody can slip in between.
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else {
      this.#taken++;
    }
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#taken--;
      else next();
    }
  }
}
