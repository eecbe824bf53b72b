// How many nodes may come back at a time: each costs a read of its whole desired state. The others wait in a short
// queue; beyond that they are sent away with a delay that spreads them out.
import { AppError } from '@penstock/domain/errors';

export interface AdmissionRule {
  /** At once. */
  openMax: number;
  /** Waiting. */
  queueMax: number;
  /** Those sent away come back after this and up to three times as much. */
  retryMs: number;
}

export const ADMISSION: AdmissionRule = { openMax: 16, queueMax: 512, retryMs: 1_000 };

export class Admission {
  private open = 0;
  private readonly queue: (() => void)[] = [];

  constructor(
    private readonly rule: AdmissionRule,
    private readonly random: () => number,
    private readonly onDepth: (waiting: number) => void,
  ) {}

  /** Runs `work` when there is room; throws unavailable when the queue is full. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.open >= this.rule.openMax) {
      if (this.queue.length >= this.rule.queueMax) {
        const retryAfterMs = Math.round(this.rule.retryMs * (1 + 2 * this.random()));
        throw new AppError('unavailable', 'too many nodes come back at once', { retryAfterMs });
      }
      await new Promise<void>((resolve) => {
        this.queue.push(resolve);
        this.onDepth(this.queue.length);
      });
    } else {
      this.open++;
    }
    try {
      return await work();
    } finally {
      const next = this.queue.shift();
      this.onDepth(this.queue.length);
      // The place goes from hand to hand; only without a successor does it become free.
      if (next === undefined) this.open--;
      else next();
    }
  }
}
