// A person's own profile, and the platform's word on whether an account is let in. Invariants: nobody shuts out
// somebody above him or himself; the platform always has an owner who can sign in.
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import type { AccountId } from '@penstock/domain/ids';
import { appendAudit } from '../audit/audit.store.js';
import { personOf, requireAuthority } from '../auth/person.js';
import { listMemberships } from '../auth/session.store.js';
import { Standings } from '../auth/standing.store.js';
import { Database, type Acting } from '../database.js';
import type { Actor } from '../http/actor.js';
import { hasOtherOwner } from '../members/owners.store.js';
import { endSessionsOfAccount } from '../sessions/sessions.store.js';
import type { ChangedProfile } from './accounts.schema.js';
import * as store from './accounts.store.js';

type Profile = Omit<store.Account, 'disabledAt'>;

@Injectable()
export class AccountsService {
  constructor(
    private readonly database: Database,
    private readonly standings: Standings,
  ) {}

  rename(actor: Actor, { displayName }: ChangedProfile): Promise<Profile> {
    const { accountId } = personOf(actor);
    return this.database.transaction(actor, async (acting) => {
      const account = await store.lockAccount(acting.client, accountId);
      if (account === null) throw new AppError('unauthenticated', 'sign in first');
      await store.renameAccount(acting.client, accountId, displayName);
      const before = { displayName: account.displayName };
      const after = { displayName };
      await appendAudit(acting, {
        action: 'account.update',
        entity: 'account',
        entityId: accountId,
        before,
        after,
      });
      return { accountId, email: account.email, displayName };
    });
  }

  /** Ends all its sessions. Throws not_found, forbidden for oneself and who is above, conflict for the last owner. */
  async disable(actor: Actor, accountId: AccountId): Promise<store.Account> {
    if (accountId === actor.accountId) throw new AppError('forbidden', 'nobody disables himself');
    const account = await this.#change(actor, accountId, async (acting, found) => {
      await store.lockOwners(acting);
      if (!(await hasOtherOwner(acting, accountId))) {
        throw new AppError('conflict', 'the platform would have no owner');
      }
      const disabledAt = found.disabledAt ?? acting.at;
      await store.setDisabled(acting.client, accountId, disabledAt);
      const sessionsEnded = await endSessionsOfAccount(acting.client, accountId, acting.at);
      await appendAudit(acting, {
        ...{ action: 'account.disable', entity: 'account', entityId: accountId },
        after: { disabledAt, sessionsEnded },
      });
      return { ...found, disabledAt };
    });
    this.standings.forget();
    return account;
  }

  /** Throws not_found or forbidden. */
  async enable(actor: Actor, accountId: AccountId): Promise<store.Account> {
    return this.#change(actor, accountId, async (acting, found) => {
      await store.setDisabled(acting.client, accountId, null);
      const entry = { action: 'account.enable', entity: 'account', entityId: accountId };
      await appendAudit(acting, { ...entry, before: { disabledAt: found.disabledAt } });
      return { ...found, disabledAt: null };
    });
  }

  #change(
    actor: Actor,
    accountId: AccountId,
    work: (acting: Acting, account: store.Account) => Promise<store.Account>,
  ): Promise<store.Account> {
    return this.database.transactionAbout(actor, accountId, async (acting) => {
      requireAuthority(actor, await listMemberships(acting.client, accountId));
      const account = await store.lockAccount(acting.client, accountId);
      if (account === null) throw new AppError('not_found', 'there is no such account');
      return work(acting, account);
    });
  }
}
