// Sign-in, refresh, sign-out, and the choice of a tenant. Invariants: an unknown name costs and answers what a wrong
// password does; one refresh token has one child; a refresh token that is used after its child ends the family; what
// begins or ends a session leaves an audit row.
import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { newId, type AccountId, type TenantId } from '@penstock/domain/ids';
import type { Client } from '@penstock/db/pool';
import { withTransaction } from '@penstock/db/transaction';
import { appendAudit } from '../audit/audit.store.js';
import { Context } from '../context.js';
import type { Actor, Origin } from '../http/actor.js';
import { Limiter } from '../limits/limiter.js';
import { SignInGate } from '../limits/sign-in-gate.js';
import { readSettings } from '../settings/settings.store.js';
import { noteSessionTenant } from '../sessions/sessions.store.js';
import { SecondFactor } from '../totp/second-factor.js';
import { permissionsOf, type Permission } from '../permissions.js';
import { ACCESS_TOKEN_SECONDS, AccessTokens } from './access-token.js';
import type { Refresh, SignIn } from './auth.schema.js';
import { Passwords } from './passwords.js';
import { personOf } from './person.js';
import { childRefreshToken, newRefreshToken, secretHash } from './refresh-token.js';
import * as sessions from './session.store.js';
import { SignInFailures } from './sign-in-failures.js';
import { Standings, stronger } from './standing.store.js';

const DAY_MS = 86_400_000;
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

export type Place = sessions.Place;

export interface Opening {
  /** By the word of this tenant alone, so the session reaches no other. */
  onlyTenantId?: TenantId | null;
  /** Whether what was proven still holds; asked when nobody can change it any more until the session stands. */
  still?: (client: Client) => Promise<boolean>;
}

@Injectable()
export class AuthService {
  constructor(
    private readonly context: Context,
    private readonly passwords: Passwords,
    private readonly accessTokens: AccessTokens,
    private readonly standings: Standings,
    private readonly gate: SignInGate,
    private readonly limiter: Limiter,
    private readonly secondFactor: SecondFactor,
    private readonly failures: SignInFailures,
  ) {}

  /**
   * Throws rate_limited, unavailable (too many hashes at once), unauthenticated, totp_required, forbidden or
   * invalid_input. Up to the answer whether the password is right, a name that exists and one that does not take the
   * same steps.
   */
  async signIn(request: SignIn, origin: Origin): Promise<Tokens> {
    const { email } = request;
    await this.gate.before(origin, email);
    const { pool } = this.context;
    const { account, matches, rehash } = await this.passwords
      .withRoom(async () => {
        const found = await withTransaction(pool, (client) => sessions.findAccountByEmail(client, email));
        return {
          account: found,
          ...(await this.passwords.check(request.password, found?.passwordHash ?? null)),
        };
      })
      .catch(async (error: unknown) => {
        await this.gate.undecided(origin, email);
        throw error;
      });
    if (account === null || !matches) {
      await this.gate.failed(origin, email);
      await this.failures.record(origin, account?.accountId ?? null, 'password');
      throw new AppError('unauthenticated', 'name or password is wrong');
    }
    const given = request.code ?? request.recoveryCode;
    if (given === undefined) await this.#second(account.accountId, request, origin);
    const place = await this.chooseTenant(account.accountId, request.tenantId).catch(
      async (error: unknown) => {
        await this.gate.undecided(origin, email);
        throw error;
      },
    );
    // A code is good once: it is used up by the try that gets in, not by one that has yet to name a tenant.
    if (given !== undefined) await this.#second(account.accountId, request, origin);
    await this.gate.succeeded(origin, email);
    const newHash = rehash ? await this.passwords.hash(request.password) : null;
    if (newHash !== null) {
      await withTransaction(pool, (client) =>
        sessions.replacePasswordHash(client, account.accountId, newHash, account.passwordHash),
      );
    }
    const hash = newHash ?? account.passwordHash;
    return this.open(account.accountId, place, origin, {
      // A password that was changed meanwhile opens nothing.
      still: (client) => sessions.hasPasswordHash(client, account.accountId, hash),
    });
  }

  /** After the right password: the code, when the account has an authenticator. */
  async #second(accountId: AccountId, request: SignIn, origin: Origin): Promise<void> {
    const found = await this.secondFactor.check(accountId, request).catch(async (error: unknown) => {
      await this.gate.undecided(origin, request.email);
      throw error;
    });
    if (found === 'missing') {
      await this.gate.undecided(origin, request.email);
      throw new AppError('totp_required', 'give a code of your authenticator app');
    }
    if (found === 'wrong') {
      await this.gate.failed(origin, request.email);
      await this.failures.record(origin, accountId, 'code');
      throw new AppError('totp_required', 'the code is wrong or was used', { field: 'code' });
    }
  }

  /** Opens a session for somebody whose identity has been proven. Throws unauthenticated when that no longer holds. */
  async open(
    accountId: AccountId,
    place: Place,
    origin: Origin,
    { onlyTenantId = null, still }: Opening = {},
  ): Promise<Tokens> {
    const refreshToken = newRefreshToken();
    const familyId = randomUUID();
    const { tenantId } = place;
    await withTransaction(
      this.context.pool,
      async (client) => {
        const at = new Date(this.context.clock.now());
        const holds = await sessions.shareAccount(client, accountId);
        if (!holds || (still !== undefined && !(await still(client)))) {
          throw new AppError('unauthenticated', 'this account was changed meanwhile; sign in again');
        }
        const session = await this.#session(client, accountId, familyId, refreshToken, null, at);
        await sessions.insertSession(client, { ...session, onlyTenantId }, origin);
        await noteSessionTenant(client, tenantId, familyId, accountId);
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
    const { session, reused } = await withTransaction(this.context.pool, async (client) => {
      const row = await sessions.lockSession(client, secretHash(request.refreshToken));
      if (row === null) throw new AppError('token_invalid', 'the refresh token is not valid');
      if (row.revokedAt !== null)
        throw new AppError('token_invalid', 'this session has ended, sign in again');
      if (row.expiresAt <= at)
        throw new AppError('token_expired', 'the refresh token has expired, sign in again');
      // What the person has elsewhere, a session of one tenant's provider is not told.
      if (row.onlyTenantId !== null && ![undefined, row.onlyTenantId].includes(request.tenantId))
        throw new AppError('not_found', 'there is no such tenant');
      if (row.rotatedAt === null) {
        await sessions.markSessionRotated(client, row.sessionId, at);
        const next = await this.#session(client, row.accountId, row.familyId, child, row.sessionId, at);
        await sessions.insertSession(client, next, origin);
        return { session: row, reused: false };
      }
      const isDirectParent = !row.childUsed && at.getTime() - row.rotatedAt.getTime() <= PARENT_GRACE_MS;
      return { session: row, reused: !isDirectParent };
    });
    if (reused) {
      // Two hold this family and one of them stole it.
      await this.#endFamily(session, origin, 'session.reuse');
      this.context.log.warn(
        { requestId: origin.requestId, reason: 'refresh_reused' },
        'session family revoked',
      );
      throw new AppError('token_invalid', 'this refresh token was used before; the session has ended');
    }
    const wanted = session.onlyTenantId ?? request.tenantId;
    const { tenantId } = await this.chooseTenant(session.accountId, wanted);
    return this.#tokens(session.accountId, tenantId, session.familyId, child);
  }

  /** Ends the session that the refresh token belongs to; an unknown token is no error. */
  async signOut(refreshToken: string, origin: Origin): Promise<void> {
    const session = await withTransaction(this.context.pool, (client) =>
      sessions.lockSession(client, secretHash(refreshToken)),
    );
    if (session !== null && session.revokedAt === null) await this.#endFamily(session, origin, 'session.end');
  }

  /** In one transaction with its audit row, in the log of the account's home. */
  async #endFamily(session: sessions.SessionRow, origin: Origin, action: string): Promise<void> {
    const { accountId, familyId } = session;
    const { pool, clock } = this.context;
    const home = await withTransaction(pool, (client) => sessions.findHome(client, accountId), { accountId });
    const at = new Date(clock.now());
    const actor: Actor = { ...origin, ...home, accountId, familyId, keyId: null, scopes: null };
    await withTransaction(
      pool,
      async (client) => {
        await sessions.revokeFamily(client, accountId, familyId, at);
        const entry = { action, entity: 'account', entityId: accountId, after: { sessionId: familyId } };
        await appendAudit({ client, at, actor }, entry);
      },
      { tenantId: home.tenantId, accountId },
    );
    this.standings.forget();
  }

  /** An access token for another tenant within the same session. */
  async switchTenant(actor: Actor, tenantId: TenantId): Promise<Omit<Tokens, 'refreshToken'>> {
    const { accountId, familyId } = personOf(actor);
    await this.chooseTenant(accountId, tenantId);
    const { accessToken, expiresIn } = await this.#tokens(accountId, tenantId, familyId, '');
    return { accessToken, expiresIn, tenantId };
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
        const all = await sessions.listMemberships(client, accountId);
        const memberships = actor.confined === true ? all.filter((one) => one.tenantId === tenantId) : all;
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
  async chooseTenant(accountId: AccountId, wanted: TenantId | undefined): Promise<Place> {
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

  async #session(
    client: Client,
    accountId: AccountId,
    familyId: string,
    token: string,
    parentId: string | null,
    createdAt: Date,
  ): Promise<sessions.NewSession> {
    const { settings } = await readSettings(client);
    const expiresAt = new Date(createdAt.getTime() + settings.sessionDays * DAY_MS);
    return {
      sessionId: newId(),
      accountId,
      familyId,
      refreshHash: secretHash(token),
      parentId,
      createdAt,
      expiresAt,
      onlyTenantId: null,
    };
  }

  async #tokens(
    accountId: AccountId,
    tenantId: TenantId,
    familyId: string,
    refreshToken: string,
  ): Promise<Tokens> {
    await withTransaction(
      this.context.pool,
      (client) => noteSessionTenant(client, tenantId, familyId, accountId),
      { tenantId },
    );
    const accessToken = await this.accessTokens.issue(accountId, tenantId, familyId);
    return { accessToken, expiresIn: ACCESS_TOKEN_SECONDS, refreshToken, tenantId };
  }
}
