// Where a reader of events stands: transaction, number in it, and when that was. Travels as the `id` of a server-sent
// event, `1234-56-1700000000000`, and comes back in Last-Event-ID. Pure.

/** Events are kept for two days; a reader that was away for longer begins again. */
export const EVENTS_KEPT_MS = 48 * 3_600_000;
const RESUMED_MS_MAX = EVENTS_KEPT_MS - 3_600_000;

export interface EventPosition {
  /** A PostgreSQL transaction id (xid8) as text. */
  xact: string;
  seq: bigint;
  at: Date;
}

export const EVENT_ID = /^(\d{1,19})-(\d{1,18})-(\d{1,15})$/;

export function eventId({ xact, seq, at }: EventPosition): string {
  return `${xact}-${seq}-${at.getTime()}`;
}

/** null when the text is no id of ours. */
export function parseEventId(text: string): EventPosition | null {
  const [, xact, seq, ms] = EVENT_ID.exec(text) ?? [];
  if (xact === undefined || seq === undefined || ms === undefined) return null;
  return { xact, seq: BigInt(seq), at: new Date(Number(ms)) };
}

/** False when events behind this position may have been removed. */
export function isKept(position: EventPosition, nowMs: number): boolean {
  return nowMs - position.at.getTime() <= RESUMED_MS_MAX;
}

/** Negative when `a` comes first. */
export function comparePositions(a: EventPosition, b: EventPosition): number {
  const x = BigInt(a.xact) - BigInt(b.xact);
  const difference = x === 0n ? a.seq - b.seq : x;
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}
