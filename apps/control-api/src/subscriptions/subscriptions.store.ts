// Subscriptions: terms copied from the plan, the sealed secret, and what the scheduler says of them. A deleted one is
// a tombstone: it is not found here, but its row stays for the usage that still arrives.
import { AppError } from '@penstock/domain/errors';
import type { PlanId, SubscriptionId } from '@penstock/domain/ids';
import type { EffectiveState, Engine, MeteringPeriod } from '@penstock/domain/terms';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';
import type { ChangedSubscription, NewSubscription } from './subscriptions.schema.js';

export interface Subscription {
  subscriptionId: SubscriptionId;
  planId: PlanId;
  name: string;
  externalRef: string | null;
  adminState: 'active' | 'disabled';
  state: EffectiveState | null;
  stateReason: string | null;
  stateSince: Date | null;
  limitBytes: bigint | null;
  period: MeteringPeriod;
  engines: Engine[];
  deviceLimit: number;
  onHold: boolean;
  holdDeadline: Date | null;
  startedAt: Date | null;
  durationDays: number | null;
  expiresAt: Date | null;
  nextPlanId: PlanId | null;
  version: number;
  createdAt: Date;
}

// The plan is read and copied by one statement, so its terms are those of one moment. $4: an end of its own was given
// ($5), $6: on hold or not (NULL: as the plan says), $7: the deadline of a hold, $8 and $9: another next plan.
const insertRows = statement<{ subscriptionId: SubscriptionId }>(
  'subscription.insert',
  `INSERT INTO subscription (tenant_id, subscription_id, plan_id, name, external_ref, limit_bytes, period, engines,
                             device_limit, on_hold, hold_deadline, duration_days, activated_at, expires_at,
                             next_plan_id, next_plan_at, secret, created_at)
   SELECT p.tenant_id, i.id, p.plan_id, i.name, i.ref, p.limit_bytes, p.period, p.engines, p.device_limit, h.on_hold,
          CASE WHEN h.on_hold THEN $7::timestamptz END, CASE WHEN NOT $4 THEN p.duration_days END,
          CASE WHEN NOT h.on_hold THEN $3::timestamptz END,
          CASE WHEN $4 THEN $5::timestamptz WHEN NOT h.on_hold THEN $3 + p.duration_days * interval '1 day' END,
          h.next_plan_id, CASE WHEN h.next_plan_id IS NOT NULL THEN $3 END, i.secret, $3
     FROM plan p
     CROSS JOIN LATERAL (SELECT coalesce($6, p.starts_on_first_use) AS on_hold,
                                CASE WHEN $8 THEN $9::uuid ELSE p.next_plan_id END AS next_plan_id) h
     CROSS JOIN unnest($10::uuid[], $11::text[], $12::text[], $13::bytea[]) AS i (id, name, ref, secret)
    WHERE p.tenant_id = $1 AND p.plan_id = $2 AND p.archived_at IS NULL
   RETURNING subscription_id AS "subscriptionId"`,
);

export interface NewSubscriptionRow {
  subscriptionId: SubscriptionId;
  name: string;
  externalRef: string | null;
  sealedSecret: Buffer;
}

export type Beginning = Pick<
  NewSubscription,
  'planId' | 'expiresAt' | 'onHold' | 'holdDeadline' | 'nextPlanId'
>;

/** Makes them all from one plan. False when there is no such plan on offer. */
export async function insertSubscriptions(
  { actor, client, at }: Acting,
  terms: Beginning,
  rows: readonly NewSubscriptionRow[],
): Promise<boolean> {
  const { planId, expiresAt, onHold, holdDeadline, nextPlanId } = terms;
  const inserted = await run(client, insertRows, [
    ...[actor.tenantId, planId, at, expiresAt !== undefined, expiresAt ?? null, onHold ?? null],
    ...[holdDeadline ?? null, nextPlanId !== undefined, nextPlanId ?? null],
    ...[rows.map((row) => row.subscriptionId), rows.map((row) => row.name)],
    ...[rows.map((row) => row.externalRef), rows.map((row) => row.sealedSecret)],
  ]);
  return inserted.length === rows.length;
}

export const COLUMNS = `s.subscription_id AS "subscriptionId", s.plan_id AS "planId", s.name, s.external_ref AS "externalRef",
  s.admin_state AS "adminState", e.effective_state AS state, e.reason AS "stateReason", e.since AS "stateSince",
  s.limit_bytes AS "limitBytes", s.period, s.engines, s.device_limit AS "deviceLimit", s.on_hold AS "onHold",
  s.hold_deadline AS "holdDeadline", CASE WHEN NOT s.on_hold THEN coalesce(s.activated_at, s.created_at) END AS "startedAt",
  s.duration_days AS "durationDays", s.expires_at AS "expiresAt", s.next_plan_id AS "nextPlanId", s.version, s.created_at AS "createdAt"`;

export const FROM = `FROM subscription s LEFT JOIN subscription_state e
  ON e.tenant_id = s.tenant_id AND e.subscription_id = s.subscription_id`;

const selectOne = statement<Subscription>(
  'subscription.get',
  `SELECT ${COLUMNS} ${FROM} WHERE s.tenant_id = $1 AND s.subscription_id = $2 AND s.deleted_at IS NULL`,
);

/** Throws not_found, also for another tenant's and for a tombstone. */
export async function getSubscription({ actor, client }: Acting, id: SubscriptionId): Promise<Subscription> {
  const [row] = await run(client, selectOne, [actor.tenantId, id]);
  if (row === undefined) throw new AppError('not_found', 'there is no such subscription');
  return row;
}

const lockRow = statement<{ version: number }>(
  'subscription.lock',
  `SELECT version FROM subscription
    WHERE tenant_id = $1 AND subscription_id = $2 AND deleted_at IS NULL FOR NO KEY UPDATE`,
);

/** Locks the row: changes of one subscription follow each other. Throws not_found. */
export async function lockSubscription({ actor, client }: Acting, id: SubscriptionId): Promise<void> {
  const rows = await run(client, lockRow, [actor.tenantId, id]);
  if (rows.length === 0) throw new AppError('not_found', 'there is no such subscription');
}

// An end that is set by hand stands by itself, also when one on hold starts later.
const updateRow = statement(
  'subscription.update',
  `UPDATE subscription SET name = coalesce($3, name), admin_state = coalesce($4, admin_state),
          limit_bytes = CASE WHEN $5 THEN $6::bigint ELSE limit_bytes END,
          expires_at = CASE WHEN $7 THEN $8::timestamptz ELSE expires_at END,
          duration_days = CASE WHEN $7 THEN NULL ELSE duration_days END,
          external_ref = CASE WHEN $9 THEN $10 ELSE external_ref END,
          hold_deadline = CASE WHEN $11 THEN $12::timestamptz ELSE hold_deadline END,
          next_plan_id = CASE WHEN $13 THEN $14::uuid ELSE next_plan_id END,
          next_plan_at = CASE WHEN $13 THEN $15::timestamptz ELSE next_plan_at END, version = version + 1
    WHERE tenant_id = $1 AND subscription_id = $2`,
);

export async function updateSubscription(
  { actor, client, at }: Acting,
  id: SubscriptionId,
  change: ChangedSubscription,
): Promise<void> {
  const { name, adminState, limitBytes, expiresAt, externalRef, holdDeadline, nextPlanId } = change;
  await run(client, updateRow, [
    ...[actor.tenantId, id, name ?? null, adminState ?? null],
    ...[limitBytes !== undefined, limitBytes ?? null, expiresAt !== undefined, expiresAt ?? null],
    ...[externalRef !== undefined, externalRef ?? null, holdDeadline !== undefined, holdDeadline ?? null],
    ...[nextPlanId !== undefined, nextPlanId ?? null, typeof nextPlanId === 'string' ? at : null],
  ]);
}

const buryRow = statement(
  'subscription.bury',
  `UPDATE subscription SET admin_state = 'deleted', deleted_at = $3, version = version + 1
    WHERE tenant_id = $1 AND subscription_id = $2`,
);

export async function burySubscription({ actor, client, at }: Acting, id: SubscriptionId): Promise<void> {
  await run(client, buryRow, [actor.tenantId, id, at]);
}
