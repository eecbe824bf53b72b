// Subscriptions: made from a plan, changed, deleted into a tombstone. Each change that may move access leaves an
// access_change in its own transaction; a subscription's secret is made here, sealed, and never answered.
import { randomBytes } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { newId, type SubscriptionId } from '@penstock/domain/ids';
import { sealSecret, type SecretPlace } from '@penstock/service/secret-box';
import { subscriptionChanged } from '../access-change.store.js';
import { appendAudit } from '../audit/audit.store.js';
import { Context } from '../context.js';
import { Database, type Acting } from '../database.js';
import { releaseKeys } from '../devices/devices.store.js';
import type { Actor } from '../http/actor.js';
import { requireVersion } from '../http/entity-tag.js';
import type { Page } from '../http/fields.js';
import { getPlan } from '../plans/plans.store.js';
import { requireRoom } from '../tenants/limits.store.js';
import { listSubscriptions } from './list.store.js';
import type { ChangedSubscription, NewSubscription, SubscriptionQuery } from './subscriptions.schema.js';
import * as store from './subscriptions.store.js';
import type { Subscription } from './subscriptions.store.js';

const SECRET_BYTES = 32;

/** Where a subscription's secret is bound to. */
export function secretPlace(tenantId: string, subscriptionId: string): SecretPlace {
  return { table: 'subscription', tenant: tenantId, row: subscriptionId };
}

/** A new secret from which credentials are derived, sealed for its row. */
export function newSecret(dataKey: Buffer, tenantId: string, subscriptionId: string): Buffer {
  return sealSecret(dataKey, randomBytes(SECRET_BYTES), secretPlace(tenantId, subscriptionId));
}

/** Inserts them with the plan's terms. Throws not_found naming planId or nextPlanId, or invalid_input. */
export async function makeSubscriptions(
  acting: Acting,
  terms: store.Beginning,
  rows: readonly store.NewSubscriptionRow[],
): Promise<void> {
  const plan = await getPlan(acting, terms.planId, 'planId');
  if (typeof terms.nextPlanId === 'string') await getPlan(acting, terms.nextPlanId, 'nextPlanId');
  const onHold = terms.onHold ?? plan.startsOnFirstUse;
  if (terms.holdDeadline !== undefined && !onHold) throw notOnHold();
  if (await store.insertSubscriptions(acting, { ...terms, onHold }, rows)) return;
  throw new AppError('not_found', 'planId: there is no such plan', { field: 'planId' });
}

function notOnHold(): AppError {
  return new AppError('invalid_input', 'holdDeadline: only one on hold has a deadline', {
    field: 'holdDeadline',
  });
}

@Injectable()
export class SubscriptionsService {
  constructor(
    private readonly context: Context,
    private readonly database: Database,
  ) {}

  /** Throws not_found naming planId or nextPlanId, limit_reached, or invalid_input naming holdDeadline. */
  create(actor: Actor, request: NewSubscription): Promise<Subscription> {
    return this.database.transaction(actor, async (acting) => {
      await requireRoom(acting, 'subscription', 1);
      const subscriptionId = newId<SubscriptionId>();
      const sealedSecret = newSecret(this.context.config.DATA_KEY, actor.tenantId, subscriptionId);
      await makeSubscriptions(acting, request, [{ ...request, subscriptionId, sealedSecret }]);
      await subscriptionChanged(acting, subscriptionId);
      const after = await store.getSubscription(acting, subscriptionId);
      await this.#audit(acting, 'subscription.create', subscriptionId, undefined, after);
      return after;
    });
  }

  /** Throws invalid_input naming the cursor. */
  list(actor: Actor, query: SubscriptionQuery): Promise<Page<Subscription>> {
    return this.database.read(actor, (acting) => listSubscriptions(acting, query));
  }

  get(actor: Actor, id: SubscriptionId): Promise<Subscription> {
    return this.database.read(actor, (acting) => store.getSubscription(acting, id));
  }

  /** Throws not_found, or failed_precondition when `ifMatch` is not the version that stands. */
  change(
    actor: Actor,
    id: SubscriptionId,
    change: ChangedSubscription,
    ifMatch: string | undefined,
  ): Promise<Subscription> {
    return this.database.transaction(actor, async (acting) => {
      await store.lockSubscription(acting, id);
      const before = await store.getSubscription(acting, id);
      requireVersion(ifMatch, before.version);
      const { nextPlanId, holdDeadline } = change;
      if (typeof nextPlanId === 'string') await getPlan(acting, nextPlanId, 'nextPlanId');
      if (holdDeadline !== undefined && !before.onHold) throw notOnHold();
      await store.updateSubscription(acting, id, change);
      await subscriptionChanged(acting, id);
      const after = await store.getSubscription(acting, id);
      await this.#audit(acting, 'subscription.update', id, before, after);
      return after;
    });
  }

  delete(actor: Actor, id: SubscriptionId, ifMatch: string | undefined): Promise<void> {
    return this.database.transaction(actor, async (acting) => {
      await store.lockSubscription(acting, id);
      const before = await store.getSubscription(acting, id);
      requireVersion(ifMatch, before.version);
      await store.burySubscription(acting, id);
      await releaseKeys(acting, id, null);
      await subscriptionChanged(acting, id);
      await this.#audit(acting, 'subscription.delete', id, before, undefined);
    });
  }

  #audit(acting: Acting, action: string, id: SubscriptionId, before?: object, after?: object): Promise<void> {
    return appendAudit(acting, {
      ...{ action, entity: 'subscription', entityId: id },
      ...(before === undefined ? {} : { before }),
      ...(after === undefined ? {} : { after }),
    });
  }
}
