// Events of one tenant in the order in which readers go (migration 0014). Read only: triggers write them.
import { run, statement, type Runner } from '@penstock/db/statement';
import type { EventPosition } from './position.js';

export interface EventRow extends EventPosition {
  type: string;
  entity: string;
  entityId: string | null;
  data: Record<string, unknown>;
}

// A transaction that is not over yet, and everything that began after it, waits: it may still leave an event in between.
const selectAfter = statement<EventRow>(
  'event.after',
  `SELECT xact::text AS xact, event_seq AS seq, at, type, entity, entity_id AS "entityId", data
     FROM event
    WHERE tenant_id = $1 AND (xact, event_seq) > ($2::text::xid8, $3::bigint)
      AND xact < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY xact, event_seq LIMIT $4`,
);

export function listEventsAfter(
  client: Runner,
  tenantId: string,
  after: EventPosition,
  limit: number,
): Promise<EventRow[]> {
  return run(client, selectAfter, [tenantId, after.xact, after.seq, limit]);
}

const selectNow = statement<EventPosition>(
  'event.now',
  `SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS xact, 0::bigint AS seq, clock_timestamp() AS at`,
);

/** Where somebody stands who wants what happens from now on. */
export async function currentPosition(client: Runner): Promise<EventPosition> {
  const [row] = await run(client, selectNow, []);
  return row as EventPosition;
}
