// When a failed delivery is tried again, and when a webhook is given up. Pure.

/** Two days in all: a server that is away over a weekend day hears of everything. */
const AGAIN_AFTER_MS = [10, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800, 43_200, 43_200].map(
  (seconds) => seconds * 1000,
);
/** Failures in a row, with pauses up to ten minutes between them (seven hours in all), until a webhook is switched off. */
export const FAILURES_MAX = 50;

/** Milliseconds until the next attempt after `attempts` failed ones, or null when it was the last. `random` in [0, 1). */
export function nextAttemptMs(attempts: number, random: number): number | null {
  const base = AGAIN_AFTER_MS[attempts - 1];
  return base === undefined ? null : Math.round(base * (0.9 + 0.2 * random));
}
