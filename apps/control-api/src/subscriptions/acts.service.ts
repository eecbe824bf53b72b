// What is done with one subscription beside editing it. Terms and credentials change here; what concerns periods is asked
// for here and carried out by the scheduler, once. What is so already is left as it is, without a row in the audit log.
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import type { SubscriptionId } from '@penstock/domain/ids';
import { subscriptionChanged } from '../access-change.store.js';
import { appendAudit } from '../audit/audit.store.js';
import { Context } from '../context.js';
import { Database, type Acting } from '../database.js';
import { rotateOwnKeys } from '../devices/device-keys.js';
import type { Actor } from '../http/actor.js';
import { requireVersion } from '../http/entity-tag.js';
import { getPlan } from '../plans/plans.store.js';
import type { Renewal, TopUp } from './acts.schema.js';
import * as store from './acts.store.js';
import { newSecret } from './subscriptions.service.js';
import { getSubscription, lockSubscription, type Subscription } from './subscriptions.store.js';

type IfMatch = string | undefined;

@Injectable()
export class ActsService {
  constructor(
    private readonly context: Context,
    private readonly database: Database,
  ) {}

  list(actor: Actor, id: SubscriptionId): Promise<{ items: store.Act[] }> {
    return this.database.transaction(actor, async (acting) => {
      await getSubscription(acting, id);
      return { items: await store.listActs(acting, id) };
    });
  }

  /** Begins the time of one on hold. */
  activate(actor: Actor, id: SubscriptionId, ifMatch: IfMatch): Promise<Subscription> {
    return this.#act(actor, id, ifMatch, 'activate', async (acting, before) => {
      if (!before.onHold) return false;
      await store.startNow(acting, [id]);
      return true;
    });
  }

  setState(
    actor: Actor,
    id: SubscriptionId,
    ifMatch: IfMatch,
    state: 'active' | 'disabled',
  ): Promise<Subscription> {
    const verb = state === 'active' ? 'enable' : 'disable';
    return this.#act(actor, id, ifMatch, verb, async (acting, before) => {
      if (before.adminState === state) return false;
      await store.setAdminState(acting, [id], state);
      return true;
    });
  }

  /** A new period from now. Throws failed_precondition for one on hold. */
  reset(actor: Actor, id: SubscriptionId, ifMatch: IfMatch): Promise<Subscription> {
    return this.#act(actor, id, ifMatch, 'reset', async (acting, before) => {
      requireStarted(before);
      await store.insertActs(acting, [id], { kind: 'reset' });
      return true;
    });
  }

  /** Another term and a new period. Throws not_found naming planId, failed_precondition for one on hold. */
  renew(actor: Actor, id: SubscriptionId, ifMatch: IfMatch, { planId }: Renewal): Promise<Subscription> {
    return this.#act(actor, id, ifMatch, 'renew', async (acting, before) => {
      requireStarted(before);
      if (planId !== undefined) await getPlan(acting, planId, 'planId');
      await store.renewTerms(acting, [id], planId);
      await store.insertActs(acting, [id], { kind: 'renew', planId: planId ?? before.planId });
      return true;
    });
  }

  /** Throws failed_precondition for an unlimited one. */
  topUp(actor: Actor, id: SubscriptionId, ifMatch: IfMatch, { bytes }: TopUp): Promise<Subscription> {
    return this.#act(actor, id, ifMatch, 'top_up', async (acting, before) => {
      if (before.limitBytes === null) {
        throw new AppError('failed_precondition', 'an unlimited subscription cannot be topped up');
      }
      await store.insertActs(acting, [id], { kind: 'top_up', bytes });
      return { bytes };
    });
  }

  /** New credentials on every node, and new keys for the devices whose keys we made. */
  rotate(actor: Actor, id: SubscriptionId, ifMatch: IfMatch): Promise<Subscription> {
    return this.#act(actor, id, ifMatch, 'rotate', async (acting) => {
      const { DATA_KEY } = this.context.config;
      await store.replaceSecret(acting, id, newSecret(DATA_KEY, actor.tenantId, id));
      return { devices: await rotateOwnKeys(acting, DATA_KEY, id) };
    });
  }

  /** Forgets names and references, also of a tombstone. Throws not_found. */
  erase(actor: Actor, id: SubscriptionId): Promise<void> {
    return this.database.transaction(actor, async (acting) => {
      if (!(await store.eraseNames(acting, id))) {
        throw new AppError('not_found', 'there is no such subscription');
      }
      await appendAudit(acting, { action: 'subscription.erase', entity: 'subscription', entityId: id });
    });
  }

  /** `work` says whether something changed, or what else the audit row should tell of it. */
  #act(
    actor: Actor,
    id: SubscriptionId,
    ifMatch: IfMatch,
    verb: string,
    work: (acting: Acting, before: Subscription) => Promise<boolean | object>,
  ): Promise<Subscription> {
    return this.database.transaction(actor, async (acting) => {
      await lockSubscription(acting, id);
      const before = await getSubscription(acting, id);
      requireVersion(ifMatch, before.version);
      const changed = await work(acting, before);
      if (changed === false) return before;
      await subscriptionChanged(acting, id);
      const after = await getSubscription(acting, id);
      const told = typeof changed === 'object' ? { ...after, ...changed } : after;
      const entry = { action: `subscription.${verb}`, entity: 'subscription', entityId: id };
      await appendAudit(acting, { ...entry, before, after: told });
      return after;
    });
  }
}

function requireStarted(subscription: Subscription): void {
  if (!subscription.onHold) return;
  throw new AppError('failed_precondition', 'this subscription is on hold: it has not started yet');
}
