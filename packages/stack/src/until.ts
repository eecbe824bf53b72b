// Waiting for a condition with a bound, instead of sleeping. Called by everything here that starts something.
import { AppError } from '@penstock/domain/errors';
import { systemClock } from '@penstock/domain/clock';

export const pollMs = 40;

/** Resolves with the first answer that is not null; throws unavailable with `what` after `timeoutMs`. */
export async function until<T>(
  what: string,
  timeoutMs: number,
  probe: () => Promise<T | null> | T | null,
  everyMs: number = pollMs,
): Promise<T> {
  const deadline = systemClock.monotonic() + timeoutMs;
  for (;;) {
    const answer = await probe();
    if (answer !== null) return answer;
    if (systemClock.monotonic() >= deadline) {
      throw new AppError('unavailable', `${what} did not happen within ${timeoutMs / 1000} s.`);
    }
    await pause(everyMs);
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
