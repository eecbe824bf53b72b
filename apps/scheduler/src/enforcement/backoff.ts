// Exponential backoff with jitter, pure: half of the step is certain, half is drawn, so that nodes spread out.

export interface BackoffRule {
  firstMs: number;
  maxMs: number;
}

/** Delay before try `attempt` (1 is the first repetition). `random`: [0, 1). */
export function backoffMs(rule: BackoffRule, attempt: number, random: number): number {
  const step = Math.min(rule.maxMs, rule.firstMs * 2 ** Math.min(attempt - 1, 30));
  return step / 2 + (step / 2) * random;
}
