// What a byte of a node counts: the multiplier in force at the end of the window, by the node's history. The history only
// grows, and a change begins minutes after it was written (packages/db, node_multiplier), so whoever counts a window, and
// whenever, gets the same. Pure.

/** In force from a moment until the next one's. */
export interface Multiplier {
  fromMs: number;
  perMille: number;
}

/** `history` is ordered by time and not empty; its first entry holds for everything before it too. */
export function multiplierAt(history: readonly Multiplier[], atMs: number): number {
  let found = history[0];
  for (const entry of history) if (entry.fromMs <= atMs) found = entry;
  if (found === undefined) throw new Error('a node has no multiplier');
  return found.perMille;
}
