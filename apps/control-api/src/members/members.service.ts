// People of a tenant. Every change locks the tenant's row first and judges the actor by the role that he has then: of
// two who demote each other one comes first, and the other is judged as what he has become.
import { Injectable } from '@nestjs/common';
import type { AccountId } from '@penstock/domain/ids';
import { revokeApiKeysOf } from '../api-keys/api-keys.store.js';
import { appendAudit } from '../audit/audit.store.js';
import { Database } from '../database.js';
import type { Actor } from '../http/actor.js';
import { requireVersion } from '../http/entity-tag.js';
import { pageOf, type Page } from '../http/fields.js';
import { revokeMachineTokensOf } from '../machine-tokens/machine-tokens.store.js';
import { lockTenant } from '../tenants/tenants.store.js';
import { requireOwnerLeft, requireRank } from './authority.js';
import type { ChangedMember, MemberQuery } from './members.schema.js';
import * as store from './members.store.js';
import type { Member } from './members.store.js';
import { hasOtherOwner } from './owners.store.js';

@Injectable()
export class MembersService {
  constructor(private readonly database: Database) {}

  async list(actor: Actor, query: MemberQuery): Promise<Page<Member>> {
    const rows = await this.database.transaction(actor, (acting) => store.listMembers(acting, query));
    return pageOf(rows, query.limit, (member) => member.accountId);
  }

  get(actor: Actor, accountId: AccountId): Promise<Member> {
    return this.database.transaction(actor, (acting) => store.getMember(acting, accountId));
  }

  /** Throws not_found, forbidden (a role above), conflict (the last owner) or failed_precondition. */
  change(
    actor: Actor,
    accountId: AccountId,
    { role }: ChangedMember,
    ifMatch: string | undefined,
  ): Promise<Member> {
    return this.database.transaction(actor, async (acting) => {
      await lockTenant(acting, actor.tenantId);
      const before = await store.getMember(acting, accountId);
      requireVersion(ifMatch, before.version);
      requireRank(await store.rolesOfActor(acting), [before.role, role]);
      requireOwnerLeft(before.role, role, await hasOtherOwner(acting, accountId));
      if (before.role === role) return before;
      await store.setMemberRole(acting, accountId, role);
      const after = await store.getMember(acting, accountId);
      await appendAudit(acting, {
        ...{ action: 'member.update', entity: 'member', entityId: accountId },
        ...{ before: { role: before.role }, after: { role: after.role } },
      });
      return after;
    });
  }

  /** Throws as `change` does. The account stays; in this tenant it is nobody any more, and its keys are none. */
  remove(actor: Actor, accountId: AccountId, ifMatch: string | undefined): Promise<void> {
    return this.database.transaction(actor, async (acting) => {
      await lockTenant(acting, actor.tenantId);
      const before = await store.getMember(acting, accountId);
      requireVersion(ifMatch, before.version);
      requireRank(await store.rolesOfActor(acting), [before.role]);
      requireOwnerLeft(before.role, null, await hasOtherOwner(acting, accountId));
      await store.deleteMember(acting, accountId);
      // Else they would be good again on the day that he is invited again.
      const after = {
        apiKeysRevoked: await revokeApiKeysOf(acting, accountId),
        machineTokensRevoked: await revokeMachineTokensOf(acting, accountId),
      };
      const { email, role } = before;
      await appendAudit(acting, {
        ...{ action: 'member.delete', entity: 'member', entityId: accountId },
        ...{ before: { email, role }, after },
      });
    });
  }
}
