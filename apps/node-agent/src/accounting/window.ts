// How long the next window is. Pure. A filling journal stretches windows instead of dropping bytes: from a quarter full
// on, each further sixteenth doubles the window, up to an hour. With 1,000 busy subscriptions and 64 MB this lasts for
// more than a week; sums keep growing in the engines all the while.

export const WINDOW_MS_MIN = 1_000;
export const WINDOW_MS_LONGEST = 60_000;
export const STRETCHED_MS_MAX = 3_600_000;
const STRETCH_FROM = 0.25;
const DOUBLINGS = 12;

/** Window in ms for a journal that is `fill` (0 to 1) full; `baseMs` is the configured window. */
export function stretchedWindowMs(baseMs: number, fill: number): number {
  if (fill <= STRETCH_FROM) return baseMs;
  const steps = Math.floor(((Math.min(fill, 1) - STRETCH_FROM) / (1 - STRETCH_FROM)) * DOUBLINGS);
  return Math.min(baseMs * 2 ** steps, Math.max(baseMs, STRETCHED_MS_MAX));
}

/** Reading may take 5 % of a core: the pause after a read that took `readMs`. */
export function readPauseMs(baseMs: number, readMs: number): number {
  return Math.min(Math.max(baseMs, readMs * 20) - readMs, 10 * baseMs);
}
