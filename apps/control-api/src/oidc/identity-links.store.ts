// The person behind a subject of a provider, and the one-time codes that browsers bring back from providers.
import type { AccountId, TenantId } from '@penstock/domain/ids';
import { run, statement, type Runner } from '@penstock/db/statement';
import type { Acting } from '../database.js';
import type { Purpose } from './flow-cookie.js';

/** Who a provider says somebody is. */
export interface Proven {
  tenantId: TenantId;
  identityProviderId: string;
  issuer: string;
  subject: string;
}

const deleteExpired = statement(
  'oidc_exchange.delete_expired',
  `DELETE FROM oidc_exchange WHERE hash IN (SELECT hash FROM oidc_exchange WHERE expires_at <= $1 LIMIT 1000)`,
);
const insertRow = statement(
  'oidc_exchange.insert',
  `INSERT INTO oidc_exchange (hash, browser_hash, purpose, provider_tenant_id, identity_provider_id, issuer, subject,
                              expires_at)
   VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
);

export async function insertExchange(
  client: Runner,
  exchange: Proven & { hash: Buffer; browserHash: Buffer; purpose: Purpose; expiresAt: Date },
  at: Date,
): Promise<void> {
  const { hash, browserHash, purpose, tenantId, identityProviderId, issuer, subject, expiresAt } = exchange;
  await run(client, deleteExpired, [at]);
  await run(client, insertRow, [
    ...[hash, browserHash, purpose, tenantId, identityProviderId, issuer, subject, expiresAt],
  ]);
}

const takeRow = statement<Proven>(
  'oidc_exchange.take',
  `DELETE FROM oidc_exchange WHERE hash = $1 AND browser_hash = $2 AND purpose = $3 AND expires_at > $4
   RETURNING provider_tenant_id AS "tenantId", identity_provider_id AS "identityProviderId", issuer, subject`,
);

/** Once, by the browser that began and for what it began. */
export async function takeExchange(
  client: Runner,
  hash: Buffer,
  browserHash: Buffer,
  purpose: Purpose,
  at: Date,
): Promise<Proven | null> {
  return (await run(client, takeRow, [hash, browserHash, purpose, at]))[0] ?? null;
}

const selectAccount = statement<{ accountId: AccountId }>(
  'identity_link.account',
  `SELECT l.account_id AS "accountId" FROM identity_link l JOIN account a ON a.account_id = l.account_id
    WHERE l.tenant_id = $1 AND l.identity_provider_id = $2 AND l.issuer = $3 AND l.subject = $4
      AND a.disabled_at IS NULL`,
);

/** Needs beginSignIn. */
export async function findLinkedAccount(client: Runner, proven: Proven): Promise<AccountId | null> {
  const { tenantId, identityProviderId, issuer, subject } = proven;
  const [row] = await run(client, selectAccount, [tenantId, identityProviderId, issuer, subject]);
  return row?.accountId ?? null;
}

const insertLink = statement(
  'identity_link.insert',
  `INSERT INTO identity_link (tenant_id, identity_provider_id, issuer, subject, account_id, created_at)
   VALUES ($1, $2, $3, $4, $5, $6)`,
);

/** Throws conflict when the subject or the account has a link with this provider. */
export async function insertIdentityLink(
  { client, at }: Acting,
  accountId: AccountId,
  proven: Proven,
): Promise<void> {
  const { tenantId, identityProviderId, issuer, subject } = proven;
  await run(client, insertLink, [tenantId, identityProviderId, issuer, subject, accountId, at]);
}

export interface Identity {
  identityProviderId: string;
  issuer: string;
  createdAt: Date;
}

const selectLinks = statement<Identity>(
  'identity_link.of_account',
  `SELECT identity_provider_id AS "identityProviderId", issuer, created_at AS "createdAt" FROM identity_link
    WHERE account_id = $1 ORDER BY created_at, identity_provider_id LIMIT 100`,
);

export function listIdentities(client: Runner, accountId: AccountId): Promise<Identity[]> {
  return run(client, selectLinks, [accountId]);
}

const deleteLink = statement<{ issuer: string }>(
  'identity_link.delete',
  `DELETE FROM identity_link WHERE account_id = $1 AND identity_provider_id = $2 RETURNING issuer`,
);

/** The issuer that it was made with, null when there was none. */
export async function deleteIdentity(
  client: Runner,
  accountId: AccountId,
  identityProviderId: string,
): Promise<string | null> {
  return (await run(client, deleteLink, [accountId, identityProviderId]))[0]?.issuer ?? null;
}
