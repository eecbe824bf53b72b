// When a node counts as alive, pure. Late: one heartbeat missed or so; offline: its customers' usage is piling up there.

export const livenessStates = ['online', 'late', 'offline'] as const;
export type Liveness = (typeof livenessStates)[number];

/** Heartbeats that may be missed before a node is late, and before it is offline. */
const LATE_AFTER = 2.5;
const OFFLINE_AFTER = 6;

/** `ageMs`: since the last heartbeat; null when there never was one. */
export function liveness(ageMs: number | null, heartbeatMs: number): Liveness {
  if (ageMs === null || ageMs > heartbeatMs * OFFLINE_AFTER) return 'offline';
  return ageMs > heartbeatMs * LATE_AFTER ? 'late' : 'online';
}
