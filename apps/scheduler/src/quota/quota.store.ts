// What a decision needs, read for a set of subscriptions at once, and what it changes, written as sets. `keys` are
// always two arrays of equal length: tenants and subscriptions. The caller holds the subscriptions' locks
// (changes/change.store.ts), so two processes never decide the same one at a time.
import { run, statement, type Runner } from '@penstock/db/statement';
import type { NodeId, PlanId, SubscriptionId, TenantId } from '@penstock/domain/ids';
import type { AdminState, EffectiveState, Engine } from '@penstock/domain/terms';
import { KEPT_ADDRESS } from '../placement/placement.store.js';

export interface Keys {
  tenantIds: TenantId[];
  subscriptionIds: SubscriptionId[];
}

export interface SubscriptionFacts {
  tenantId: TenantId;
  subscriptionId: SubscriptionId;
  at: Date;
  adminState: AdminState;
  tenantState: 'active' | 'suspended';
  expiresAt: Date | null;
  /** With what was added to the current period. */
  limitBytes: bigint | null;
  engines: Engine[];
  onHold: boolean;
  holdDeadline: Date | null;
  nextPlanId: PlanId | null;
  nextPlanAt: Date | null;
  poolExceeded: boolean;
  /** The oldest act that was asked for and is not done. */
  actId: string | null;
  actKind: string | null;
  actBytes: bigint | null;
  /** null: never decided. */
  effectiveState: EffectiveState | null;
  reason: string;
  /** The period that `at` lies in; null when it has to be opened. */
  periodId: string | null;
  observedBytes: bigint;
  counterBytes: bigint;
  /** A period is missing, ends soon, or its limit or end is not what the subscription says. */
  periodDue: boolean;
  /** Nodes that should serve it, and nodes that do. Sorted. A node in drain goes on with those that it serves. */
  wantedNodes: NodeId[];
  assignedNodes: NodeId[];
  /** A device lacks its address on a wanted node, or has one where it should not. */
  addressesDue: boolean;
}

/** Periods are opened this long before they begin, so that the first window after midnight finds its own. */
export const PERIOD_AHEAD_MS = 3_600_000;

// One on hold has one period without an end until it starts.
const PERIOD = `CASE WHEN s.on_hold THEN 'none' ELSE s.period END`;
// Of row u; NULL: unlimited. Saturates rather than fails.
const LIMIT = 's.limit_bytes + least(u.extra_bytes, 9223372036854775807 - s.limit_bytes)';

const findFacts = statement<SubscriptionFacts>(
  'quota.facts',
  `SELECT s.tenant_id AS "tenantId", s.subscription_id AS "subscriptionId", statement_timestamp() AS at,
          s.admin_state AS "adminState", t.state AS "tenantState", s.expires_at AS "expiresAt",
          s.limit_bytes + least(coalesce(p.extra_bytes, 0), 9223372036854775807 - s.limit_bytes) AS "limitBytes",
          s.engines, s.on_hold AS "onHold", s.hold_deadline AS "holdDeadline", s.next_plan_id AS "nextPlanId",
          s.next_plan_at AS "nextPlanAt", coalesce(pool.exceeded, false) AS "poolExceeded",
          act.act_id AS "actId", act.kind AS "actKind", act.bytes AS "actBytes",
          st.effective_state AS "effectiveState", coalesce(st.reason, '') AS reason,
          p.period_id AS "periodId", coalesce(p.observed_bytes, 0) AS "observedBytes",
          coalesce(c.billable_bytes, 0) AS "counterBytes",
          s.admin_state <> 'deleted' AND (
            p.period_id IS NULL OR p.limit_bytes IS DISTINCT FROM p.wanted_limit
            OR last.limit_bytes IS DISTINCT FROM last.wanted_limit OR last.awaits_use <> s.on_hold
            OR last.ends_at <= statement_timestamp() + $3::bigint * interval '1 ms'
            OR last.ends_at IS DISTINCT FROM CASE WHEN ${PERIOD} = 'none' THEN NULL ELSE
                 (date_trunc(s.period, greatest(statement_timestamp(), last.started_at) AT TIME ZONE t.time_zone)
                  + ('1 ' || s.period)::interval) AT TIME ZONE t.time_zone END) AS "periodDue",
          coalesce(wanted.nodes, '{}') AS "wantedNodes", coalesce(assigned.nodes, '{}') AS "assignedNodes",
          address.due AS "addressesDue"
   FROM unnest($1::uuid[], $2::uuid[]) AS k (tenant_id, subscription_id)
   JOIN subscription s ON s.tenant_id = k.tenant_id AND s.subscription_id = k.subscription_id
   JOIN tenant t ON t.tenant_id = s.tenant_id
   LEFT JOIN tenant_pool pool ON pool.tenant_id = s.tenant_id
   LEFT JOIN subscription_state st ON st.tenant_id = s.tenant_id AND st.subscription_id = s.subscription_id
   LEFT JOIN LATERAL (
     SELECT a.act_id, a.kind, a.bytes FROM subscription_act a
     WHERE a.tenant_id = s.tenant_id AND a.subscription_id = s.subscription_id AND a.done_at IS NULL
     ORDER BY a.requested_at, a.act_id LIMIT 1) act ON true
   LEFT JOIN LATERAL (
     SELECT u.period_id, u.limit_bytes, u.extra_bytes, u.observed_bytes, ${LIMIT} AS wanted_limit FROM usage_period u
     WHERE u.tenant_id = s.tenant_id AND u.subscription_id = s.subscription_id
       AND u.started_at <= statement_timestamp() AND (u.ends_at IS NULL OR u.ends_at > statement_timestamp())
     ORDER BY u.started_at DESC LIMIT 1) p ON true
   LEFT JOIN LATERAL (
     SELECT u.limit_bytes, u.started_at, u.ends_at, u.awaits_use, ${LIMIT} AS wanted_limit FROM usage_period u
     WHERE u.tenant_id = s.tenant_id AND u.subscription_id = s.subscription_id
     ORDER BY u.started_at DESC LIMIT 1) last ON true
   LEFT JOIN usage_counter c ON c.tenant_id = s.tenant_id AND c.subscription_id = s.subscription_id
     AND c.period_id = p.period_id
   LEFT JOIN LATERAL (
     SELECT array_agg(DISTINCT n.node_id) AS nodes
     FROM plan_node_group g
     JOIN node_group_node m ON m.node_group_id = g.node_group_id
     JOIN node n ON n.node_id = m.node_id
     WHERE g.tenant_id = s.tenant_id AND g.plan_id = s.plan_id AND s.admin_state <> 'deleted'
       AND (n.state = 'active' OR n.state = 'drain' AND EXISTS (
         SELECT FROM assignment a WHERE a.tenant_id = s.tenant_id AND a.node_id = n.node_id
           AND a.subscription_id = s.subscription_id AND a.ended_at IS NULL))
       AND (n.owner_tenant_id IS NULL OR n.owner_tenant_id = s.tenant_id)
       AND EXISTS (SELECT FROM inbound i WHERE i.node_id = n.node_id AND i.engine = ANY (s.engines))) wanted ON true
   LEFT JOIN LATERAL (
     SELECT array_agg(a.node_id ORDER BY a.node_id) FILTER (WHERE a.ended_at IS NULL) AS nodes,
            array_agg(a.node_id) AS ever
     FROM assignment a WHERE a.tenant_id = s.tenant_id AND a.subscription_id = s.subscription_id) assigned ON true
   CROSS JOIN LATERAL (
     SELECT EXISTS (
       SELECT FROM device d CROSS JOIN unnest(assigned.ever || wanted.nodes) AS n (node_id)
       CROSS JOIN LATERAL (
         SELECT coalesce(bool_or(${KEPT_ADDRESS}), false) AS kept, coalesce(bool_or(NOT ${KEPT_ADDRESS}), false) AS outside
         FROM node_address x WHERE x.node_id = n.node_id AND x.device_id = d.device_id AND x.released_at IS NULL) h
       WHERE d.tenant_id = s.tenant_id AND d.subscription_id = s.subscription_id
         AND (h.outside OR h.kept <> (d.removed_at IS NULL AND coalesce(n.node_id = ANY (wanted.nodes), false) AND 'wireguard' = ANY (s.engines)
              AND EXISTS (SELECT FROM inbound i WHERE i.node_id = n.node_id AND i.engine = 'wireguard')))) AS due
   ) address`,
);

/** Facts of the subscriptions that exist, in no order. */
export async function findSubscriptionFacts(db: Runner, keys: Keys): Promise<SubscriptionFacts[]> {
  return run(db, findFacts, [keys.tenantIds, keys.subscriptionIds, PERIOD_AHEAD_MS]);
}

// An edit of the limit holds for the running and the next period. An edit of the metering period (or of the tenant's
// time zone) moves the end of the newest one: what was used stays used. The period of one that was on hold gets the end
// that follows from its start, also when the start is found late. Collectors hear what changed (usage_period channel).
const alignPeriodTerms = statement(
  'quota.align_periods',
  `WITH changed AS (UPDATE usage_period p SET limit_bytes = w.limit_bytes, ends_at = w.ends_at, awaits_use = w.on_hold
   FROM (
     SELECT u.tenant_id, u.subscription_id, u.period_id, s.on_hold, ${LIMIT} AS limit_bytes,
            CASE WHEN u.started_at < max(u.started_at) OVER (PARTITION BY u.tenant_id, u.subscription_id) THEN u.ends_at
                 WHEN ${PERIOD} = 'none' THEN NULL
                 ELSE (date_trunc(s.period, greatest(CASE WHEN u.awaits_use THEN coalesce(s.activated_at, $3::timestamptz)
                                                          ELSE $3::timestamptz END, u.started_at) AT TIME ZONE t.time_zone)
                       + ('1 ' || s.period)::interval) AT TIME ZONE t.time_zone END AS ends_at
     FROM unnest($1::uuid[], $2::uuid[]) AS k (tenant_id, subscription_id)
     JOIN subscription s ON s.tenant_id = k.tenant_id AND s.subscription_id = k.subscription_id
     JOIN tenant t ON t.tenant_id = s.tenant_id
     JOIN usage_period u ON u.tenant_id = s.tenant_id AND u.subscription_id = s.subscription_id
     WHERE u.ends_at IS NULL OR u.ends_at > $3) w
   WHERE p.tenant_id = w.tenant_id AND p.subscription_id = w.subscription_id AND p.period_id = w.period_id
     AND (p.limit_bytes IS DISTINCT FROM w.limit_bytes OR p.ends_at IS DISTINCT FROM w.ends_at OR p.awaits_use <> w.on_hold)
   RETURNING p.tenant_id, p.subscription_id)
   SELECT pg_notify('usage_period', replace(c.tenant_id::text || c.subscription_id::text, '-', ''))
   FROM (SELECT DISTINCT tenant_id, subscription_id FROM changed) c`,
);

// Exactly once by the unique key on the start. Days, weeks and months begin at the tenant's midnight; periods missed
// in a downtime are opened too, since late usage belongs into them.
const openMissingPeriods = statement(
  'quota.open_periods',
  `INSERT INTO usage_period (tenant_id, subscription_id, period_id, started_at, ends_at, limit_bytes, awaits_use)
   SELECT f.tenant_id, f.subscription_id, gen_random_uuid(), b.started_at, b.ends_at, f.limit_bytes, f.on_hold
   FROM (
     SELECT s.tenant_id, s.subscription_id, s.limit_bytes, s.on_hold, ${PERIOD} AS period, t.time_zone,
            ('1 ' || CASE ${PERIOD} WHEN 'none' THEN 'day' ELSE s.period END)::interval AS step,
            CASE WHEN last.started_at IS NULL THEN
                   CASE ${PERIOD} WHEN 'none' THEN s.created_at
                        ELSE date_trunc(s.period, $3::timestamptz AT TIME ZONE t.time_zone) AT TIME ZONE t.time_zone END
                 ELSE greatest(last.ends_at, $3::timestamptz - $5::bigint * interval '1 day') END AS from_at
     FROM unnest($1::uuid[], $2::uuid[]) AS k (tenant_id, subscription_id)
     JOIN subscription s ON s.tenant_id = k.tenant_id AND s.subscription_id = k.subscription_id
     JOIN tenant t ON t.tenant_id = s.tenant_id
     LEFT JOIN LATERAL (
       SELECT u.started_at, u.ends_at FROM usage_period u
       WHERE u.tenant_id = s.tenant_id AND u.subscription_id = s.subscription_id
       ORDER BY u.started_at DESC LIMIT 1) last ON true
     WHERE s.admin_state <> 'deleted'
       AND (last.started_at IS NULL OR last.ends_at <= $3::timestamptz + $4::bigint * interval '1 ms')) f
   CROSS JOIN LATERAL (
     SELECT f.from_at AS started_at, NULL::timestamptz AS ends_at WHERE f.period = 'none'
     UNION ALL
     SELECT greatest(g AT TIME ZONE f.time_zone, f.from_at), (g + f.step) AT TIME ZONE f.time_zone
     FROM generate_series(date_trunc(f.period, f.from_at AT TIME ZONE f.time_zone),
                          ($3::timestamptz + $4::bigint * interval '1 ms') AT TIME ZONE f.time_zone, f.step) AS g
     WHERE f.period <> 'none' AND (g + f.step) AT TIME ZONE f.time_zone > f.from_at) b
   ON CONFLICT (tenant_id, subscription_id, started_at) DO NOTHING`,
);

/** Periods missed longer ago than this are not opened any more; their late usage is quarantined. */
export const PERIODS_MISSED_DAYS_MAX = 62;

/** Makes the periods of these subscriptions as their terms say at time `at`. Safe to run again. */
export async function alignPeriods(db: Runner, keys: Keys, at: Date): Promise<void> {
  await run(db, alignPeriodTerms, [keys.tenantIds, keys.subscriptionIds, at]);
  await run(db, openMissingPeriods, [
    keys.tenantIds,
    keys.subscriptionIds,
    at,
    PERIOD_AHEAD_MS,
    PERIODS_MISSED_DAYS_MAX,
  ]);
}

export interface StateWrite {
  tenantId: TenantId;
  subscriptionId: SubscriptionId;
  state: EffectiveState;
  reason: string;
}

export interface ObservedWrite {
  tenantId: TenantId;
  subscriptionId: SubscriptionId;
  periodId: string;
  bytes: bigint;
}

export interface NodeChangeWrite {
  tenantId: TenantId;
  nodeId: NodeId;
  subscriptionId: SubscriptionId;
  cause: string;
  causedAt: Date;
}

// One statement for the whole outcome, so that a crossing costs one round trip here. node_change rows go in sorted
// (the streams delete them in the same order), and a change that waits already keeps the time since which it waits.
const writeOutcome = statement(
  'quota.write_outcome',
  `WITH state AS (
     INSERT INTO subscription_state AS o (tenant_id, subscription_id, effective_state, reason, since)
     SELECT i.tenant_id, i.subscription_id, i.state, i.reason, statement_timestamp()
     FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) AS i (tenant_id, subscription_id, state, reason)
     ON CONFLICT (tenant_id, subscription_id) DO UPDATE
       SET effective_state = excluded.effective_state, reason = excluded.reason, since = excluded.since
   ), observed AS (
     UPDATE usage_period p SET observed_bytes = i.bytes
     FROM unnest($5::uuid[], $6::uuid[], $7::uuid[], $8::bigint[]) AS i (tenant_id, subscription_id, period_id, bytes)
     WHERE p.tenant_id = i.tenant_id AND p.subscription_id = i.subscription_id AND p.period_id = i.period_id
       AND p.observed_bytes < i.bytes
   ), changed AS (
     INSERT INTO node_change AS o (tenant_id, node_id, subscription_id, cause, caused_at, generation)
     SELECT i.tenant_id, i.node_id, i.subscription_id, i.cause, i.caused_at, gen_random_uuid()
     FROM unnest($9::uuid[], $10::uuid[], $11::uuid[], $12::text[], $13::timestamptz[])
       AS i (tenant_id, node_id, subscription_id, cause, caused_at)
     ON CONFLICT (tenant_id, node_id, subscription_id) DO UPDATE
       SET cause = excluded.cause, caused_at = least(o.caused_at, excluded.caused_at), generation = excluded.generation
   )
   SELECT pg_notify('node_change', n::text) FROM unnest($14::uuid[]) AS n`,
);

/** Writes decisions. `notify`: nodes whose stream another process may hold. */
export async function writeDecisions(
  db: Runner,
  states: readonly StateWrite[],
  observed: readonly ObservedWrite[],
  changes: readonly NodeChangeWrite[],
  notify: readonly NodeId[],
): Promise<void> {
  if (states.length + observed.length + changes.length + notify.length === 0) return;
  await run(db, writeOutcome, [
    states.map((s) => s.tenantId),
    states.map((s) => s.subscriptionId),
    states.map((s) => s.state),
    states.map((s) => s.reason),
    observed.map((o) => o.tenantId),
    observed.map((o) => o.subscriptionId),
    observed.map((o) => o.periodId),
    observed.map((o) => o.bytes.toString()),
    changes.map((c) => c.tenantId),
    changes.map((c) => c.nodeId),
    changes.map((c) => c.subscriptionId),
    changes.map((c) => c.cause),
    changes.map((c) => c.causedAt),
    notify,
  ]);
}
