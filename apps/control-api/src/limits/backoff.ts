// How long a wrong sign-in has to wait. Two rules: a pair of name and network waits twice as long after each failure,
// and a name that is being guessed from everywhere makes a network it has not seen wait once, shortly. No network's
// failures lengthen the wait of another, so nobody can lock a person out from elsewhere. Pure.

/** Tries of a pair that cost nothing: people mistype. */
export const FREE_TRIES = 3;
const DELAY_MIN_MS = 1_000;
const DELAY_MAX_MS = 15 * 60_000;

/** Failures of one name, from everywhere, from which on a new network waits before its first try. */
export const PRESSURE_MIN = 50;
export const SLOW_MAX_MS = 30_000;
/** That wait grows by as much with each further PRESSURE_MIN failures. */
export const SLOW_STEP_MS = 1_000;

/** A pair is forgotten this long after its last try; longer than any wait. */
export const PAIR_KEPT_MS = 60 * 60_000;
/** A name's failures are forgotten when there was none for this long. */
export const PRESSURE_KEPT_MS = 15 * 60_000;

/** Wait after the `failures`-th failure in a row of one pair. */
export function delayMs(failures: number): number {
  if (failures <= FREE_TRIES) return 0;
  return Math.min(DELAY_MAX_MS, DELAY_MIN_MS * 2 ** Math.min(30, failures - FREE_TRIES - 1));
}

/** Wait of a network before its first try of a name that failed so often elsewhere. */
export function slowMs(pressure: number): number {
  if (pressure < PRESSURE_MIN) return 0;
  return Math.min(SLOW_MAX_MS, Math.floor((SLOW_STEP_MS * pressure) / PRESSURE_MIN));
}
