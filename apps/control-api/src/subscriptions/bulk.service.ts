// Many subscriptions in one transaction of set statements: all or nothing, and one audit row that says how many and, by
// the digest of their ids, which. Measured: bench/bulk-create.ts.
import { createHash } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { newId, type SubscriptionId } from '@penstock/domain/ids';
import { subscriptionsChanged } from '../access-change.store.js';
import { appendAudit } from '../audit/audit.store.js';
import { Context } from '../context.js';
import { Database, type Acting } from '../database.js';
import type { Actor } from '../http/actor.js';
import { getPlan } from '../plans/plans.store.js';
import { requireRoom } from '../tenants/limits.store.js';
import * as acts from './acts.store.js';
import { BULK_MAX, NUMBER, type BulkAct, type NewSubscriptions } from './bulk.schema.js';
import { buryMany, lockMany, type LockedSubscription } from './bulk.store.js';
import { listIds } from './list.store.js';
import { makeSubscriptions, newSecret } from './subscriptions.service.js';

@Injectable()
export class BulkService {
  constructor(
    private readonly context: Context,
    private readonly database: Database,
  ) {}

  /** Throws not_found naming planId or nextPlanId, limit_reached, or invalid_input naming holdDeadline. */
  create(
    actor: Actor,
    request: NewSubscriptions,
  ): Promise<{ count: number; subscriptionIds: SubscriptionId[] }> {
    const { namePattern, first, count, ...terms } = request;
    return this.database.transaction(actor, async (acting) => {
      await requireRoom(acting, 'subscription', count);
      const rows = Array.from({ length: count }, (_, i) => {
        const subscriptionId = newId<SubscriptionId>();
        const sealedSecret = newSecret(this.context.config.DATA_KEY, actor.tenantId, subscriptionId);
        const name = namePattern.replace(NUMBER, () => String(first + i));
        return { subscriptionId, name, externalRef: null, sealedSecret };
      });
      const subscriptionIds = rows.map((row) => row.subscriptionId);
      await makeSubscriptions(acting, terms, rows);
      await subscriptionsChanged(acting, subscriptionIds);
      const what = { ...request, idsSha256: digestOf(subscriptionIds) };
      await audit(acting, 'bulk_create', given(what));
      return { count, subscriptionIds };
    });
  }

  /** Throws not_found naming the first id that is none, invalid_input naming filter, or failed_precondition. */
  act(actor: Actor, request: BulkAct): Promise<{ count: number }> {
    return this.database.transaction(actor, async (acting) => {
      const asked = request.subscriptionIds ?? (await this.#find(acting, request));
      const locked = await lockMany(acting, asked);
      if (request.subscriptionIds !== undefined) requireAll(asked, locked);
      const ids = locked.map((row) => row.subscriptionId);
      if (ids.length > 0) {
        requireFit(request, locked);
        await this.#carryOut(acting, request, ids);
        await subscriptionsChanged(acting, ids);
      }
      const { action, filter, days, bytes, planId } = request;
      const what = { action, filter, days, bytes, planId, count: ids.length, idsSha256: digestOf(ids) };
      await audit(acting, `bulk_${action}`, given(what));
      return { count: ids.length };
    });
  }

  async #find(acting: Acting, { filter }: BulkAct): Promise<SubscriptionId[]> {
    const ids = await listIds(acting, filter ?? {}, BULK_MAX + 1);
    if (ids.length <= BULK_MAX) return ids;
    const message = `filter: it finds more than ${BULK_MAX} subscriptions; narrow it`;
    throw new AppError('invalid_input', message, { field: 'filter' });
  }

  async #carryOut(acting: Acting, request: BulkAct, ids: SubscriptionId[]): Promise<void> {
    const { action, planId, days, bytes } = request;
    switch (action) {
      case 'disable':
        return acts.setAdminState(acting, ids, 'disabled');
      case 'enable':
        return acts.setAdminState(acting, ids, 'active');
      case 'delete':
        return buryMany(acting, ids);
      case 'activate':
        return acts.startNow(acting, ids);
      case 'reset':
        return acts.insertActs(acting, ids, { kind: 'reset' });
      case 'renew':
        if (planId !== undefined) await getPlan(acting, planId, 'planId');
        await acts.renewTerms(acting, ids, planId);
        return acts.insertActs(acting, ids, { kind: 'renew', ...(planId === undefined ? {} : { planId }) });
      case 'extend':
        return acts.extendTerms(acting, ids, days ?? 0);
      case 'top_up':
        return acts.insertActs(acting, ids, { kind: 'top_up', ...(bytes === undefined ? {} : { bytes }) });
      default:
        action satisfies never;
    }
  }
}

function requireAll(asked: readonly SubscriptionId[], locked: readonly LockedSubscription[]): void {
  if (locked.length === asked.length) return;
  const found = new Set(locked.map((row) => row.subscriptionId));
  const field = `subscriptionIds.${asked.findIndex((id) => !found.has(id))}`;
  throw new AppError('not_found', `${field}: there is no such subscription`, { field });
}

/** What one of them cannot have done to it, none has. */
function requireFit({ action }: BulkAct, locked: readonly LockedSubscription[]): void {
  const unfit =
    action === 'reset' || action === 'renew'
      ? { rows: locked.filter((row) => row.onHold), why: 'have not started yet' }
      : { rows: action === 'top_up' ? locked.filter((row) => row.unlimited) : [], why: 'are unlimited' };
  if (unfit.rows.length === 0) return;
  const message = `${unfit.rows.length} of these subscriptions ${unfit.why}; nothing was changed`;
  throw new AppError('failed_precondition', message);
}

/** Without what was left out. */
function given(object: object): object {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));
}

function digestOf(ids: readonly SubscriptionId[]): string {
  return createHash('sha256').update(ids.toSorted().join('\n')).digest('hex');
}

function audit(acting: Acting, verb: string, after: object): Promise<void> {
  const action = `subscription.${verb}`;
  return appendAudit(acting, { action, entity: 'subscription', entityId: null, after });
}
