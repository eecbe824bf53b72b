// First start and first owner. Invariants: there is one platform tenant; the one-time link makes exactly one owner,
// whoever races; without the link's secret there is nothing to be found here (404).
import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { newId, type AccountId, type TenantId } from '@penstock/domain/ids';
import { withTransaction } from '@penstock/db/transaction';
import { appendAudit } from '../audit/audit.store.js';
import type { Place } from '../auth/auth.service.js';
import { Passwords } from '../auth/passwords.js';
import { secretHash } from '../auth/refresh-token.js';
import { Context } from '../context.js';
import { Database } from '../database.js';
import type { Actor, Origin } from '../http/actor.js';
import { Limiter } from '../limits/limiter.js';
import type { Setup } from './setup.schema.js';
import * as store from './setup.store.js';

const PLATFORM_NAME = 'Platform';

@Injectable()
export class SetupService {
  constructor(
    private readonly context: Context,
    private readonly database: Database,
    private readonly passwords: Passwords,
    private readonly limiter: Limiter,
  ) {}

  /** Makes the platform tenant at the very first start and keeps the hash of the set-up secret while it is needed. */
  async prepare(): Promise<TenantId> {
    const { clock, pool, config } = this.context;
    const fresh = newId<TenantId>();
    const tenantId = await withTransaction(
      pool,
      async (client) => {
        await store.lockFirstStart(client);
        const known = await store.findPlatform(client);
        if (known !== null) return known;
        await store.insertPlatformRows(client, fresh, PLATFORM_NAME);
        const at = new Date(clock.now());
        const entry = {
          action: 'tenant.create',
          entity: 'tenant',
          entityId: fresh,
          after: { name: PLATFORM_NAME },
        };
        await appendAudit({ client, at, actor: productActor(fresh) }, entry);
        return fresh;
      },
      { tenantId: fresh },
    );
    const token = config.SETUP_TOKEN;
    if (token !== undefined) {
      await this.database.transaction(productActor(tenantId), async ({ client, at }) => {
        if (!(await store.platformHasOwner(client)))
          await store.insertSetupLink(client, secretHash(token), at);
      });
    }
    return tenantId;
  }

  async needed(): Promise<boolean> {
    const tenantId = await this.#platform();
    return this.database.transaction(
      productActor(tenantId),
      async ({ client }) => !(await store.platformHasOwner(client)),
    );
  }

  /** Makes the first owner. Throws not_found, token_used, conflict, unavailable or rate_limited. */
  async claim(request: Setup, origin: Origin): Promise<{ accountId: AccountId; place: Place }> {
    await this.limiter.takeGuess('setup', origin.ip);
    const tenantId = await this.#platform();
    const hash = secretHash(request.token);
    const accountId = newId<AccountId>();
    const actor: Actor = {
      ...{ ...origin, accountId, tenantId, role: 'owner', platform: true },
      ...{ familyId: null, keyId: null, scopes: null },
    };
    // Before the costly hash; the answer that counts is given again below, in the transaction.
    await this.database.transaction(actor, async ({ client }) => {
      const link = await store.findSetupLink(client, hash);
      if (link === null) throw new AppError('not_found', 'there is no such set-up link');
      if (link.usedAt !== null) throw new AppError('token_used', 'this set-up link was used before');
    });
    const passwordHash = await this.passwords.hash(request.password);
    await this.database.transaction(actor, async (acting) => {
      const { client, at } = acting;
      await store.lockFirstStart(client);
      if (!(await store.useSetupLink(client, hash, at))) {
        throw new AppError('token_used', 'this set-up link was used before');
      }
      if (await store.platformHasOwner(client)) throw new AppError('conflict', 'there is an owner already');
      const { email, displayName } = request;
      await store.insertOwner(client, tenantId, { accountId, email, displayName, passwordHash }, at);
      if (request.tenantName !== undefined) await store.renameTenant(client, tenantId, request.tenantName);
      await appendAudit(acting, {
        action: 'account.create_first_owner',
        entity: 'account',
        entityId: accountId,
        after: { email, displayName, role: 'owner', tenantName: request.tenantName ?? null },
      });
    });
    return { accountId, place: { tenantId, role: 'owner', platform: true } };
  }

  async #platform(): Promise<TenantId> {
    const tenantId = await withTransaction(this.context.pool, (client) => store.findPlatform(client));
    if (tenantId === null)
      throw new AppError('unavailable', 'the first start has not ended', { retryAfterMs: 1_000 });
    return tenantId;
  }
}

/** The product itself, acting in the platform tenant at its own start. */
export function productActor(tenantId: TenantId): Actor {
  return {
    ...{
      accountId: null,
      tenantId,
      role: 'owner',
      platform: true,
      familyId: null,
      keyId: null,
      scopes: null,
    },
    ...{ requestId: randomUUID(), ip: null, userAgent: null },
  };
}
