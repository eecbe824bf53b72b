// Webhooks: a tenant's own servers that are told of events. URL and secret are sealed before they are stored; the secret
// is shown when it is made and never again. Deliveries are the scheduler's.
import { randomBytes } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { newId, type DeliveryId, type WebhookId } from '@penstock/domain/ids';
import { sealSecret } from '@penstock/service/secret-box';
import { appendAudit } from '../audit/audit.store.js';
import { Context } from '../context.js';
import { Database, type Acting } from '../database.js';
import type { Actor } from '../http/actor.js';
import { mayHearOf } from '../events/readable.js';
import { requireVersion } from '../http/entity-tag.js';
import { pageOf, type Page, type PageQuery } from '../http/fields.js';
import * as deliveries from './deliveries.store.js';
import type { ChangedWebhook, DeliveryQuery, NewWebhook } from './webhooks.schema.js';
import * as store from './webhooks.store.js';
import type { Webhook } from './webhooks.store.js';

const WEBHOOKS_MAX = 50;
const SECRET_PREFIX = 'whsec_';
const OLD_SECRET_MS = 24 * 3_600_000;

@Injectable()
export class WebhooksService {
  constructor(
    private readonly context: Context,
    private readonly database: Database,
  ) {}

  /** Throws limit_reached, and forbidden for events that this actor may not hear himself. */
  create(actor: Actor, request: NewWebhook): Promise<Webhook & { secret: string }> {
    requireHearing(actor, request.events);
    return this.database.transaction(actor, async (acting) => {
      if ((await store.countWebhooks(acting)) >= WEBHOOKS_MAX) {
        throw new AppError('limit_reached', `a tenant has at most ${WEBHOOKS_MAX} webhooks`);
      }
      const webhookId = newId<WebhookId>();
      const secret = newSecret();
      const { name, url, events } = request;
      await store.insertWebhook(acting, webhookId, {
        ...{ name, events, ...this.#sealUrl(acting, webhookId, url) },
        secret: this.#sealSecret(acting, webhookId, secret),
      });
      const after = await store.getWebhook(acting, webhookId);
      await audit(acting, 'webhook.create', webhookId, undefined, after);
      return { ...after, secret };
    });
  }

  list(actor: Actor, query: PageQuery): Promise<Page<Webhook>> {
    return this.database.transaction(actor, async (acting) =>
      pageOf(await store.listWebhooks(acting, query), query.limit, (row) => row.webhookId),
    );
  }

  get(actor: Actor, id: WebhookId): Promise<Webhook> {
    return this.database.transaction(actor, (acting) => store.getWebhook(acting, id));
  }

  /** Throws not_found, failed_precondition, and forbidden as create does. */
  change(actor: Actor, id: WebhookId, change: ChangedWebhook, ifMatch: string | undefined): Promise<Webhook> {
    return this.database.transaction(actor, async (acting) => {
      await store.lockWebhook(acting, id);
      const before = await store.getWebhook(acting, id);
      requireVersion(ifMatch, before.version);
      // Another URL makes another server hear what is told.
      if (change.events !== undefined || change.url !== undefined) {
        requireHearing(actor, change.events ?? before.events);
      }
      const sealed = change.url === undefined ? null : this.#sealUrl(acting, id, change.url);
      await store.updateWebhook(acting, id, change, sealed);
      const after = await store.getWebhook(acting, id);
      await audit(acting, 'webhook.update', id, before, after);
      return after;
    });
  }

  /** A new secret; the one before signs too for a day. */
  rotate(actor: Actor, id: WebhookId): Promise<Webhook & { secret: string }> {
    return this.database.transaction(actor, async (acting) => {
      await store.lockWebhook(acting, id);
      const before = await store.getWebhook(acting, id);
      const secret = newSecret();
      const until = new Date(acting.at.getTime() + OLD_SECRET_MS);
      await store.rotateSecret(acting, id, this.#sealSecret(acting, id, secret), until);
      const after = await store.getWebhook(acting, id);
      await audit(acting, 'webhook.rotate', id, before, after);
      return { ...after, secret };
    });
  }

  delete(actor: Actor, id: WebhookId, ifMatch: string | undefined): Promise<void> {
    return this.database.transaction(actor, async (acting) => {
      await store.lockWebhook(acting, id);
      const before = await store.getWebhook(acting, id);
      requireVersion(ifMatch, before.version);
      await store.deleteWebhook(acting, id);
      await audit(acting, 'webhook.delete', id, before, undefined);
    });
  }

  ping(actor: Actor, id: WebhookId): Promise<{ deliveryId: DeliveryId }> {
    return this.database.transaction(actor, async (acting) => {
      await this.#lockEnabled(acting, id);
      const deliveryId = await deliveries.insertPingDelivery(acting, id);
      await audit(acting, 'webhook.ping', id, undefined, { deliveryId });
      return { deliveryId };
    });
  }

  listDeliveries(actor: Actor, id: WebhookId, query: DeliveryQuery): Promise<Page<deliveries.Delivery>> {
    return this.database.transaction(actor, async (acting) => {
      await store.getWebhook(acting, id);
      const rows = await deliveries.listDeliveries(acting, id, query);
      return pageOf(rows, query.limit, (row) => row.deliveryId);
    });
  }

  /** Throws not_found or failed_precondition. */
  deliverAgain(actor: Actor, id: WebhookId, deliveryId: DeliveryId): Promise<void> {
    return this.database.transaction(actor, async (acting) => {
      await this.#lockEnabled(acting, id);
      if (!(await deliveries.deliverAgain(acting, id, deliveryId))) {
        throw new AppError('not_found', 'there is no such delivery that is over');
      }
      await audit(acting, 'webhook.deliver', id, undefined, { deliveryId });
    });
  }

  /** Nothing is put where nobody fetches it. */
  async #lockEnabled(acting: Acting, id: WebhookId): Promise<void> {
    await store.lockWebhook(acting, id);
    const { enabled } = await store.getWebhook(acting, id);
    if (!enabled) throw new AppError('failed_precondition', 'this webhook is switched off');
  }

  #sealUrl({ actor }: Acting, id: WebhookId, url: string): store.SealedUrl {
    const place = { table: 'webhook_url', tenant: actor.tenantId, row: id };
    return {
      url: sealSecret(this.context.config.DATA_KEY, Buffer.from(url), place),
      origin: new URL(url).origin,
    };
  }

  #sealSecret({ actor }: Acting, id: WebhookId, secret: string): Buffer {
    const place = { table: 'webhook', tenant: actor.tenantId, row: id };
    return sealSecret(this.context.config.DATA_KEY, Buffer.from(secret), place);
  }
}

/** Nobody has a server told what he may not hear. */
function requireHearing(actor: Actor, events: readonly string[]): void {
  const refused = events.find((pattern) => !mayHearOf(actor, pattern));
  if (refused !== undefined) {
    throw new AppError('forbidden', `events: you may not hear of ${refused}`, { field: 'events' });
  }
}

function newSecret(): string {
  return SECRET_PREFIX + randomBytes(32).toString('base64url');
}

function audit(
  acting: Acting,
  action: string,
  id: WebhookId,
  before?: object,
  after?: object,
): Promise<void> {
  return appendAudit(acting, {
    ...{ action, entity: 'webhook', entityId: id },
    ...(before === undefined ? {} : { before }),
    ...(after === undefined ? {} : { after }),
  });
}
