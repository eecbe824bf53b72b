// Plans: terms on offer, and the node groups they refer to. Archived plans are not shown.
import type { NodeGroupId, PlanId } from '@penstock/domain/ids';
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
  version: number;
  createdAt: Date;
}

const insertRow = statement(
  'plan.insert',
  `INSERT INTO plan (tenant_id, plan_id, name, limit_bytes, period, duration_days, device_limit, engines,
                     offline_policy, created_at)
   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
);

// Joined with the groups that this transaction may see: one that it may not is not put into the plan.
const insertGroups = statement<{ nodeGroupId: NodeGroupId }>(
  'plan.insert_groups',
  `INSERT INTO plan_node_group (tenant_id, plan_id, node_group_id)
   SELECT $1, $2, g.node_group_id FROM node_group g WHERE g.node_group_id = ANY ($3::uuid[])
   RETURNING node_group_id AS "nodeGroupId"`,
);

/** Returns the groups that were found; the caller refuses when some are missing. */
export async function insertPlan(
  { actor, client, at }: Acting,
  id: PlanId,
  plan: NewPlan,
): Promise<NodeGroupId[]> {
  const { name, limitBytes, period, durationDays, deviceLimit, engines, offlinePolicy, nodeGroupIds } = plan;
  await run(client, insertRow, [
    ...[actor.tenantId, id, name, limitBytes, period, durationDays, deviceLimit, engines, offlinePolicy, at],
  ]);
  const groups = await run(client, insertGroups, [actor.tenantId, id, nodeGroupIds]);
  return groups.map((row) => row.nodeGroupId);
}

const selectPage = statement<Plan>(
  'plan.page',
  `SELECT p.plan_id AS "planId", p.name, p.limit_bytes AS "limitBytes", p.period, p.duration_days AS "durationDays",
          p.device_limit AS "deviceLimit", p.engines, p.offline_policy AS "offlinePolicy", p.version,
          p.created_at AS "createdAt",
          ARRAY(SELECT g.node_group_id FROM plan_node_group g WHERE g.tenant_id = p.tenant_id AND g.plan_id = p.plan_id
                 ORDER BY 1) AS "nodeGroupIds"
     FROM plan p
    WHERE p.tenant_id = $1 AND p.archived_at IS NULL AND ($2::uuid IS NULL OR p.plan_id > $2)
    ORDER BY p.plan_id LIMIT $3`,
);

/** One row more than a page holds. */
export function listPlans({ actor, client }: Acting, query: PageQuery): Promise<Plan[]> {
  return run(client, selectPage, [actor.tenantId, query.cursor ?? null, query.limit + 1]);
}

const selectOne = statement<Plan>(
  'plan.get',
  `SELECT p.plan_id AS "planId", p.name, p.limit_bytes AS "limitBytes", p.period, p.duration_days AS "durationDays",
          p.device_limit AS "deviceLimit", p.engines, p.offline_policy AS "offlinePolicy", p.version,
          p.created_at AS "createdAt",
          ARRAY(SELECT g.node_group_id FROM plan_node_group g WHERE g.tenant_id = p.tenant_id AND g.plan_id = p.plan_id
                 ORDER BY 1) AS "nodeGroupIds"
     FROM plan p WHERE p.tenant_id = $1 AND p.plan_id = $2 AND p.archived_at IS NULL`,
);

export async function findPlan({ actor, client }: Acting, id: PlanId): Promise<Plan | null> {
  return (await run(client, selectOne, [actor.tenantId, id]))[0] ?? null;
}
