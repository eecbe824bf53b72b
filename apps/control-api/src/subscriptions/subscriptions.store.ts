// Subscriptions: terms copied from the plan, the sealed secret, and what the scheduler says of them. A deleted one is
// a tombstone: it is not found here, but its row stays for the usage that still arrives.
import { AppError } from '@penstock/domain/errors';
import type { PlanId, SubscriptionId } from '@penstock/domain/ids';
import type { EffectiveState, Engine, MeteringPeriod } from '@penstock/domain/terms';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';
import type { ChangedSubscription, SubscriptionQuery } from './subscriptions.schema.js';

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
  expiresAt: Date | null;
  version: number;
  createdAt: Date;
}

// The plan is read and copied by one statement, so its terms are those of one moment.
const insertRow = statement<{ subscriptionId: SubscriptionId }>(
  'subscription.insert',
  `INSERT INTO subscription (tenant_id, subscription_id, plan_id, name, external_ref, limit_bytes, period, engines,
                             device_limit, expires_at, secret, created_at)
   SELECT p.tenant_id, $2, p.plan_id, $4, $5, p.limit_bytes, p.period, p.engines, p.device_limit,
          CASE WHEN $6 THEN $7::timestamptz ELSE $9::timestamptz + p.duration_days * interval '1 day' END, $8, $9
     FROM plan p WHERE p.tenant_id = $1 AND p.plan_id = $3 AND p.archived_at IS NULL
   RETURNING subscription_id AS "subscriptionId"`,
);

export interface NewSubscriptionRow {
  subscriptionId: SubscriptionId;
  planId: PlanId;
  name: string;
  externalRef: string | null;
  /** undefined: the plan's duration from now. */
  expiresAt?: Date | null | undefined;
  sealedSecret: Buffer;
}

/** False when there is no such plan. */
export async function insertSubscription(
  { actor, client, at }: Acting,
  row: NewSubscriptionRow,
): Promise<boolean> {
  const { subscriptionId, planId, name, externalRef, expiresAt, sealedSecret } = row;
  const inserted = await run(client, insertRow, [
    ...[actor.tenantId, subscriptionId, planId, name, externalRef],
    ...[expiresAt !== undefined, expiresAt ?? null, sealedSecret, at],
  ]);
  return inserted.length === 1;
}

const COLUMNS = `s.subscription_id AS "subscriptionId", s.plan_id AS "planId", s.name, s.external_ref AS "externalRef",
  s.admin_state AS "adminState", e.effective_state AS state, e.reason AS "stateReason", e.since AS "stateSince",
  s.limit_bytes AS "limitBytes", s.period, s.engines, s.device_limit AS "deviceLimit", s.expires_at AS "expiresAt",
  s.version, s.created_at AS "createdAt"`;

const FROM = `FROM subscription s LEFT JOIN subscription_state e
  ON e.tenant_id = s.tenant_id AND e.subscription_id = s.subscription_id`;

const selectPage = statement<Subscription>(
  'subscription.page',
  `SELECT ${COLUMNS} ${FROM}
    WHERE s.tenant_id = $1 AND s.deleted_at IS NULL AND ($2::uuid IS NULL OR s.subscription_id > $2)
      AND ($3::uuid IS NULL OR s.plan_id = $3) AND ($4::text IS NULL OR s.admin_state = $4)
      AND ($5::text IS NULL OR e.effective_state = $5)
    ORDER BY s.subscription_id LIMIT $6`,
);

/** One row more than a page holds. */
export function listSubscriptions(
  { actor, client }: Acting,
  query: SubscriptionQuery,
): Promise<Subscription[]> {
  const { cursor, planId, adminState, state, limit } = query;
  return run(client, selectPage, [
    ...[actor.tenantId, cursor ?? null, planId ?? null, adminState ?? null, state ?? null, limit + 1],
  ]);
}

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

const updateRow = statement(
  'subscription.update',
  `UPDATE subscription SET name = coalesce($3, name), admin_state = coalesce($4, admin_state),
          limit_bytes = CASE WHEN $5 THEN $6::bigint ELSE limit_bytes END,
          expires_at = CASE WHEN $7 THEN $8::timestamptz ELSE expires_at END, version = version + 1
    WHERE tenant_id = $1 AND subscription_id = $2`,
);

export async function updateSubscription(
  { actor, client }: Acting,
  id: SubscriptionId,
  change: ChangedSubscription,
): Promise<void> {
  const { name, adminState, limitBytes, expiresAt } = change;
  await run(client, updateRow, [
    ...[actor.tenantId, id, name ?? null, adminState ?? null],
    ...[limitBytes !== undefined, limitBytes ?? null, expiresAt !== undefined, expiresAt ?? null],
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
