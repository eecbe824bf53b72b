// Seeing and ending sessions. A person ends his own; an admin ends those of a member that acted in his tenant; the
// platform ends all of an account.
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import type { AccountId } from '@penstock/domain/ids';
import { appendAudit } from '../audit/audit.store.js';
import { personOf, requireAuthority } from '../auth/person.js';
import { listMemberships } from '../auth/session.store.js';
import { Standings } from '../auth/standing.store.js';
import { Database } from '../database.js';
import type { Actor } from '../http/actor.js';
import * as store from './sessions.store.js';

@Injectable()
export class SessionsService {
  constructor(
    private readonly database: Database,
    private readonly standings: Standings,
  ) {}

  async list(actor: Actor): Promise<{ items: store.Session[] }> {
    const { accountId, familyId } = personOf(actor);
    const items = await this.database.transaction(actor, (acting) =>
      store.listSessions(acting, accountId, familyId),
    );
    return { items };
  }

  /** Throws not_found when the person has no such session. */
  async end(actor: Actor, sessionId: string): Promise<void> {
    const { accountId } = personOf(actor);
    await this.database.transaction(actor, async (acting) => {
      if (!(await store.endSession(acting, accountId, sessionId))) {
        throw new AppError('not_found', 'there is no such session');
      }
      const after = { sessionId };
      await appendAudit(acting, { action: 'session.end', entity: 'account', entityId: accountId, after });
    });
    this.standings.forget();
  }

  /** All but the one that asks. */
  async endOthers(actor: Actor): Promise<{ ended: number }> {
    const { accountId, familyId } = personOf(actor);
    const ended = await this.database.transaction(actor, async (acting) => {
      const count = await store.endOtherSessions(acting.client, accountId, familyId, acting.at);
      const after = { sessionsEnded: count };
      await appendAudit(acting, {
        action: 'session.end_others',
        entity: 'account',
        entityId: accountId,
        after,
      });
      return count;
    });
    this.standings.forget();
    return { ended };
  }

  /** Throws not_found for nobody of this tenant, forbidden for somebody above. */
  async endOfMember(actor: Actor, accountId: AccountId): Promise<{ ended: number }> {
    const ended = await this.database.transactionAbout(actor, accountId, async (acting) => {
      const { client, at } = acting;
      const memberships = await listMemberships(client, accountId);
      const here = memberships.find(({ tenantId }) => tenantId === actor.tenantId);
      // Sessions in this tenant are this tenant's, wherever else the account belongs.
      requireAuthority(actor, actor.platform || here === undefined ? memberships : [here]);
      const count = actor.platform
        ? await store.endSessionsOfAccount(client, accountId, at)
        : await store.endSessionsInTenant(acting, accountId);
      if (actor.platform && memberships.length === 0 && count === 0) {
        throw new AppError('not_found', 'there is no such account');
      }
      await appendAudit(acting, {
        ...{ action: 'session.end_member', entity: 'account', entityId: accountId },
        after: { sessionsEnded: count },
      });
      return count;
    });
    this.standings.forget();
    return { ended };
  }
}
