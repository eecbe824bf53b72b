// Machine tokens: signed, narrow by tenant, scope, audience, path and time, made by a person. Whoever holds one may
// narrow it further for somebody else, never widen it; what was narrowed from it dies with it.
import { createHash, randomBytes } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { newId, type KeyId } from '@penstock/domain/ids';
import { makerOf, requireExpiry, requireOwnScopes } from '../api-keys/api-keys.service.js';
import { appendAudit } from '../audit/audit.store.js';
import { AccessTokens } from '../auth/access-token.js';
import { lockSessionsOf } from '../auth/session.store.js';
import { isUnder } from '../auth/standing.js';
import { Standings } from '../auth/standing.store.js';
import { Context } from '../context.js';
import { Database, type Acting } from '../database.js';
import type { Actor, Origin } from '../http/actor.js';
import { pageOf, type Page, type PageQuery } from '../http/fields.js';
import { requireStillSignedIn } from '../password/still-signed-in.store.js';
import { keepKeyUntil } from '../signing-keys/signing-keys.store.js';
import type { Attenuation, NewMachineToken } from './machine-tokens.schema.js';
import * as store from './machine-tokens.store.js';

const USUAL_MS = 3_600_000;
const DAYS_MAX = 30;
/** Good tokens of one tenant. */
const TOKENS_MAX = 10_000;
/** How often a token that was narrowed may be narrowed again. */
const ANCESTORS_MAX = 8;

type Made = store.MachineToken & { token: string };
type Narrow = Pick<
  store.MachineToken,
  'name' | 'scopes' | 'audience' | 'pathPrefix' | 'singleUse' | 'expiresAt'
>;

@Injectable()
export class MachineTokensService {
  constructor(
    private readonly context: Context,
    private readonly database: Database,
    private readonly tokens: AccessTokens,
    private readonly standings: Standings,
  ) {}

  /** Throws forbidden (a scope beyond the maker's rights), unauthenticated, invalid_input or limit_reached. */
  create(actor: Actor, body: NewMachineToken): Promise<Made> {
    makerOf(actor);
    requireOwnScopes(actor, body.scopes);
    return this.database.transaction(actor, async (acting) => {
      await requireStillSignedIn(acting);
      const expiresAt = body.expiresAt ?? new Date(acting.at.getTime() + USUAL_MS);
      requireExpiry(expiresAt, acting.at, DAYS_MAX, '30 days');
      return this.#make(acting, { ...body, expiresAt }, []);
    });
  }

  /** A narrower token from one that is shown. Throws unauthenticated, forbidden (wider) or limit_reached. */
  async attenuate(body: Attenuation, origin: Origin): Promise<Made> {
    const claims = await this.tokens.check(body.token, this.context.clock.now(), null);
    if (claims.kind !== 'machine') throw new AppError('unauthenticated', 'this is no machine token');
    const { role, platform, suspended, key } = await this.standings.of(claims);
    if (suspended) throw new AppError('forbidden', 'this tenant is suspended');
    const { accountId, tenantId, keyId } = claims;
    const scopes = key === null ? [] : [...key.scopes];
    const actor: Actor = { ...origin, accountId, tenantId, role, platform, familyId: null, keyId, scopes };
    return this.database.transaction(actor, async (acting) => {
      // Whoever revokes all of the account's tokens at once sees this one too, or is done and the parent is gone.
      await lockSessionsOf(acting.client, accountId);
      const parent = await store.lockMachineToken(acting, keyId);
      if (parent === null) throw new AppError('unauthenticated', 'this machine token is not valid any more');
      const expiresAt = body.expiresAt ?? parent.expiresAt;
      requireExpiry(expiresAt, acting.at, DAYS_MAX, '30 days');
      const { audience } = parent;
      const narrow = { ...body, audience, expiresAt, pathPrefix: body.pathPrefix ?? parent.pathPrefix };
      requireNarrower(narrow, parent);
      if (parent.ancestors.length >= ANCESTORS_MAX) {
        throw new AppError('limit_reached', `a token is narrowed at most ${ANCESTORS_MAX} times`);
      }
      return this.#make(acting, narrow, [...parent.ancestors, keyId]);
    });
  }

  async list(actor: Actor, query: PageQuery): Promise<Page<store.MachineToken>> {
    const rows = await this.database.transaction(actor, (acting) => store.listMachineTokens(acting, query));
    return pageOf(rows, query.limit, (token) => token.keyId);
  }

  async get(actor: Actor, keyId: KeyId): Promise<store.MachineToken> {
    const token = await this.database.transaction(actor, (acting) => store.findMachineToken(acting, keyId));
    if (token === null) throw new AppError('not_found', 'there is no such machine token');
    return token;
  }

  /** It and all that were narrowed from it are refused, in every process within a second. Throws not_found. */
  async revoke(actor: Actor, keyId: KeyId): Promise<void> {
    await this.database.transaction(actor, async (acting) => {
      const name = await store.revokeMachineToken(acting, keyId);
      if (name === null) throw new AppError('not_found', 'there is no such machine token');
      await appendAudit(acting, {
        ...{ action: 'machine_token.revoke', entity: 'machine_token', entityId: keyId },
        before: { name },
      });
    });
    this.standings.forget(`t:${actor.tenantId}`);
  }

  async #make(acting: Acting, narrow: Narrow, ancestors: readonly KeyId[]): Promise<Made> {
    const { actor, client, at } = acting;
    const { accountId, tenantId } = actor;
    if (accountId === null) throw new AppError('forbidden', 'a machine token acts for a person');
    if ((await store.countMachineTokens(acting)) >= TOKENS_MAX) {
      throw new AppError('limit_reached', `a tenant has at most ${TOKENS_MAX} good machine tokens`);
    }
    const { name, scopes, audience, pathPrefix, singleUse, expiresAt } = narrow;
    const token: store.MachineToken = {
      ...{ keyId: newId<KeyId>(), name, accountId, scopes, audience, pathPrefix, singleUse },
      ...{ createdAt: at, expiresAt, usedAt: null, revokedAt: null },
    };
    const jti = randomBytes(16).toString('base64url');
    const { keyId } = token;
    const { text, kid } = await this.tokens.issueForMachine({
      ...{ keyId, jti, accountId, tenantId, audience, scopes, pathPrefix, at, expiresAt },
    });
    await keepKeyUntil(client, kid, expiresAt);
    await store.insertMachineToken(acting, token, createHash('sha256').update(jti).digest(), ancestors);
    await appendAudit(acting, {
      ...{ action: 'machine_token.create', entity: 'machine_token', entityId: keyId },
      after: {
        name,
        scopes,
        audience,
        pathPrefix,
        singleUse,
        expiresAt,
        narrowedFrom: ancestors.at(-1) ?? null,
      },
    });
    return { ...token, token: text };
  }
}

/** Throws forbidden when `wanted` reaches beyond `parent` anywhere. */
function requireNarrower(wanted: Narrow, parent: store.MachineToken): void {
  const beyond = (field: string): AppError =>
    new AppError('forbidden', `${field}: wider than the token it is made from`, { field });
  if (parent.singleUse) throw new AppError('forbidden', 'a single-use token cannot be narrowed');
  if (wanted.scopes.some((scope) => !parent.scopes.includes(scope))) throw beyond('scopes');
  if (!isUnder(parent.pathPrefix, wanted.pathPrefix)) throw beyond('pathPrefix');
  if (wanted.expiresAt > parent.expiresAt) throw beyond('expiresAt');
}
