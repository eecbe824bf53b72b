// `penstock owner recover`: whoever has the host has the platform, so he gets it back in a way that leaves a trace. It
// sets no password: it gives a one-time link, the same that an admin gives somebody who forgot his.
import { createHash, randomUUID } from 'node:crypto';
import { appendAuditRecord } from '@penstock/db/audit-chain';
import type { Pool } from '@penstock/db/pool';
import { withTransaction } from '@penstock/db/transaction';
import type { Clock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import { newId, type AccountId } from '@penstock/domain/ids';
import { newResetToken, RESET_LINK_HOURS, resetLink } from '@penstock/domain/one-time-link';
import { findPlatform } from './audit.store.js';
import {
  enableAccount,
  findAccount,
  insertAccount,
  keepLink,
  lockPlatform,
  makeOwner,
} from './owner.store.js';

export interface Recovery {
  email: string;
  /** Also takes away codes and passkeys, for an owner who lost them. */
  removeSecondFactor: boolean;
  /** What people open; without a path. */
  publicUrl: string;
}

export interface Recovered {
  accountId: AccountId;
  email: string;
  made: boolean;
  link: string;
  expiresAt: Date;
}

/** `pool`: control-api's login. Throws not_found before the first start. */
export async function recoverOwner(pool: Pool, clock: Clock, recovery: Recovery): Promise<Recovered> {
  const tenantId = await withTransaction(pool, findPlatform);
  if (tenantId === null) throw new AppError('not_found', 'there is no platform yet: run npm start first');
  const wanted = recovery.email.normalize('NFKC').trim().toLowerCase();
  const { removeSecondFactor } = recovery;
  const token = newResetToken();
  return withTransaction(
    pool,
    async (client) => {
      const at = new Date(clock.now());
      const expiresAt = new Date(at.getTime() + RESET_LINK_HOURS * 3_600_000);
      await lockPlatform(client, tenantId);
      const found = await findAccount(client, wanted);
      const accountId = found?.accountId ?? newId<AccountId>();
      const email = found?.email ?? wanted;
      if (found === null) await insertAccount(client, accountId, email, at);
      else if (found.disabled) await enableAccount(client, accountId);
      const roleBefore = await makeOwner(client, tenantId, accountId, at);
      const hash = createHash('sha256').update(token).digest();
      await keepLink(client, { hash, accountId, removesSecondFactor: removeSecondFactor, at, expiresAt });
      await appendAuditRecord(client, {
        ...{ tenantId, at, accountId: null, keyId: null, ip: null, traceId: null },
        ...{
          action: 'owner.recover',
          entity: 'account',
          entityId: accountId,
          userAgent: 'penstock on the host',
        },
        requestId: randomUUID(),
        before: { role: roleBefore, disabled: found?.disabled ?? false },
        after: { email, role: 'owner', newAccount: found === null, removeSecondFactor, expiresAt },
      });
      return {
        accountId,
        email,
        made: found === null,
        link: resetLink(recovery.publicUrl, token),
        expiresAt,
      };
    },
    { tenantId },
  );
}
