// Plans: made, changed, archived. Whoever has a subscription keeps the terms he was given; where it is served follows the
// plan's node groups, so a change of those is one access_change of the tenant.
import { Injectable } from '@nestjs/common';
import { newId, type PlanId } from '@penstock/domain/ids';
import { tenantChanged } from '../access-change.store.js';
import { appendAudit } from '../audit/audit.store.js';
import { Database } from '../database.js';
import type { Actor } from '../http/actor.js';
import { requireVersion } from '../http/entity-tag.js';
import { pageOf, type Page, type PageQuery } from '../http/fields.js';
import type { ChangedPlan, NewPlan } from './plans.schema.js';
import * as store from './plans.store.js';
import type { Plan } from './plans.store.js';

@Injectable()
export class PlansService {
  constructor(private readonly database: Database) {}

  /** Throws conflict naming the name, not_found naming nodeGroupIds or nextPlanId. */
  create(actor: Actor, request: NewPlan): Promise<Plan> {
    return this.database.transaction(actor, async (acting) => {
      const planId = newId<PlanId>();
      if (request.nextPlanId !== null) await store.getPlan(acting, request.nextPlanId, 'nextPlanId');
      await store.insertPlan(acting, planId, request);
      await store.setNodeGroups(acting, planId, request.nodeGroupIds);
      const plan = await store.getPlan(acting, planId);
      await appendAudit(acting, { action: 'plan.create', entity: 'plan', entityId: planId, after: plan });
      return plan;
    });
  }

  async list(actor: Actor, query: PageQuery): Promise<Page<Plan>> {
    const rows = await this.database.transaction(actor, (acting) => store.listPlans(acting, query));
    return pageOf(rows, query.limit, (plan) => plan.planId);
  }

  get(actor: Actor, planId: PlanId): Promise<Plan> {
    return this.database.transaction(actor, (acting) => store.getPlan(acting, planId));
  }

  /** Throws not_found, conflict naming the name, or failed_precondition. */
  change(actor: Actor, planId: PlanId, change: ChangedPlan, ifMatch: string | undefined): Promise<Plan> {
    return this.database.transaction(actor, async (acting) => {
      const before = await store.lockPlan(acting, planId);
      requireVersion(ifMatch, before.version);
      const { nextPlanId, nodeGroupIds } = change;
      if (typeof nextPlanId === 'string') await store.getPlan(acting, nextPlanId, 'nextPlanId');
      const given = Object.entries(change).filter(([, value]) => value !== undefined);
      await store.updatePlan(acting, { ...before, ...Object.fromEntries(given) });
      if (nodeGroupIds !== undefined) {
        await store.setNodeGroups(acting, planId, nodeGroupIds);
        await tenantChanged(acting);
      }
      const after = await store.getPlan(acting, planId);
      await appendAudit(acting, { action: 'plan.update', entity: 'plan', entityId: planId, before, after });
      return after;
    });
  }

  /** No longer on offer; its subscriptions go on, also those that it was promised to as the next. Throws not_found. */
  archive(actor: Actor, planId: PlanId, ifMatch: string | undefined): Promise<void> {
    return this.database.transaction(actor, async (acting) => {
      const before = await store.lockPlan(acting, planId);
      requireVersion(ifMatch, before.version);
      await store.archivePlan(acting, planId);
      await appendAudit(acting, { action: 'plan.archive', entity: 'plan', entityId: planId, before });
    });
  }
}
