// Whether a tenant keeps somebody who can open it. Invariant: who cannot sign in is no owner for this question: a closed
// account, or one that has neither a password of ours, nor a passkey, nor an identity at a provider that is in use, as
// after an owner was made on the host whose link nobody has opened yet. Asked under the tenant's row lock.
import { run, statement } from '@penstock/db/statement';
import { applySettings } from '@penstock/db/transaction';
import type { AccountId } from '@penstock/domain/ids';
import type { Acting } from '../database.js';

const selectOwner = statement<{ one: number }>(
  'member.other_owner',
  `SELECT 1 AS one FROM member m JOIN account a ON a.account_id = m.account_id
    WHERE m.tenant_id = $1 AND m.role = 'owner' AND m.account_id <> $2 AND a.disabled_at IS NULL
      AND (a.password_hash LIKE '$argon2id$%' OR EXISTS (
        SELECT FROM identity_link l JOIN identity_provider p
            ON p.tenant_id = l.tenant_id AND p.identity_provider_id = l.identity_provider_id AND p.enabled
          WHERE l.tenant_id = m.tenant_id AND l.account_id = m.account_id))
    LIMIT 1`,
);
const selectPasskeyOwner = statement<{ one: number }>(
  'member.other_owner_with_passkey',
  `SELECT 1 AS one FROM member m JOIN account a ON a.account_id = m.account_id
    WHERE m.tenant_id = $1 AND m.role = 'owner' AND m.account_id <> $2 AND a.disabled_at IS NULL
      AND EXISTS (SELECT FROM passkey p WHERE p.account_id = m.account_id)
    LIMIT 1`,
);
const selectEyes = statement<{ accountId: string | null }>(
  'member.eyes',
  `SELECT nullif(current_setting('app.account_id', true), '') AS "accountId"`,
);

/** True when the acting tenant has an owner beside this account who can sign in. Needs the tenant's row lock. */
export async function hasOtherOwner(acting: Acting, id: AccountId): Promise<boolean> {
  const { actor, client } = acting;
  if ((await run(client, selectOwner, [actor.tenantId, id])).length > 0) return true;
  // Passkeys show to their own account, and to nobody yet known as at a sign-in: asked as that, and back again.
  const accountId = (await run(client, selectEyes, []))[0]?.accountId;
  await applySettings(client, { tenantId: actor.tenantId });
  const owners = await run(client, selectPasskeyOwner, [actor.tenantId, id]);
  const eyes = accountId === null || accountId === undefined ? {} : { accountId };
  await applySettings(client, { tenantId: actor.tenantId, ...eyes });
  return owners.length > 0;
}
