// Deliveries: made from events once, claimed by one process for one attempt, and what came of it. The scheduler is the
// only writer besides a tenant's own ping.
import { run, statement, type Runner } from '@penstock/db/statement';

/** An attempt that nobody reported back within this is tried again by somebody else. */
const CLAIM_SECONDS = 60;
/** After its first failure a server is left alone for this; then twice as long each time, up to ten minutes. */
const FIRST_PAUSE_MS = 2_000;

// A database that was restored into a new cluster counts transactions from low numbers again: the position is then ahead
// of everything that will be told for years, and begins again at now.
const lockPosition = statement<{ xact: string; seq: bigint; ahead: boolean; now: string }>(
  'webhook_position.lock',
  `SELECT xact::text AS xact, event_seq AS seq, xact > pg_snapshot_xmax(pg_current_snapshot()) AS ahead,
          pg_snapshot_xmin(pg_current_snapshot())::text AS now
     FROM webhook_position FOR UPDATE SKIP LOCKED`,
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
     -- What a tenant sent to a webhook by hand is no news for it.
        AND t.type NOT IN ('webhook.ping', 'webhook.deliver')
     -- Whoever switches one off waits for this, and then drops what was made here too.
        FOR SHARE OF w
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

const selectWaiting = statement<{ seconds: number }>(
  'event.waiting',
  `SELECT coalesce(extract(epoch FROM clock_timestamp() - min(at)), 0)::float8 AS seconds
     FROM event WHERE xact >= pg_snapshot_xmin(pg_current_snapshot())`,
);

/** For how long the oldest event waits for a transaction that has not ended. */
export async function waitingSeconds(db: Runner): Promise<number> {
  return (await run(db, selectWaiting, []))[0]?.seconds ?? 0;
}

/** Turns at most `limit` events into deliveries, in one transaction with the position. `full`: there may be more. */
export async function fanOut(db: Runner, at: Date, limit: number): Promise<{ made: number; full: boolean }> {
  const [position] = await run(db, lockPosition, []);
  // Somebody else is at it.
  if (position === undefined) return { made: 0, full: false };
  if (position.ahead) {
    await run(db, movePosition, [position.now, 0n]);
    return { made: 0, full: false };
  }
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

// Each webhook is looked at for itself, and each tenant has a share: what waits for one server, or for all servers of one
// tenant, takes nobody else's turn. A claimed row is due again only when its claim has run out.
const claimDue = statement<DueDelivery>(
  'webhook_delivery.claim',
  `WITH due AS (
     SELECT d.tenant_id, d.delivery_id
       FROM (SELECT w.tenant_id, x.delivery_id, x.next_at,
                    row_number() OVER (PARTITION BY w.tenant_id ORDER BY x.next_at, x.delivery_id) AS place
               FROM webhook w
               LEFT JOIN webhook_health h ON h.tenant_id = w.tenant_id AND h.webhook_id = w.webhook_id
              CROSS JOIN LATERAL (
                SELECT d.delivery_id, d.next_at FROM webhook_delivery d
                 WHERE d.tenant_id = w.tenant_id AND d.webhook_id = w.webhook_id AND d.state = 'pending'
                   AND d.next_at <= $1
                 ORDER BY d.next_at LIMIT $3) x
              WHERE w.enabled AND (h.resume_at IS NULL OR h.resume_at <= $1)
                AND NOT w.tenant_id = ANY ($5::uuid[]) AND NOT w.webhook_id = ANY ($6::uuid[])) d
      WHERE d.place <= $4 ORDER BY d.next_at LIMIT $2),
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

export interface ClaimLimits {
  /** Of all. */
  calls: number;
  callsAWebhook: number;
  callsATenant: number;
  /** Who has his share under way already. */
  busyTenants: readonly string[];
  busyWebhooks: readonly string[];
}

/** Deliveries whose time has come, for one attempt each. */
export function claimDeliveries(db: Runner, at: Date, limits: ClaimLimits): Promise<DueDelivery[]> {
  const { calls, callsAWebhook, callsATenant, busyTenants, busyWebhooks } = limits;
  return run(db, claimDue, [at, calls, callsAWebhook, callsATenant, busyTenants, busyWebhooks]);
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
  `UPDATE webhook_delivery d SET state = $4, next_at = $5, http_status = $6, error = $7,
          done_at = CASE WHEN $4 = 'pending' THEN NULL ELSE $8::timestamptz END
    WHERE tenant_id = $1 AND delivery_id = $2 AND attempts = $3 AND state = 'pending'`,
);
// Attempts that were under way together when a server went away are one failure.
const countFailure = statement<{ failures: number }>(
  'webhook_health.count',
  `INSERT INTO webhook_health AS h (tenant_id, webhook_id, failures, resume_at) VALUES ($1, $2, 1, $4)
   ON CONFLICT (tenant_id, webhook_id) DO UPDATE
     SET failures = h.failures + 1, resume_at = $3::timestamptz + least(600, power(2, least(h.failures + 1, 10))) * interval '1 s'
   WHERE h.resume_at IS NULL OR h.resume_at <= $3
   RETURNING failures`,
);
const forgetFailures = statement(
  'webhook_health.forget',
  `UPDATE webhook_health SET failures = 0, resume_at = NULL
    WHERE tenant_id = $1 AND webhook_id = $2 AND failures > 0`,
);
const switchOff = statement<{ webhookId: string }>(
  'webhook.switch_off',
  `UPDATE webhook SET enabled = false, disabled_reason = $3
    WHERE tenant_id = $1 AND webhook_id = $2 AND enabled RETURNING webhook_id AS "webhookId"`,
);
const dropWaiting = statement(
  'webhook_delivery.drop',
  `UPDATE webhook_delivery SET state = 'failed', error = 'webhook_disabled', done_at = $3
    WHERE tenant_id = $1 AND webhook_id = $2 AND state = 'pending'`,
);
const tellOff = statement(
  'event.webhook_disabled',
  `INSERT INTO event (tenant_id, type, entity, entity_id, data) VALUES ($1, 'webhook.disabled', 'webhook', $2, $3)`,
);

const lockWebhook = statement<{ webhookId: string }>(
  'webhook.lock_existing',
  `SELECT webhook_id AS "webhookId" FROM webhook WHERE tenant_id = $1 AND webhook_id = $2 FOR KEY SHARE`,
);

/**
 * Writes what came of an attempt; a webhook that fails too often is switched off, and that is told once. Locks go from the
 * webhook to its health to its deliveries, as whoever deletes or switches off does.
 */
export async function recordOutcome(
  db: Runner,
  delivery: DueDelivery,
  outcome: Outcome,
  at: Date,
  failuresMax: number,
): Promise<void> {
  const { tenantId, webhookId, deliveryId, attempts } = delivery;
  const { state, nextAt, httpStatus, error } = outcome;
  if ((await run(db, lockWebhook, [tenantId, webhookId])).length === 0) return;
  if (state === 'delivered') await run(db, forgetFailures, [tenantId, webhookId]);
  else await countFailureOf(db, delivery, at, failuresMax);
  await run(db, writeOutcome, [tenantId, deliveryId, attempts, state, nextAt, httpStatus, error, at]);
}

async function countFailureOf(
  db: Runner,
  { tenantId, webhookId }: DueDelivery,
  at: Date,
  failuresMax: number,
): Promise<void> {
  const resumeAt = new Date(at.getTime() + FIRST_PAUSE_MS);
  const [health] = await run(db, countFailure, [tenantId, webhookId, at, resumeAt]);
  if ((health?.failures ?? 0) < failuresMax) return;
  const reason = `it failed ${failuresMax} times in a row`;
  if ((await run(db, switchOff, [tenantId, webhookId, reason])).length === 1) {
    await run(db, dropWaiting, [tenantId, webhookId, at]);
    await run(db, tellOff, [tenantId, webhookId, JSON.stringify({ reason })]);
  }
}

const removeOld = statement<{ removed: number }>(
  'webhook_delivery.remove',
  `WITH old AS (
     (SELECT ctid FROM webhook_delivery WHERE state <> 'pending' AND done_at < $1 ORDER BY done_at LIMIT $2)
     UNION ALL
     (SELECT ctid FROM webhook_delivery WHERE state = 'pending' AND created_at < $1 ORDER BY created_at LIMIT $2)),
        gone AS (DELETE FROM webhook_delivery d USING old WHERE d.ctid = old.ctid RETURNING 1)
   SELECT count(*)::int AS removed FROM gone`,
);

/** Removes deliveries that were over before `before` or wait since then, `limit` of each; returns how many. */
export async function removeDeliveries(db: Runner, before: Date, limit: number): Promise<number> {
  return (await run(db, removeOld, [before, limit]))[0]?.removed ?? 0;
}
