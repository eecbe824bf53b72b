// Deliveries: made from events once, claimed by one process for one attempt, and what came of it. The scheduler is the
// only writer besides a tenant's own ping.
import { run, statement, type Runner } from '@penstock/db/statement';

/** An attempt that nobody reported back within this is tried again by somebody else. */
const CLAIM_SECONDS = 60;

const lockPosition = statement<{ xact: string; seq: bigint }>(
  'webhook_position.lock',
  `SELECT xact::text AS xact, event_seq AS seq FROM webhook_position FOR UPDATE SKIP LOCKED`,
);
interface Batch {
  events: number;
  made: number;
  xact: string | null;
  seq: bigint | null;
}
// Events behind the position, up to the oldest transaction that may still write one; those of tenants with a webhook that
// wants them become deliveries.
const makeDeliveries = statement<Batch>(
  'webhook_delivery.make',
  `WITH taken AS MATERIALIZED (
     SELECT * FROM event
      WHERE (xact, event_seq) > ($1::text::xid8, $2::bigint) AND xact < pg_snapshot_xmin(pg_current_snapshot())
      ORDER BY xact, event_seq LIMIT $3),
   made AS (
     INSERT INTO webhook_delivery (tenant_id, webhook_id, type, body, next_at, created_at)
     SELECT w.tenant_id, w.webhook_id, t.type,
            jsonb_build_object('type', t.type, 'entity', t.entity, 'entityId', t.entity_id,
                               'at', to_char(t.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'data', t.data),
            $4, $4
       FROM taken t
       JOIN webhook w ON w.tenant_id = t.tenant_id AND w.enabled
        AND w.events && ARRAY['*', split_part(t.type, '.', 1) || '.*', t.type]
     RETURNING 1)
   SELECT (SELECT count(*)::int FROM taken) AS events, (SELECT count(*)::int FROM made) AS made, last.xact, last.seq
     FROM (SELECT) one
     LEFT JOIN LATERAL (SELECT xact::text AS xact, event_seq AS seq FROM taken ORDER BY taken.xact DESC, event_seq DESC LIMIT 1) last
       ON true`,
);
const movePosition = statement(
  'webhook_position.move',
  `UPDATE webhook_position SET xact = $1::text::xid8, event_seq = $2`,
);

/** Turns at most `limit` events into deliveries, in one transaction with the position. `full`: there may be more. */
export async function fanOut(db: Runner, at: Date, limit: number): Promise<{ made: number; full: boolean }> {
  const [position] = await run(db, lockPosition, []);
  // Somebody else is at it.
  if (position === undefined) return { made: 0, full: false };
  const [batch] = await run(db, makeDeliveries, [position.xact, position.seq, limit, at]);
  if (batch === undefined || batch.xact === null) return { made: 0, full: false };
  await run(db, movePosition, [batch.xact, batch.seq]);
  return { made: batch.made, full: batch.events === limit };
}

export interface DueDelivery {
  tenantId: string;
  webhookId: string;
  deliveryId: string;
  attempts: number;
  body: unknown;
  url: Buffer;
  secret: Buffer;
  oldSecret: Buffer | null;
}

// At most `$3` of a webhook at a time: a slow server of one tenant does not take everybody's places.
const claimDue = statement<DueDelivery>(
  'webhook_delivery.claim',
  `WITH due AS (
     SELECT d.tenant_id, d.delivery_id
       FROM (SELECT tenant_id, webhook_id, delivery_id, next_at,
                    row_number() OVER (PARTITION BY tenant_id, webhook_id ORDER BY next_at, delivery_id) AS place
               FROM (SELECT * FROM webhook_delivery WHERE state = 'pending' AND next_at <= $1
                      ORDER BY next_at LIMIT 5000) near) d
       JOIN webhook w ON w.tenant_id = d.tenant_id AND w.webhook_id = d.webhook_id AND w.enabled
      WHERE d.place <= $3 ORDER BY d.next_at LIMIT $2),
   locked AS (
     SELECT d.tenant_id, d.delivery_id FROM webhook_delivery d JOIN due USING (tenant_id, delivery_id)
      WHERE d.state = 'pending' AND d.next_at <= $1 FOR UPDATE OF d SKIP LOCKED)
   UPDATE webhook_delivery d SET attempts = d.attempts + 1, next_at = $1 + interval '${CLAIM_SECONDS} s'
     FROM locked l, webhook w
    WHERE d.tenant_id = l.tenant_id AND d.delivery_id = l.delivery_id
      AND w.tenant_id = d.tenant_id AND w.webhook_id = d.webhook_id
   RETURNING d.tenant_id AS "tenantId", d.webhook_id AS "webhookId", d.delivery_id AS "deliveryId", d.attempts, d.body,
             w.url, w.secret, CASE WHEN w.old_until > $1 THEN w.old_secret END AS "oldSecret"`,
);

/** Deliveries whose time has come, for one attempt each. */
export function claimDeliveries(
  db: Runner,
  at: Date,
  limit: number,
  perWebhook: number,
): Promise<DueDelivery[]> {
  return run(db, claimDue, [at, limit, perWebhook]);
}

/** Of a delivery that is over, or its next time. */
export interface Outcome {
  state: 'pending' | 'delivered' | 'failed';
  nextAt: Date;
  httpStatus: number | null;
  error: string | null;
}

const writeOutcome = statement(
  'webhook_delivery.outcome',
  `UPDATE webhook_delivery SET state = $4, next_at = $5, http_status = $6, error = $7,
          done_at = CASE WHEN $4 = 'pending' THEN NULL ELSE $8::timestamptz END
    WHERE tenant_id = $1 AND delivery_id = $2 AND attempts = $3 AND state = 'pending'`,
);
const countFailure = statement<{ failures: number }>(
  'webhook_health.count',
  `INSERT INTO webhook_health (tenant_id, webhook_id, failures) VALUES ($1, $2, $3)
   ON CONFLICT (tenant_id, webhook_id) DO UPDATE
     SET failures = CASE WHEN excluded.failures = 0 THEN 0 ELSE webhook_health.failures + 1 END
   RETURNING failures`,
);
const switchOff = statement<{ webhookId: string }>(
  'webhook.switch_off',
  `UPDATE webhook SET enabled = false, disabled_reason = $3
    WHERE tenant_id = $1 AND webhook_id = $2 AND enabled RETURNING webhook_id AS "webhookId"`,
);
const tellOff = statement(
  'event.webhook_disabled',
  `INSERT INTO event (tenant_id, type, entity, entity_id, data) VALUES ($1, 'webhook.disabled', 'webhook', $2, $3)`,
);

/** Writes what came of an attempt; a webhook that fails too often is switched off, and that is told once. */
export async function recordOutcome(
  db: Runner,
  delivery: DueDelivery,
  outcome: Outcome,
  at: Date,
  failuresMax: number,
): Promise<void> {
  const { tenantId, webhookId, deliveryId, attempts } = delivery;
  const { state, nextAt, httpStatus, error } = outcome;
  await run(db, writeOutcome, [tenantId, deliveryId, attempts, state, nextAt, httpStatus, error, at]);
  const [health] = await run(db, countFailure, [tenantId, webhookId, state === 'delivered' ? 0 : 1]);
  if ((health?.failures ?? 0) < failuresMax) return;
  const reason = `${failuresMax} deliveries in a row failed`;
  if ((await run(db, switchOff, [tenantId, webhookId, reason])).length === 1) {
    await run(db, tellOff, [tenantId, webhookId, JSON.stringify({ reason })]);
  }
}

const removeOld = statement<{ removed: number }>(
  'webhook_delivery.remove',
  `WITH old AS (SELECT ctid FROM webhook_delivery WHERE state <> 'pending' AND done_at < $1 ORDER BY done_at LIMIT $2),
        gone AS (DELETE FROM webhook_delivery d USING old WHERE d.ctid = old.ctid RETURNING 1)
   SELECT count(*)::int AS removed FROM gone`,
);

/** Removes up to `limit` deliveries that were over before `before`; returns how many. */
export async function removeDeliveries(db: Runner, before: Date, limit: number): Promise<number> {
  return (await run(db, removeOld, [before, limit]))[0]?.removed ?? 0;
}
