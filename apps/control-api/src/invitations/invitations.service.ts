// The only way into a tenant: a link, made by somebody who may give the role, good once and for 72 hours. Nobody joins
// by the domain of a mail address. Invariants: the role is within what its maker may give at the moment of joining; the
// address is the invitation's, never the caller's; an account that exists has to prove itself.
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { newId, type AccountId, type TenantId } from '@penstock/domain/ids';
import { nameKey } from '@penstock/domain/name-key';
import type { Role } from '@penstock/domain/terms';
import { withTransaction } from '@penstock/db/transaction';
import { appendAudit } from '../audit/audit.store.js';
import { Passwords } from '../auth/passwords.js';
import { personOf } from '../auth/person.js';
import { secretHash } from '../auth/refresh-token.js';
import { findAccount } from '../auth/session.store.js';
import { Context } from '../context.js';
import { Database, type Acting } from '../database.js';
import type { Actor, Origin } from '../http/actor.js';
import { pageOf, type Page, type PageQuery } from '../http/fields.js';
import { Limiter } from '../limits/limiter.js';
import { SignInGate } from '../limits/sign-in-gate.js';
import { requireRank } from '../members/authority.js';
import { findMember, insertMember, rolesOfActor } from '../members/members.store.js';
import { readSettings } from '../settings/settings.store.js';
import { lockTenant } from '../tenants/tenants.store.js';
import { INVITATION_HOURS, invitationLink, newInvitationToken } from './invitation-link.js';
import type { AcceptInvitation, NewInvitation } from './invitations.schema.js';
import * as store from './invitations.store.js';
import type { Invitation } from './invitations.store.js';

export interface Joined {
  accountId: AccountId;
  tenantId: TenantId;
  tenantName: string;
  email: string;
  role: Role;
}

interface Found {
  tenantId: TenantId;
  invitation: Invitation;
}

@Injectable()
export class InvitationsService {
  constructor(
    private readonly context: Context,
    private readonly database: Database,
    private readonly passwords: Passwords,
    private readonly gate: SignInGate,
    private readonly limiter: Limiter,
  ) {}

  /** Throws forbidden (a role above) or conflict naming the email. */
  create(actor: Actor, { email, role }: NewInvitation): Promise<Invitation & { link: string }> {
    const token = newInvitationToken();
    return this.database.transaction(actor, async (acting) => {
      await lockTenant(acting, actor.tenantId);
      requireRank(await rolesOfActor(acting), [role]);
      const account = await store.findInvitedAccount(acting.client, email);
      if (account !== null && (await findMember(acting, account.accountId)) !== null) {
        throw new AppError('conflict', 'email: this person is a member already', { field: 'email' });
      }
      const invitationId = newId();
      const expiresAt = new Date(acting.at.getTime() + INVITATION_HOURS * 3_600_000);
      await store.insertInvitation(acting, { invitationId, email, role, hash: secretHash(token), expiresAt });
      const made = await store.lockInvitation(acting, invitationId);
      await appendAudit(acting, {
        ...{ action: 'invitation.create', entity: 'invitation', entityId: invitationId },
        after: { email, role, expiresAt },
      });
      return { ...made, link: invitationLink(this.context.config.PUBLIC_URL, token) };
    });
  }

  async list(actor: Actor, query: PageQuery): Promise<Page<Invitation>> {
    const rows = await this.database.transaction(actor, (acting) => store.listInvitations(acting, query));
    return pageOf(rows, query.limit, (row) => row.invitationId);
  }

  /** Throws not_found, forbidden (of a role above), or conflict when it was accepted. */
  revoke(actor: Actor, id: string): Promise<void> {
    return this.database.transaction(actor, async (acting) => {
      await lockTenant(acting, actor.tenantId);
      const before = await store.lockInvitation(acting, id);
      requireRank(await rolesOfActor(acting), [before.role]);
      if (before.state === 'accepted') throw new AppError('conflict', 'this invitation was accepted already');
      if (before.state === 'revoked') return;
      await store.revokeInvitation(acting, id);
      const { email, role } = before;
      await appendAudit(acting, {
        ...{ action: 'invitation.delete', entity: 'invitation', entityId: id, before: { email, role } },
      });
    });
  }

  /**
   * Joins by link and password: makes the account, or checks the password of the one that exists. Throws token_invalid,
   * token_used, token_expired, unauthenticated, forbidden, invalid_input, rate_limited or unavailable.
   */
  async accept(request: AcceptInvitation, origin: Origin): Promise<Joined> {
    const found = await this.#find(request.token, origin);
    const { email } = found.invitation;
    const { pool } = this.context;
    const account = await withTransaction(pool, (client) => store.findInvitedAccount(client, email));
    if (account !== null) {
      await this.#prove(account, request.password, origin);
      return this.#join(found, origin, account.accountId, null);
    }
    const { settings } = await withTransaction(pool, (client) => readSettings(client));
    if (request.password.length < settings.minPasswordLength) {
      throw new AppError(
        'invalid_input',
        `password: must have at least ${settings.minPasswordLength} characters`,
        { field: 'password' },
      );
    }
    const passwordHash = await this.passwords.hash(request.password);
    const accountId = newId<AccountId>();
    const displayName = request.displayName ?? email;
    return this.#join(found, origin, accountId, { accountId, email, displayName, passwordHash });
  }

  /** Joins as the signed-in person. Throws forbidden when the invitation is for another address. */
  async join(actor: Actor, token: string): Promise<Joined> {
    const { accountId } = personOf(actor);
    const found = await this.#find(token, actor);
    const account = await withTransaction(this.context.pool, (client) => findAccount(client, accountId));
    if (account === null || nameKey(account.email) !== nameKey(found.invitation.email)) {
      throw new AppError('forbidden', 'this invitation is for another address');
    }
    return this.#join(found, actor, accountId, null);
  }

  /** A wrong link costs one of a few guesses; a right one costs none, so nobody is kept out by a neighbour. */
  async #find(token: string, origin: Origin): Promise<Found> {
    const { pool, clock } = this.context;
    const route = await withTransaction(pool, (client) => store.findRoute(client, secretHash(token)));
    if (route === null) {
      await this.limiter.takeGuess('one_time_link', origin.ip);
      throw new AppError('token_invalid', 'this invitation is not valid');
    }
    const { tenantId, invitationId } = route;
    const actor = guestOf(origin, tenantId, null);
    const at = new Date(clock.now());
    const invitation = await withTransaction(
      pool,
      (client) => store.lockInvitation({ actor, client, at }, invitationId),
      { tenantId },
    );
    requireOpen(invitation);
    return { tenantId, invitation };
  }

  async #prove(account: store.InvitedAccount, password: string, origin: Origin): Promise<void> {
    await this.gate.before(origin, account.email);
    const { matches } = await this.passwords.check(password, account.passwordHash);
    if (!matches) {
      await this.gate.failed(origin, account.email);
      throw new AppError('unauthenticated', 'this address has an account: give its own password');
    }
    await this.gate.succeeded(origin, account.email);
    if (account.disabled) throw new AppError('forbidden', 'this account is closed');
  }

  /** Everything is judged again on what stands, under the tenant's lock. */
  #join(
    { tenantId, invitation }: Found,
    origin: Origin,
    accountId: AccountId,
    fresh: store.NewAccount | null,
  ): Promise<Joined> {
    const { pool, clock } = this.context;
    const at = new Date(clock.now());
    return withTransaction(
      pool,
      async (client) => {
        const acting: Acting = { actor: guestOf(origin, tenantId, accountId), client, at };
        const tenant = await lockTenant(acting, tenantId);
        if (tenant.state === 'suspended') throw new AppError('forbidden', 'this tenant is suspended');
        const { invitationId, email, role, createdBy } = await store
          .lockInvitation(acting, invitation.invitationId)
          .then(requireOpen);
        if (createdBy !== null) {
          const maker = { ...acting, actor: guestOf(origin, tenantId, createdBy) };
          const held = await rolesOfActor(maker);
          if (!mayStillGive(held, role))
            throw new AppError('token_invalid', 'this invitation is not valid any more');
        }
        if (fresh !== null) await store.insertAccount(acting, fresh);
        else if ((await findMember(acting, accountId)) !== null) {
          throw new AppError('conflict', 'you are a member already');
        }
        await insertMember(acting, accountId, role);
        await store.useInvitation(acting, invitationId, accountId);
        await appendAudit(acting, {
          ...{ action: 'invitation.accept', entity: 'member', entityId: accountId },
          after: { email, role, invitationId, newAccount: fresh !== null },
        });
        return { accountId, tenantId, tenantName: tenant.name, email, role };
      },
      // With the maker's eyes: his place in the platform may be what allows him to invite.
      { tenantId, ...(invitation.createdBy === null ? {} : { accountId: invitation.createdBy }) },
    );
  }
}

function mayStillGive(held: readonly Role[], role: Role): boolean {
  try {
    requireRank(held, [role]);
    return true;
  } catch {
    return false;
  }
}

/** Throws token_used, token_expired or token_invalid. */
function requireOpen(invitation: Invitation): Invitation {
  if (invitation.state === 'accepted') throw new AppError('token_used', 'this invitation was used before');
  if (invitation.state === 'expired') throw new AppError('token_expired', 'this invitation has expired');
  if (invitation.state === 'revoked') throw new AppError('token_invalid', 'this invitation was taken back');
  return invitation;
}

/** Somebody who is no member yet. */
function guestOf(origin: Origin, tenantId: TenantId, accountId: AccountId | null): Actor {
  const { ip, userAgent, requestId, traceId = null } = origin;
  return {
    ...{ ip, userAgent, requestId, traceId, accountId, tenantId, role: 'auditor', platform: false },
    ...{ familyId: null, keyId: null, scopes: null },
  };
}
