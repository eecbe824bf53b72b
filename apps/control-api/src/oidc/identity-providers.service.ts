// Who else may say who somebody is. A tenant's providers vouch for that tenant only, the platform's for everybody.
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { newId } from '@penstock/domain/ids';
import { sealSecret, type SecretPlace } from '@penstock/service/secret-box';
import { appendAudit } from '../audit/audit.store.js';
import { Context } from '../context.js';
import { Database } from '../database.js';
import type { Actor } from '../http/actor.js';
import { requireVersion } from '../http/entity-tag.js';
import { pageOf, type Page, type PageQuery } from '../http/fields.js';
import type { ChangedIdentityProvider, NewIdentityProvider } from './identity-providers.schema.js';
import * as store from './identity-providers.store.js';
import { mayBeIssuer } from './provider-fetch.js';

const PROVIDERS_MAX = 20;

@Injectable()
export class IdentityProvidersService {
  constructor(
    private readonly context: Context,
    private readonly database: Database,
  ) {}

  /** Throws invalid_input or limit_reached. */
  create(actor: Actor, body: NewIdentityProvider): Promise<store.IdentityProvider> {
    this.#requireIssuer(body.issuer);
    return this.database.transaction(actor, async (acting) => {
      if ((await store.countProviders(acting)) >= PROVIDERS_MAX) {
        throw new AppError('limit_reached', `a tenant has at most ${PROVIDERS_MAX} identity providers`);
      }
      const { clientSecret, ...shown } = body;
      const identityProviderId: string = newId();
      const provider = { ...shown, identityProviderId, version: 1, createdAt: acting.at };
      await store.insertProvider(acting, provider, this.#seal(actor, identityProviderId, clientSecret));
      await appendAudit(acting, {
        ...{ action: 'identity_provider.create', entity: 'identity_provider', entityId: identityProviderId },
        after: shown,
      });
      return provider;
    });
  }

  async list(actor: Actor, query: PageQuery): Promise<Page<store.IdentityProvider>> {
    const rows = await this.database.transaction(actor, (acting) => store.listProviders(acting, query));
    return pageOf(rows, query.limit, (provider) => provider.identityProviderId);
  }

  async get(actor: Actor, id: string): Promise<store.IdentityProvider> {
    return found(await this.database.transaction(actor, (acting) => store.findProvider(acting, id)));
  }

  /** Throws not_found, failed_precondition or invalid_input. Links hold for the issuer that they were made with. */
  change(
    actor: Actor,
    id: string,
    body: ChangedIdentityProvider,
    ifMatch: string | undefined,
  ): Promise<store.IdentityProvider> {
    if (body.issuer !== undefined) this.#requireIssuer(body.issuer);
    return this.database.transaction(actor, async (acting) => {
      const before = found(await store.lockProvider(acting, id));
      requireVersion(ifMatch, before.version);
      const { name, issuer, clientId, enabled } = before;
      const after = {
        ...before,
        ...{ name: body.name ?? name, issuer: body.issuer ?? issuer },
        ...{ clientId: body.clientId ?? clientId, enabled: body.enabled ?? enabled },
        version: before.version + 1,
      };
      const { clientSecret } = body;
      const sealed = clientSecret === undefined ? null : this.#seal(actor, id, clientSecret);
      await store.updateProvider(acting, after, sealed);
      await appendAudit(acting, {
        ...{ action: 'identity_provider.update', entity: 'identity_provider', entityId: id },
        before: { name, issuer, clientId, enabled },
        after: {
          ...{ name: after.name, issuer: after.issuer, clientId: after.clientId, enabled: after.enabled },
          secretChanged: sealed !== null,
        },
      });
      return after;
    });
  }

  /** Nobody signs in by it any more; sessions that it opened go on. Throws not_found or failed_precondition. */
  delete(actor: Actor, id: string, ifMatch: string | undefined): Promise<void> {
    return this.database.transaction(actor, async (acting) => {
      const { name, issuer, version } = found(await store.lockProvider(acting, id));
      requireVersion(ifMatch, version);
      await store.deleteProvider(acting, id);
      await appendAudit(acting, {
        ...{ action: 'identity_provider.delete', entity: 'identity_provider', entityId: id },
        before: { name, issuer },
      });
    });
  }

  #seal(actor: Actor, id: string, secret: string): Buffer {
    return sealSecret(this.context.config.DATA_KEY, Buffer.from(secret), placeOfSecret(actor.tenantId, id));
  }

  #requireIssuer(issuer: string): void {
    if (mayBeIssuer(new URL(issuer), this.context.config.NODE_ENV)) return;
    throw new AppError('invalid_input', 'issuer: must be an https address', { field: 'issuer' });
  }
}

export function placeOfSecret(tenantId: string, id: string): SecretPlace {
  return { table: 'identity_provider', tenant: tenantId, row: id };
}

function found(provider: store.IdentityProvider | null): store.IdentityProvider {
  if (provider === null) throw new AppError('not_found', 'there is no such identity provider');
  return provider;
}
