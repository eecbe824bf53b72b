// Passkeys of accounts: public keys, so nothing here is secret. A challenge that was answered is noted, once.
import type { AccountId } from '@penstock/domain/ids';
import { run, statement, type Runner } from '@penstock/db/statement';
import type { Acting } from '../database.js';

export interface Passkey {
  passkeyId: string;
  name: string;
  synced: boolean;
  createdAt: Date;
  lastUsedAt: Date | null;
}

const COLUMNS = `passkey_id AS "passkeyId", name, synced, created_at AS "createdAt", last_used_at AS "lastUsedAt"`;

const selectList = statement<Passkey & { credentialId: Buffer; transports: string[] }>(
  'passkey.list',
  `SELECT ${COLUMNS}, credential_id AS "credentialId", transports
     FROM passkey WHERE account_id = $1 ORDER BY passkey_id LIMIT 100`,
);

export function listPasskeys(
  client: Runner,
  accountId: AccountId,
): Promise<(Passkey & { credentialId: Buffer; transports: string[] })[]> {
  return run(client, selectList, [accountId]);
}

export interface NewPasskeyRow {
  passkeyId: string;
  credentialId: Buffer;
  publicKey: Buffer;
  signCount: number;
  transports: string[];
  name: string;
  synced: boolean;
}

const insertRow = statement<Passkey>(
  'passkey.insert',
  `INSERT INTO passkey (account_id, passkey_id, credential_id, public_key, sign_count, transports, name, synced, created_at)
   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING ${COLUMNS}`,
);

/** Throws conflict when the credential is registered already. */
export async function insertPasskey(
  { client, at }: Acting,
  accountId: AccountId,
  row: NewPasskeyRow,
): Promise<Passkey> {
  const { passkeyId, credentialId, publicKey, signCount, transports, name, synced } = row;
  const [made] = await run(client, insertRow, [
    ...[accountId, passkeyId, credentialId, publicKey, signCount, transports, name, synced, at],
  ]);
  return made as Passkey;
}

const deleteRow = statement<{ name: string }>(
  'passkey.delete',
  `DELETE FROM passkey WHERE account_id = $1 AND passkey_id = $2 RETURNING name`,
);

export async function deletePasskey(
  client: Runner,
  accountId: AccountId,
  passkeyId: string,
): Promise<{ name: string } | null> {
  return (await run(client, deleteRow, [accountId, passkeyId]))[0] ?? null;
}

export interface StoredPasskey {
  accountId: AccountId;
  passkeyId: string;
  publicKey: Buffer;
  signCount: bigint;
}

// Before the account is known: the transaction has none.
const selectByCredential = statement<StoredPasskey>(
  'passkey.by_credential',
  `SELECT p.account_id AS "accountId", p.passkey_id AS "passkeyId", p.public_key AS "publicKey",
          p.sign_count AS "signCount"
     FROM passkey p JOIN account a ON a.account_id = p.account_id AND a.disabled_at IS NULL
    WHERE p.credential_id = $1`,
);

export async function findByCredential(client: Runner, credentialId: Buffer): Promise<StoredPasskey | null> {
  return (await run(client, selectByCredential, [credentialId]))[0] ?? null;
}

// A counter that does not grow tells of a copy; keys without one always say zero.
const useRow = statement<{ used: boolean }>(
  'passkey.use',
  `UPDATE passkey SET sign_count = $3, last_used_at = $4
    WHERE account_id = $1 AND passkey_id = $2 AND (sign_count < $3 OR (sign_count = 0 AND $3 = 0::bigint))
   RETURNING true AS used`,
);

/** False when its counter has been seen. */
export async function usePasskey(
  client: Runner,
  accountId: AccountId,
  passkeyId: string,
  signCount: number,
  at: Date,
): Promise<boolean> {
  return (await run(client, useRow, [accountId, passkeyId, signCount, at])).length === 1;
}

const noteChallenge = statement<{ first: boolean }>(
  'passkey_challenge.insert',
  `INSERT INTO passkey_challenge (hash, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true AS first`,
);

/** False when this challenge was answered before. */
export async function useChallenge(client: Runner, hash: Buffer, expiresAt: Date): Promise<boolean> {
  return (await run(client, noteChallenge, [hash, expiresAt])).length === 1;
}
