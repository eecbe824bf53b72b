// Plans: terms on offer, and the node groups they refer to. Archived plans are not shown.
import { AppError } from '@penstock/domain/errors';
import type { NodeGroupId, PlanId } from '@penstock/domain/ids';
import { nameKey } from '@penstock/domain/name-key';
import type { Engine, MeteringPeriod } from '@penstock/domain/terms';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';
import type { PageQuery } from '../http/fields.js';
import type { NewPlan } from './plans.schema.js';

export interface Plan {
  planId: PlanId;
  name: string;
  limitBytes: bigint | null;
  period: MeteringPeriod;
  durationDays: number | null;
  deviceLimit: number;
  engines: Engine[];
  offlinePolicy: 'deny' | 'grace';
  nodeGroupIds: NodeGroupId[];
  startsOnFirstUse: boolean;
  nextPlanId: PlanId | null;
  version: number;
  createdAt: Date;
}

const insertRow = statement(
  'plan.insert',
  `INSERT INTO plan (tenant_id, plan_id, name, name_key, limit_bytes, period, duration_days, device_limit, engines,
                     offline_policy, starts_on_first_use, next_plan_id, created_at)
   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
);
const updateRow = statement(
  'plan.update',
  `UPDATE plan SET name = $3, name_key = $4, limit_bytes = $5, period = $6, duration_days = $7, device_limit = $8,
          engines = $9, offline_policy = $10, starts_on_first_use = $11, next_plan_id = $12, version = version + 1
    WHERE tenant_id = $1 AND plan_id = $2`,
);

function terms(plan: Omit<NewPlan, 'nodeGroupIds'>): unknown[] {
  const { name, limitBytes, period, durationDays, deviceLimit, engines, offlinePolicy } = plan;
  return [
    ...[name, nameKey(name), limitBytes, period, durationDays, deviceLimit, engines, offlinePolicy],
    ...[plan.startsOnFirstUse, plan.nextPlanId],
  ];
}

/** Throws conflict naming the name. */
export async function insertPlan({ actor, client, at }: Acting, id: PlanId, plan: NewPlan): Promise<void> {
  await namingTheName(run(client, insertRow, [actor.tenantId, id, ...terms(plan), at]));
}

/** Throws conflict naming the name. */
export async function updatePlan({ actor, client }: Acting, plan: Plan): Promise<void> {
  await namingTheName(run(client, updateRow, [actor.tenantId, plan.planId, ...terms(plan)]));
}

/** The unique index is the rule: of two who come at once one is refused. */
async function namingTheName<T>(write: Promise<T>): Promise<T> {
  return write.catch((error: unknown) => {
    if (!(error instanceof AppError) || error.code !== 'conflict') throw error;
    throw new AppError('conflict', 'name: another plan has this name', { field: 'name', cause: error });
  });
}

const deleteGroups = statement(
  'plan.delete_groups',
  'DELETE FROM plan_node_group WHERE tenant_id = $1 AND plan_id = $2',
);
// Joined with the groups that this transaction may see: one that it may not is not put into the plan.
const insertGroups = statement<{ nodeGroupId: NodeGroupId }>(
  'plan.insert_groups',
  `INSERT INTO plan_node_group (tenant_id, plan_id, node_group_id)
   SELECT $1, $2, g.node_group_id FROM node_group g WHERE g.node_group_id = ANY ($3::uuid[])
   RETURNING node_group_id AS "nodeGroupId"`,
);

/** Throws not_found naming nodeGroupIds. */
export async function setNodeGroups(
  { actor, client }: Acting,
  id: PlanId,
  nodeGroupIds: readonly NodeGroupId[],
): Promise<void> {
  await run(client, deleteGroups, [actor.tenantId, id]);
  const found = await run(client, insertGroups, [actor.tenantId, id, nodeGroupIds]);
  if (found.length === nodeGroupIds.length) return;
  throw new AppError('not_found', 'nodeGroupIds: there is no such node group', { field: 'nodeGroupIds' });
}

const COLUMNS = `p.plan_id AS "planId", p.name, p.limit_bytes AS "limitBytes", p.period,
  p.duration_days AS "durationDays", p.device_limit AS "deviceLimit", p.engines, p.offline_policy AS "offlinePolicy",
  p.starts_on_first_use AS "startsOnFirstUse", p.next_plan_id AS "nextPlanId", p.version, p.created_at AS "createdAt",
  ARRAY(SELECT g.node_group_id FROM plan_node_group g WHERE g.tenant_id = p.tenant_id AND g.plan_id = p.plan_id
         ORDER BY 1) AS "nodeGroupIds"`;

const selectPage = statement<Plan>(
  'plan.page',
  `SELECT ${COLUMNS} FROM plan p
    WHERE p.tenant_id = $1 AND p.archived_at IS NULL AND ($2::uuid IS NULL OR p.plan_id > $2)
    ORDER BY p.plan_id LIMIT $3`,
);

/** One row more than a page holds. */
export function listPlans({ actor, client }: Acting, query: PageQuery): Promise<Plan[]> {
  return run(client, selectPage, [actor.tenantId, query.cursor ?? null, query.limit + 1]);
}

const selectOne = statement<Plan>(
  'plan.get',
  `SELECT ${COLUMNS} FROM plan p WHERE p.tenant_id = $1 AND p.plan_id = $2 AND p.archived_at IS NULL`,
);

/** null when there is none on offer. */
export async function findPlan({ actor, client }: Acting, id: PlanId): Promise<Plan | null> {
  return (await run(client, selectOne, [actor.tenantId, id]))[0] ?? null;
}

/** Throws not_found, also for an archived one; naming `field` where the plan is a detail of the request. */
export async function getPlan(acting: Acting, id: PlanId, field?: string): Promise<Plan> {
  const plan = await findPlan(acting, id);
  if (plan !== null) return plan;
  if (field === undefined) throw new AppError('not_found', 'there is no such plan');
  throw new AppError('not_found', `${field}: there is no such plan`, { field });
}

const lockRow = statement(
  'plan.lock',
  'SELECT FROM plan WHERE tenant_id = $1 AND plan_id = $2 AND archived_at IS NULL FOR NO KEY UPDATE',
);

/** Locks it: changes of one plan follow each other. Throws not_found. */
export async function lockPlan(acting: Acting, id: PlanId): Promise<Plan> {
  await run(acting.client, lockRow, [acting.actor.tenantId, id]);
  return getPlan(acting, id);
}

const archiveRow = statement(
  'plan.archive',
  'UPDATE plan SET archived_at = $3, version = version + 1 WHERE tenant_id = $1 AND plan_id = $2',
);

export async function archivePlan({ actor, client, at }: Acting, id: PlanId): Promise<void> {
  await run(client, archiveRow, [actor.tenantId, id, at]);
}
