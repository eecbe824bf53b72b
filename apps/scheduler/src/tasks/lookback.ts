// How far back a sweep looks for what became due. What is due is acted on within seconds, so a short look back is enough
// and keeps the cost from growing with history; the first run of a process and one every hour look at everything.
import type { Clock } from '@penstock/domain/clock';

/** An ordinary run looks this far back. */
const RECENT_MS = 15 * 60_000;
const EVERYTHING_EVERY_MS = 3_600_000;
/** 10 years: everything. */
const EVERYTHING_MS = 3_650 * 24 * 3_600_000;

export class Lookback {
  private everythingAt: number | null = null;

  constructor(private readonly clock: Clock) {}

  /** Milliseconds for this run; call `done` after it succeeded. */
  next(): number {
    const due =
      this.everythingAt === null || this.clock.monotonic() - this.everythingAt >= EVERYTHING_EVERY_MS;
    return due ? EVERYTHING_MS : RECENT_MS;
  }

  done(lookedBackMs: number): void {
    if (lookedBackMs === EVERYTHING_MS) this.everythingAt = this.clock.monotonic();
  }
}
