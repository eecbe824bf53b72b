// Setting passwords: one's own with the current one, or by a one-time link that an admin made. Invariants: a link
// works once, for 24 hours, and while its maker could still make it; whoever held a session, an API key or a machine token
// before, holds none after.
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import type { AccountId, TenantId } from '@penstock/domain/ids';
import type { Runner } from '@penstock/db/statement';
import { withTransaction } from '@penstock/db/transaction';
import { revokeApiKeysOf } from '../api-keys/api-keys.store.js';
import { appendAudit } from '../audit/audit.store.js';
import { Passwords } from '../auth/passwords.js';
import { personOf, requireAuthority } from '../auth/person.js';
import { Proofs } from '../auth/proofs.js';
import { secretHash } from '../auth/refresh-token.js';
import {
  findAccount,
  findHome,
  listMemberships,
  type Membership,
  type Place,
} from '../auth/session.store.js';
import { stronger } from '../auth/standing.js';
import { Standings } from '../auth/standing.store.js';
import { Context } from '../context.js';
import { Database, type Acting } from '../database.js';
import type { Actor, Origin } from '../http/actor.js';
import { Limiter } from '../limits/limiter.js';
import { revokeMachineTokensOf } from '../machine-tokens/machine-tokens.store.js';
import { allows } from '../permissions.js';
import { readSettings } from '../settings/settings.store.js';
import { endOtherSessions, endSessionsOfAccount } from '../sessions/sessions.store.js';
import { newResetToken, RESET_LINK_HOURS, resetLink } from '@penstock/domain/one-time-link';
import type { ChangePassword, NewResetLink, Reset } from './password.schema.js';
import * as store from './password.store.js';

@Injectable()
export class PasswordService {
  constructor(
    private readonly context: Context,
    private readonly database: Database,
    private readonly passwords: Passwords,
    private readonly proofs: Proofs,
    private readonly limiter: Limiter,
    private readonly standings: Standings,
  ) {}

  /** Ends all other sessions of the person. Throws forbidden for a wrong password, rate_limited, unavailable. */
  async change(actor: Actor, request: ChangePassword): Promise<void> {
    const { accountId, familyId } = personOf(actor);
    await this.#requireLength(request.new, 'new');
    const { passwordHash } = await this.proofs.password(actor, request.current);
    const hash = await this.passwords.hash(request.new);
    await this.database.transaction(actor, async (acting) => {
      // Of two changes that come at once the second finds that its current password is the old one.
      if (!(await store.replacePassword(acting.client, accountId, passwordHash, hash))) {
        throw new AppError('forbidden', 'the password was changed meanwhile', { field: 'current' });
      }
      await store.voidLinks(acting.client, accountId, acting.at);
      const ended = await endOtherSessions(acting.client, accountId, familyId, acting.at);
      await appendAudit(acting, {
        action: 'password.change',
        entity: 'account',
        entityId: accountId,
        after: { sessionsEnded: ended },
      });
    });
    this.standings.forget();
  }

  /** A link for somebody else. Throws not_found, or forbidden (oneself, somebody above, an account of other tenants). */
  async makeLink(
    actor: Actor,
    accountId: AccountId,
    request: NewResetLink,
  ): Promise<{ link: string; expiresAt: Date }> {
    if (accountId === actor.accountId) {
      throw new AppError('forbidden', 'change your own password with the current one');
    }
    const token = newResetToken();
    // Its places in other tenants decide whether this tenant's admin may.
    const expiresAt = await this.database.transactionAbout(actor, accountId, async (acting) => {
      const { client, at } = acting;
      const end = new Date(at.getTime() + RESET_LINK_HOURS * 3_600_000);
      requireAuthority(actor, await listMemberships(client, accountId));
      if ((await findAccount(client, accountId)) === null) {
        throw new AppError('not_found', 'there is no such account, or it is disabled');
      }
      await store.insertLink(client, {
        ...{ hash: secretHash(token), accountId, removesSecondFactor: request.removeSecondFactor },
        ...{ madeIn: actor.platform ? null : actor.tenantId, createdBy: actor.accountId },
        ...{ createdAt: at, expiresAt: end },
      });
      await appendAudit(acting, {
        ...{ action: 'password_reset.create', entity: 'account', entityId: accountId },
        after: { expiresAt: end, removeSecondFactor: request.removeSecondFactor },
      });
      return end;
    });
    return { link: resetLink(this.context.config.PUBLIC_URL, token), expiresAt };
  }

  /** Uses a link up. Throws token_invalid, token_used, token_expired, rate_limited or unavailable. */
  async reset(request: Reset, origin: Origin): Promise<void> {
    await this.#requireLength(request.password, 'password');
    const hash = secretHash(request.token);
    const { pool, clock } = this.context;
    const at = new Date(clock.now());
    // Before the costly hash; the answer that counts is given again below, in the transaction.
    const link = await withTransaction(pool, (client) => store.findLink(client, hash));
    if (link === null) {
      // A right link costs no guess, so nobody is kept out by a neighbour.
      await this.limiter.takeGuess('one_time_link', origin.ip);
      throw new AppError('token_invalid', 'this link is not valid');
    }
    if (link.usedAt !== null) throw new AppError('token_used', 'this link was used before');
    if (link.expiresAt <= at) throw new AppError('token_expired', 'this link has expired, ask for another');
    const { accountId } = link;
    const home = await withTransaction(pool, (client) => findHome(client, accountId), { accountId });
    const passwordHash = await this.passwords.hash(request.password);
    await withTransaction(
      pool,
      async (client) => {
        const memberships = await listMemberships(client, accountId);
        // Its maker was an admin of the only tenant of this account. It has joined another since.
        if (link.madeIn !== null && memberships.some(({ tenantId }) => tenantId !== link.madeIn)) {
          throw new AppError('token_invalid', 'this link is not valid any more');
        }
        await requireMaker(client, link, memberships);
        if (!(await store.useLink(client, hash, at))) {
          throw new AppError('token_used', 'this link was used before');
        }
        await store.changePassword(client, accountId, passwordHash);
        await store.voidLinks(client, accountId, at);
        if (link.removesSecondFactor) await store.deleteSecondFactors(client, accountId);
        const ended = await endSessionsOfAccount(client, accountId, at);
        const actor: Actor = {
          ...{ ...origin, ...home, accountId, familyId: null, keyId: null, scopes: null },
        };
        const acting = { actor, client, at };
        const revoked = await revokeKeys(acting, accountId);
        await appendResetAudit(acting, accountId, revoked, {
          ...{ sessionsEnded: ended, secondFactorRemoved: link.removesSecondFactor },
        });
      },
      { tenantId: home.tenantId, accountId },
    );
    this.standings.forget();
  }

  /** As long as the platform's settings ask of new passwords. */
  async #requireLength(password: string, field: string): Promise<void> {
    const { settings } = await withTransaction(this.context.pool, (client) => readSettings(client));
    const least = settings.minPasswordLength;
    if (password.length < least) {
      throw new AppError('invalid_input', `${field}: must have at least ${least} characters`, { field });
    }
  }
}

interface Revoked {
  tenantId: TenantId;
  apiKeysRevoked: number;
  machineTokensRevoked: number;
}

/**
 * What the account made for integrations acts for it, so it ends with its sessions, in every tenant where it made some:
 * a place in the platform reaches more tenants than it has memberships. Tenants in the order of their ids.
 */
async function revokeKeys(acting: Acting, accountId: AccountId): Promise<Revoked[]> {
  const revoked: Revoked[] = [];
  for (const tenantId of await store.listTenantsOfKeys(acting.client, accountId)) {
    const there = actingIn(acting, tenantId);
    await store.actIn(acting.client, tenantId);
    revoked.push({
      tenantId,
      apiKeysRevoked: await revokeApiKeysOf(there, accountId),
      machineTokensRevoked: await revokeMachineTokensOf(there, accountId),
    });
  }
  return revoked;
}

/** The whole at home, and in every other tenant what ended there; in one order, so that two resets never deadlock. */
async function appendResetAudit(
  acting: Acting,
  accountId: AccountId,
  revoked: readonly Revoked[],
  after: object,
): Promise<void> {
  const home = acting.actor.tenantId;
  const tenants = [...new Set([home, ...revoked.map(({ tenantId }) => tenantId)])].sort();
  const sum = (rows: readonly Revoked[]): Omit<Revoked, 'tenantId'> => ({
    apiKeysRevoked: rows.reduce((total, row) => total + row.apiKeysRevoked, 0),
    machineTokensRevoked: rows.reduce((total, row) => total + row.machineTokensRevoked, 0),
  });
  for (const tenantId of tenants) {
    await store.actIn(acting.client, tenantId);
    await appendAudit(actingIn(acting, tenantId), {
      ...{ action: 'password.reset', entity: 'account', entityId: accountId },
      after:
        tenantId === home
          ? { ...after, ...sum(revoked) }
          : sum(revoked.filter((row) => row.tenantId === tenantId)),
    });
  }
}

function actingIn(acting: Acting, tenantId: TenantId): Acting {
  return { ...acting, actor: { ...acting.actor, tenantId } };
}

/** Throws token_invalid when who made the link could not make it now: he went, or one of the two has another role. */
async function requireMaker(
  client: Runner,
  { accountId, createdBy, madeIn }: store.Link,
  memberships: readonly Membership[],
): Promise<void> {
  // Made on the host.
  if (createdBy === null) return;
  // His places show only to a transaction that acts for him.
  await store.actFor(client, createdBy);
  const maker = await findAccount(client, createdBy);
  const places = await listMemberships(client, createdBy);
  await store.actFor(client, accountId);
  const own = places.find((place) => (madeIn === null ? place.platform : place.tenantId === madeIn));
  const reach = places.find((place) => place.platform);
  const role = maker === null ? null : stronger(own?.role ?? null, reach?.role ?? null);
  const tenantId = madeIn ?? reach?.tenantId;
  const platform = madeIn === null;
  const mayStill =
    role !== null &&
    tenantId !== undefined &&
    allows({ role, platform }, 'password_reset.create') &&
    hasAuthority({ role, platform, tenantId }, memberships);
  if (!mayStill) throw new AppError('token_invalid', 'this link is not valid any more');
}

function hasAuthority(actor: Place, memberships: readonly Membership[]): boolean {
  try {
    requireAuthority(actor, memberships);
    return true;
  } catch {
    return false;
  }
}
