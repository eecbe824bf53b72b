// What is asked of subscriptions. A row here and its access_change stand or fall together; the scheduler carries it out and
// marks it. Everything works on sets: one subscription is a set of one.
import { newId, type PlanId, type SubscriptionId } from '@penstock/domain/ids';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';

export type ActKind = 'reset' | 'renew' | 'top_up';

export interface Act {
  actId: string;
  kind: ActKind | 'start' | 'next_plan';
  bytes: bigint | null;
  planId: PlanId | null;
  requestedAt: Date;
  doneAt: Date | null;
}

/** The newest that are shown. */
const ACTS_MAX = 200;

const insertRows = statement(
  'subscription_act.insert',
  `INSERT INTO subscription_act (tenant_id, act_id, subscription_id, kind, bytes, plan_id)
   SELECT $1, a, s, $2, $3, $4 FROM unnest($5::uuid[], $6::uuid[]) AS i (a, s)`,
);

export async function insertActs(
  { actor, client }: Acting,
  ids: readonly SubscriptionId[],
  act: { kind: ActKind; bytes?: bigint; planId?: PlanId },
): Promise<void> {
  const { kind, bytes, planId } = act;
  await run(client, insertRows, [
    actor.tenantId,
    kind,
    bytes ?? null,
    planId ?? null,
    ids.map(() => newId()),
    ids,
  ]);
}

const selectRows = statement<Act>(
  'subscription_act.list',
  `SELECT act_id AS "actId", kind, bytes, plan_id AS "planId", requested_at AS "requestedAt", done_at AS "doneAt"
     FROM subscription_act WHERE tenant_id = $1 AND subscription_id = $2
    ORDER BY requested_at DESC, act_id DESC LIMIT $3`,
);

/** The newest first. */
export function listActs({ actor, client }: Acting, id: SubscriptionId): Promise<Act[]> {
  return run(client, selectRows, [actor.tenantId, id, ACTS_MAX]);
}

const startRows = statement(
  'subscription.start',
  `WITH started AS (
     UPDATE subscription SET on_hold = false, hold_deadline = NULL, activated_at = $3::timestamptz,
            expires_at = coalesce(expires_at, $3::timestamptz + duration_days * interval '1 day'), version = version + 1
      WHERE tenant_id = $1 AND subscription_id = ANY ($2::uuid[]) AND on_hold
      RETURNING subscription_id
   )
   INSERT INTO subscription_act (tenant_id, act_id, subscription_id, kind, requested_at, done_at)
   SELECT $1, gen_random_uuid(), subscription_id, 'start', $3::timestamptz, $3::timestamptz FROM started`,
);

/** Begins the time of those on hold. */
export async function startNow({ actor, client, at }: Acting, ids: readonly SubscriptionId[]): Promise<void> {
  await run(client, startRows, [actor.tenantId, ids, at]);
}

// Another term of the plan (its own, or $4): paid days that are left are kept. Another plan brings its own next one.
const renewRows = statement<{ subscriptionId: SubscriptionId }>(
  'subscription.renew',
  `UPDATE subscription s SET plan_id = p.plan_id, limit_bytes = p.limit_bytes, period = p.period, engines = p.engines,
          device_limit = p.device_limit, duration_days = p.duration_days,
          expires_at = greatest(s.expires_at, $3::timestamptz) + p.duration_days * interval '1 day',
          next_plan_id = CASE WHEN $4::uuid IS NULL THEN s.next_plan_id ELSE p.next_plan_id END,
          next_plan_at = CASE WHEN $4::uuid IS NULL THEN s.next_plan_at WHEN p.next_plan_id IS NOT NULL THEN $3::timestamptz END,
          version = s.version + 1
     FROM plan p
    WHERE s.tenant_id = $1 AND s.subscription_id = ANY ($2::uuid[])
      AND p.tenant_id = $1 AND p.plan_id = coalesce($4::uuid, s.plan_id)
   RETURNING s.subscription_id AS "subscriptionId"`,
);

/** `planId` undefined: each the plan that it has. */
export async function renewTerms(
  { actor, client, at }: Acting,
  ids: readonly SubscriptionId[],
  planId: PlanId | undefined,
): Promise<void> {
  await run(client, renewRows, [actor.tenantId, ids, at, planId ?? null]);
}

const setState = statement(
  'subscription.set_admin_state',
  `UPDATE subscription SET admin_state = $3, version = version + 1
    WHERE tenant_id = $1 AND subscription_id = ANY ($2::uuid[]) AND admin_state <> $3`,
);

export async function setAdminState(
  { actor, client }: Acting,
  ids: readonly SubscriptionId[],
  state: 'active' | 'disabled',
): Promise<void> {
  await run(client, setState, [actor.tenantId, ids, state]);
}

// One that is over is given days from now; one on hold a longer term; one without an end has none to move.
const extendRows = statement(
  'subscription.extend',
  `UPDATE subscription
      SET expires_at = greatest(expires_at, $3::timestamptz) + $4::integer * interval '1 day',
          duration_days = CASE WHEN on_hold AND expires_at IS NULL THEN least(duration_days + $4::integer, 36500)
                               ELSE duration_days END,
          version = version + 1
    WHERE tenant_id = $1 AND subscription_id = ANY ($2::uuid[])
      AND (expires_at IS NOT NULL OR (on_hold AND duration_days IS NOT NULL))`,
);

export async function extendTerms(
  { actor, client, at }: Acting,
  ids: readonly SubscriptionId[],
  days: number,
): Promise<void> {
  await run(client, extendRows, [actor.tenantId, ids, at, days]);
}

const setSecret = statement(
  'subscription.set_secret',
  `UPDATE subscription SET secret = $3, version = version + 1 WHERE tenant_id = $1 AND subscription_id = $2`,
);

export async function replaceSecret(
  { actor, client }: Acting,
  id: SubscriptionId,
  sealed: Buffer,
): Promise<void> {
  await run(client, setSecret, [actor.tenantId, id, sealed]);
}

// Also of a tombstone. What was sold, when, and what was used stays: none of it says whose it was.
const eraseRow = statement<{ wasErased: boolean }>(
  'subscription.erase',
  `UPDATE subscription s SET name = 'erased', external_ref = NULL, erased_at = coalesce(s.erased_at, $3),
          version = s.version + 1
     FROM (SELECT erased_at FROM subscription WHERE tenant_id = $1 AND subscription_id = $2 FOR NO KEY UPDATE) old
    WHERE s.tenant_id = $1 AND s.subscription_id = $2
   RETURNING old.erased_at IS NOT NULL AS "wasErased"`,
);
const eraseDevices = statement(
  'device.erase',
  `UPDATE device SET name = 'erased' WHERE tenant_id = $1 AND subscription_id = $2`,
);

/** Forgets names and references. False when there never was such a subscription. */
export async function eraseNames({ actor, client, at }: Acting, id: SubscriptionId): Promise<boolean> {
  const rows = await run(client, eraseRow, [actor.tenantId, id, at]);
  if (rows.length === 0) return false;
  await run(client, eraseDevices, [actor.tenantId, id]);
  return true;
}
