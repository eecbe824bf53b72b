// API keys: made by a person for integrations, shown once, never worth more than their maker is today (the guard takes
// the smaller of both at each use).
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { newId, type AccountId, type KeyId } from '@penstock/domain/ids';
import { appendAudit } from '../audit/audit.store.js';
import { apiKeyHash, newApiKey } from '../auth/api-key.js';
import { Standings } from '../auth/standing.store.js';
import { Database } from '../database.js';
import type { Actor } from '../http/actor.js';
import { pageOf, type Page, type PageQuery } from '../http/fields.js';
import { requireStillSignedIn } from '../password/still-signed-in.store.js';
import { allows, type Permission } from '../permissions.js';
import type { NewApiKey } from './api-keys.schema.js';
import * as store from './api-keys.store.js';

const DAY_MS = 86_400_000;
const USUAL_DAYS = 90;
const DAYS_MAX = 366;
/** Good keys of one tenant. */
const KEYS_MAX = 200;

@Injectable()
export class ApiKeysService {
  constructor(
    private readonly database: Database,
    private readonly standings: Standings,
  ) {}

  /** Throws forbidden (a scope beyond the maker's rights), unauthenticated, invalid_input or limit_reached. */
  create(actor: Actor, body: NewApiKey): Promise<store.ApiKey & { key: string }> {
    const accountId = makerOf(actor);
    requireOwnScopes(actor, body.scopes);
    return this.database.transaction(actor, async (acting) => {
      await requireStillSignedIn(acting);
      const { at } = acting;
      const expiresAt = body.expiresAt ?? new Date(at.getTime() + USUAL_DAYS * DAY_MS);
      requireExpiry(expiresAt, at, DAYS_MAX, 'a year');
      if ((await store.countApiKeys(acting)) >= KEYS_MAX) {
        throw new AppError('limit_reached', `a tenant has at most ${KEYS_MAX} good API keys`);
      }
      const { text, shown } = newApiKey();
      const key: store.ApiKey = {
        ...{ keyId: newId<KeyId>(), name: body.name, prefix: shown, scopes: body.scopes, cidrs: body.cidrs },
        ...{ accountId, createdAt: at, expiresAt, lastUsedAt: null, revokedAt: null },
      };
      await store.insertApiKey(acting, key, apiKeyHash(text));
      const { name, scopes, cidrs } = key;
      await appendAudit(acting, {
        ...{ action: 'api_key.create', entity: 'api_key', entityId: key.keyId },
        after: { name, scopes, cidrs, expiresAt },
      });
      return { ...key, key: text };
    });
  }

  async list(actor: Actor, query: PageQuery): Promise<Page<store.ApiKey>> {
    const rows = await this.database.transaction(actor, (acting) => store.listApiKeys(acting, query));
    return pageOf(rows, query.limit, (key) => key.keyId);
  }

  async get(actor: Actor, keyId: KeyId): Promise<store.ApiKey> {
    const key = await this.database.transaction(actor, (acting) => store.findApiKey(acting, keyId));
    if (key === null) throw new AppError('not_found', 'there is no such API key');
    return key;
  }

  /** The key is refused from now on, in every process within a second. Throws not_found. */
  async revoke(actor: Actor, keyId: KeyId): Promise<void> {
    await this.database.transaction(actor, async (acting) => {
      const name = await store.revokeApiKey(acting, keyId);
      if (name === null) throw new AppError('not_found', 'there is no such API key');
      await appendAudit(acting, {
        ...{ action: 'api_key.revoke', entity: 'api_key', entityId: keyId },
        before: { name },
      });
    });
    this.standings.forget(`k:${keyId}`);
  }
}

/** The person who makes a key; it acts for him. */
export function makerOf(actor: Actor): AccountId {
  if (actor.accountId === null || actor.keyId !== null) {
    throw new AppError('forbidden', 'this needs a person who is signed in, not a key');
  }
  return actor.accountId;
}

/** Throws forbidden for a scope that the maker does not have himself. */
export function requireOwnScopes(actor: Actor, scopes: readonly Permission[]): void {
  const beyond = scopes.find((scope) => !allows(actor, scope));
  if (beyond !== undefined) {
    throw new AppError('forbidden', `scopes: your own role may not do this (${beyond})`, { field: 'scopes' });
  }
}

/** Throws invalid_input for a moment that is past or beyond `daysMax`. */
export function requireExpiry(expiresAt: Date, at: Date, daysMax: number, words: string): void {
  const ms = expiresAt.getTime() - at.getTime();
  if (ms > 0 && ms <= daysMax * DAY_MS) return;
  throw new AppError('invalid_input', `expiresAt: must be in the future, at most ${words} ahead`, {
    field: 'expiresAt',
  });
}
