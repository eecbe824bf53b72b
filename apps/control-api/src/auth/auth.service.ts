// Sign-in, refresh, sign-out, and the choice of a tenant. Invariants: an unknown name costs and answers what a wrong
// password does; one refresh token has one child; a refresh token that is used after its child ends the family.
import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { newId, type AccountId, type TenantId } from '@penstock/domain/ids';
import { withTransaction } from '@penstock/db/transaction';
import { appendAudit } from '../audit/audit.store.js';
import { Context } from '../context.js';
import type { Actor, Origin } from '../http/actor.js';
import { Limiter } from '../limits/limiter.js';
import { SignInGate } from '../limits/sign-in-gate.js';
import { permissionsOf, type Permission } from '../permissions.js';
import { ACCESS_TOKEN_SECONDS, AccessTokens } from './access-token.js';
import type { Refresh, SignIn } from './auth.schema.js';
import { Passwords } from './passwords.js';
import { childRefreshToken, newRefreshToken, secretHash } from './refresh-token.js';
import * as sessions from './session.store.js';
import { Standings, stronger } from './standing.store.js';

const REFRESH_DAYS = 30;
/** A client whose answer was lost may show the direct parent again for this long. */
const PARENT_GRACE_MS = 10_000;

export interface Tokens {
  accessToken: string;
  expiresIn: number;
  refreshToken: string;
  tenantId: TenantId;
}

export interface Whoami {
  account: { accountId: AccountId; email: string; displayName: string };
  tenant: { tenantId: TenantId; name: string; platform: boolean };
  role: string;
  permissions: Permission[];
  memberships: { tenantId: TenantId; name: string; role: string }[];
}

/** A person's place in one tenant. */
export type Place = Pick<Actor, 'tenantId' | 'role' | 'platform'>;

@Injectable()
export class AuthService {
  constructor(
    private readonly context: Context,
    private readonly passwords: Passwords,
    private readonly accessTokens: AccessTokens,
    private readonly standings: Standings,
    private readonly gate: SignInGate,
    private readonly limiter: Limiter,
  ) {}

  /** Throws rate_limited, unavailable (too many hashes at once), unauthenticated, forbidden or invalid_input. */
  async signIn(request: SignIn, origin: Origin): Promise<Tokens> {
    await this.gate.before(origin, request.email);
    const { pool } = this.context;
    const account = await withTransaction(pool, (client) =>
      sessions.findAccountByEmail(client, request.email),
    );
    const { matches, rehash } = await this.passwords
      .check(request.password, account?.passwordHash ?? null)
      .catch(async (error: unknown) => {
        await this.gate.undecided(origin, request.email);
        throw error;
      });
    if (account === null || !matches) {
      await this.gate.failed(origin, request.email);
      throw new AppError('unauthenticated', 'name or password is wrong');
    }
    await this.gate.succeeded(origin, request.email);
    const newHash = rehash ? await this.passwords.hash(request.password) : null;
    const place = await this.#chooseTenant(account.accountId, request.tenantId);
    if (newHash !== null) {
      await withTransaction(pool, (client) =>
        sessions.replacePasswordHash(client, account.accountId, newHash, account.passwordHash),
      );
    }
    return this.open(account.accountId, place, origin);
  }

  /** Opens a session for somebody whose identity has been proven. */
  async open(accountId: AccountId, place: Place, origin: Origin): Promise<Tokens> {
    const refreshToken = newRefreshToken();
    const familyId = randomUUID();
    const { tenantId } = place;
    await withTransaction(
      this.context.pool,
      async (client) => {
        const at = new Date(this.context.clock.now());
        await sessions.insertSession(
          client,
          this.#session(accountId, familyId, refreshToken, null, at),
          origin,
        );
        const actor: Actor = { ...origin, ...place, accountId, familyId, keyId: null, scopes: null };
        await appendAudit(
          { client, at, actor },
          { action: 'session.create', entity: 'account', entityId: accountId },
        );
      },
      { tenantId, accountId },
    );
    return this.#tokens(accountId, tenantId, familyId, refreshToken);
  }

  /** Throws token_invalid, token_expired, rate_limited, forbidden or invalid_input. */
  async refresh(request: Refresh, origin: Origin): Promise<Tokens> {
    await this.limiter.takeGuess('refresh', origin.ip);
    const child = childRefreshToken(this.context.config.DATA_KEY, request.refreshToken);
    const at = new Date(this.context.clock.now());
    const session = await withTransaction(this.context.pool, async (client) => {
      const row = await sessions.lockSession(client, secretHash(request.refreshToken));
      if (row === null) throw new AppError('token_invalid', 'the refresh token is not valid');
      if (row.revokedAt !== null)
        throw new AppError('token_invalid', 'this session has ended, sign in again');
      if (row.expiresAt <= at)
        throw new AppError('token_expired', 'the refresh token has expired, sign in again');
      if (row.rotatedAt === null) {
        await sessions.markSessionRotated(client, row.sessionId, at);
        const next = this.#session(row.accountId, row.familyId, child, row.sessionId, at);
        await sessions.insertSession(client, next, origin);
        return row;
      }
      const isDirectParent = !row.childUsed && at.getTime() - row.rotatedAt.getTime() <= PARENT_GRACE_MS;
      if (isDirectParent) return row;
      // Two hold this family and one of them stole it. The refusal is thrown after the commit, else it would be undone.
      await sessions.revokeFamily(client, row.familyId, at);
      return null;
    });
    if (session === null) {
      this.standings.forget();
      this.context.log.warn(
        { requestId: origin.requestId, reason: 'refresh_reused' },
        'session family revoked',
      );
      throw new AppError('token_invalid', 'this refresh token was used before; the session has ended');
    }
    const { tenantId } = await this.#chooseTenant(session.accountId, request.tenantId);
    return this.#tokens(session.accountId, tenantId, session.familyId, child);
  }

  /** Ends the session that the refresh token belongs to; an unknown token is no error. */
  async signOut(refreshToken: string): Promise<void> {
    const at = new Date(this.context.clock.now());
    await withTransaction(this.context.pool, async (client) => {
      const row = await sessions.lockSession(client, secretHash(refreshToken));
      if (row !== null) await sessions.revokeFamily(client, row.familyId, at);
    });
    this.standings.forget();
  }

  /** An access token for another tenant within the same session. */
  async switchTenant(actor: Actor, tenantId: TenantId): Promise<Omit<Tokens, 'refreshToken'>> {
    const { accountId, familyId } = actor;
    if (accountId === null || familyId === null) throw new AppError('unauthenticated', 'sign in first');
    await this.#chooseTenant(accountId, tenantId);
    const accessToken = await this.accessTokens.issue(accountId, tenantId, familyId);
    return { accessToken, expiresIn: ACCESS_TOKEN_SECONDS, tenantId };
  }

  async whoami(actor: Actor): Promise<Whoami> {
    const { accountId, tenantId } = actor;
    if (accountId === null) throw new AppError('unauthenticated', 'sign in first');
    return withTransaction(
      this.context.pool,
      async (client) => {
        const account = await sessions.findAccount(client, accountId);
        const tenant = await sessions.findTenant(client, tenantId);
        if (account === null || tenant === null) throw new AppError('unauthenticated', 'sign in first');
        const memberships = await sessions.listMemberships(client, accountId);
        return {
          account,
          tenant,
          role: actor.role,
          permissions: permissionsOf(actor),
          memberships: memberships.map(({ tenantId: id, name, role }) => ({ tenantId: id, name, role })),
        };
      },
      { tenantId, accountId },
    );
  }

  /** The tenant that was asked for, or the only one. A place in the platform tenant reaches every tenant. */
  async #chooseTenant(accountId: AccountId, wanted: TenantId | undefined): Promise<Place> {
    return withTransaction(
      this.context.pool,
      async (client) => {
        const memberships = await sessions.listMemberships(client, accountId);
        const [only] = memberships;
        if (wanted === undefined) {
          if (only === undefined) throw new AppError('forbidden', 'this account is in no tenant');
          if (memberships.length === 1) return only;
          throw new AppError('invalid_input', 'tenantId: this account has several tenants, name one', {
            field: 'tenantId',
          });
        }
        const own = memberships.find((membership) => membership.tenantId === wanted);
        const platform = memberships.find((membership) => membership.platform);
        const role = stronger(own?.role ?? null, platform?.role ?? null);
        const tenant = role === null ? null : await sessions.findTenant(client, wanted);
        if (role === null || tenant === null) throw new AppError('not_found', 'there is no such tenant');
        return { ...tenant, role };
      },
      { accountId, ...(wanted === undefined ? {} : { tenantId: wanted }) },
    );
  }

  #session(
    accountId: AccountId,
    familyId: string,
    token: string,
    parentId: string | null,
    createdAt: Date,
  ): sessions.NewSession {
    const expiresAt = new Date(createdAt.getTime() + REFRESH_DAYS * 86_400_000);
    return {
      sessionId: newId(),
      accountId,
      familyId,
      refreshHash: secretHash(token),
      parentId,
      createdAt,
      expiresAt,
    };
  }

  async #tokens(
    accountId: AccountId,
    tenantId: TenantId,
    familyId: string,
    refreshToken: string,
  ): Promise<Tokens> {
    const accessToken = await this.accessTokens.issue(accountId, tenantId, familyId);
    return { accessToken, expiresIn: ACCESS_TOKEN_SECONDS, refreshToken, tenantId };
  }
}
