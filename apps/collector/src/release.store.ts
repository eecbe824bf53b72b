// SQL of releasing quarantined usage: the wish goes away, released_at is set and the counters grow in one transaction, so
// a released row is billed exactly once whoever takes it and whatever dies.
import { statement } from '@penstock/db/statement';

// From one tenant to the next by the index, however many wishes each has.
export const listReleaseTenants = statement<{ tenantId: string }>(
  'quarantine_release.tenants',
  `WITH RECURSIVE t AS (
     (SELECT tenant_id FROM quarantine_release WHERE tenant_id > $1 ORDER BY tenant_id LIMIT 1)
     UNION ALL
     SELECT n.tenant_id FROM t CROSS JOIN LATERAL (
       SELECT r.tenant_id FROM quarantine_release r WHERE r.tenant_id > t.tenant_id ORDER BY r.tenant_id LIMIT 1) n
   )
   SELECT t.tenant_id AS "tenantId" FROM t
   WHERE EXISTS (SELECT FROM quarantine_release r WHERE r.tenant_id = t.tenant_id AND r.retry_at <= $2)
   ORDER BY t.tenant_id LIMIT $3`,
);

export interface ReleasedRow {
  nodeId: string;
  subscriptionId: string;
  engine: number;
  upBytes: bigint;
  downBytes: bigint;
  createdAt: Date;
  /** Of the frame; null when raw data is no longer kept. */
  header: Buffer | null;
  flags: number | null;
  acceptedAt: Date | null;
}

/** A wish that found no period and waits. */
type Waiting = { [Column in keyof ReleasedRow]: null };

// Two processes may want the same rows: the second finds them gone. What has no period to count in stays in quarantine,
// and the wish stays with it: it is looked at again at $4.
export const takeReleases = statement<ReleasedRow | Waiting>(
  'quarantine_release.take',
  `WITH due AS (
     SELECT quarantine_id FROM quarantine_release WHERE tenant_id = $1 AND retry_at <= $3
     ORDER BY retry_at, quarantine_id LIMIT $2 FOR UPDATE
   ), homeless AS MATERIALIZED (
     SELECT q.quarantine_id FROM due d JOIN usage_quarantine q ON q.tenant_id = $1 AND q.quarantine_id = d.quarantine_id
     WHERE q.released_at IS NULL AND NOT EXISTS (
       SELECT FROM usage_period p WHERE p.tenant_id = q.tenant_id AND p.subscription_id = q.subscription_id)
   ), waiting AS (
     UPDATE quarantine_release r SET retry_at = $4 FROM homeless h
     WHERE r.tenant_id = $1 AND r.quarantine_id = h.quarantine_id RETURNING r.quarantine_id
   ), taken AS (
     DELETE FROM quarantine_release r USING due d
     WHERE r.tenant_id = $1 AND r.quarantine_id = d.quarantine_id
       AND NOT EXISTS (SELECT FROM homeless h WHERE h.quarantine_id = d.quarantine_id) RETURNING r.quarantine_id
   ), released AS (
     UPDATE usage_quarantine q SET released_at = $3 FROM taken t
     WHERE q.tenant_id = $1 AND q.quarantine_id = t.quarantine_id AND q.released_at IS NULL RETURNING q.*
   )
   SELECT r.node_id AS "nodeId", r.subscription_id AS "subscriptionId", r.engine, r.up_bytes AS "upBytes",
          r.down_bytes AS "downBytes", r.created_at AS "createdAt", f.header, f.flags, f.accepted_at AS "acceptedAt"
   FROM released r
   LEFT JOIN LATERAL (SELECT l.header, l.flags, l.accepted_at FROM ledger_frame l
                      WHERE l.node_id = r.node_id AND l.epoch = r.epoch AND l.seq = r.seq LIMIT 1) f ON true
   UNION ALL
   SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM waiting`,
);

// The period is the one that live usage of that moment counts in (crossing.ts): the last that began before, else the
// first. Counters are locked in key order; numbers saturate at 2^63 − 1 as they do in a flush.
export const billReleased = statement<{ count: bigint; billable: bigint[] | null }>(
  'quarantine_release.bill',
  `WITH billed AS (
     SELECT i.nth, i.s, p.period_id, i.u::numeric AS up, i.d::numeric AS down,
            floor((i.u::numeric + i.d) * m.per_mille / 1000) AS billable
     FROM unnest($2::uuid[], $3::uuid[], $4::timestamptz[], $5::int8[], $6::int8[])
       WITH ORDINALITY AS i (n, s, at, u, d, nth)
     CROSS JOIN LATERAL (
       SELECT p.period_id FROM usage_period p WHERE p.tenant_id = $1 AND p.subscription_id = i.s
       ORDER BY p.started_at <= i.at DESC, abs(extract(epoch FROM p.started_at - i.at)) LIMIT 1) p
     CROSS JOIN LATERAL (
       SELECT m.per_mille FROM node_multiplier m WHERE m.node_id = i.n AND m.from_at <= i.at
       ORDER BY m.from_at DESC LIMIT 1) m
   ), summed AS (
     SELECT s, period_id, least(sum(up), 9223372036854775807)::int8 AS up, least(sum(down), 9223372036854775807)::int8 AS down,
            least(sum(billable), 9223372036854775807)::int8 AS billable
     FROM billed GROUP BY s, period_id
   ), counted AS (
     INSERT INTO usage_counter AS c (tenant_id, subscription_id, period_id, up_bytes, down_bytes, billable_bytes, updated_at)
     SELECT $1, s, period_id, up, down, billable, $7 FROM summed ORDER BY s, period_id
     ON CONFLICT (tenant_id, subscription_id, period_id) DO UPDATE SET
       up_bytes = c.up_bytes + least(excluded.up_bytes, 9223372036854775807 - c.up_bytes),
       down_bytes = c.down_bytes + least(excluded.down_bytes, 9223372036854775807 - c.down_bytes),
       billable_bytes = c.billable_bytes + least(excluded.billable_bytes, 9223372036854775807 - c.billable_bytes),
       updated_at = excluded.updated_at
     RETURNING c.subscription_id, c.period_id, c.billable_bytes
   ), crossed AS (
     INSERT INTO access_change (tenant_id, change_id, subscription_id, cause, period_id, observed_bytes)
     SELECT $1, gen_random_uuid(), c.subscription_id, 'crossing', c.period_id, c.billable_bytes
     FROM counted c JOIN usage_period p ON p.tenant_id = $1 AND p.subscription_id = c.subscription_id AND p.period_id = c.period_id
     WHERE p.limit_bytes IS NOT NULL AND c.billable_bytes >= p.limit_bytes ORDER BY c.subscription_id
   )
   SELECT count(*) AS count, array_agg(least(billable, 9223372036854775807)::int8 ORDER BY nth) AS billable FROM billed`,
);
