// Authenticator secrets (encrypted) and recovery codes (hashed) of the transaction's account.
import type { AccountId } from '@penstock/domain/ids';
import { run, statement, type Runner } from '@penstock/db/statement';

export interface Totp {
  totpId: string;
  secret: Buffer;
  lastStep: bigint;
  failures: number;
  lockedUntil: Date | null;
  createdAt: Date;
}

const lockRow = statement<Totp>(
  'totp.lock',
  `SELECT totp_id AS "totpId", secret, last_step AS "lastStep", failures, locked_until AS "lockedUntil",
          created_at AS "createdAt"
     FROM totp WHERE account_id = $1 AND state = $2 FOR UPDATE`,
);

/** Locked: tries of one account follow each other, so that one code is accepted once. */
export async function lockTotp(
  client: Runner,
  accountId: AccountId,
  state: 'active' | 'pending',
): Promise<Totp | null> {
  return (await run(client, lockRow, [accountId, state]))[0] ?? null;
}

const acceptRow = statement(
  'totp.accept',
  `UPDATE totp SET last_step = $3, failures = 0, locked_until = NULL WHERE account_id = $1 AND totp_id = $2`,
);

export async function acceptStep(client: Runner, id: AccountId, totpId: string, step: bigint): Promise<void> {
  await run(client, acceptRow, [id, totpId, step]);
}

const failRow = statement(
  'totp.fail',
  `UPDATE totp SET failures = failures + 1, locked_until = $3 WHERE account_id = $1 AND totp_id = $2`,
);

export async function countFailure(
  client: Runner,
  accountId: AccountId,
  totpId: string,
  lockedUntil: Date | null,
): Promise<void> {
  await run(client, failRow, [accountId, totpId, lockedUntil]);
}

const deleteStateRow = statement('totp.delete', `DELETE FROM totp WHERE account_id = $1 AND state = $2`);

export async function deleteTotp(
  client: Runner,
  accountId: AccountId,
  state: 'active' | 'pending',
): Promise<void> {
  await run(client, deleteStateRow, [accountId, state]);
}

const insertRow = statement(
  'totp.insert',
  `INSERT INTO totp (account_id, totp_id, state, secret, created_at) VALUES ($1, $2, 'pending', $3, $4)`,
);

export async function insertPendingTotp(
  client: Runner,
  accountId: AccountId,
  totpId: string,
  secret: Buffer,
  at: Date,
): Promise<void> {
  await run(client, insertRow, [accountId, totpId, secret, at]);
}

const activateRow = statement(
  'totp.activate',
  `UPDATE totp SET state = 'active', last_step = $3, failures = 0, locked_until = NULL
    WHERE account_id = $1 AND totp_id = $2`,
);

export async function activateTotp(
  client: Runner,
  id: AccountId,
  totpId: string,
  step: bigint,
): Promise<void> {
  await run(client, activateRow, [id, totpId, step]);
}

const deleteCodes = statement('recovery_code.delete', `DELETE FROM recovery_code WHERE account_id = $1`);
const insertCodes = statement(
  'recovery_code.insert',
  `INSERT INTO recovery_code (account_id, hash) SELECT $1, unnest($2::bytea[])`,
);

/** The codes of before are good no more. */
export async function replaceRecoveryCodes(
  client: Runner,
  accountId: AccountId,
  hashes: readonly Buffer[],
): Promise<void> {
  await run(client, deleteCodes, [accountId]);
  if (hashes.length > 0) await run(client, insertCodes, [accountId, hashes]);
}

const useCode = statement<{ used: boolean }>(
  'recovery_code.use',
  `UPDATE recovery_code SET used_at = $3 WHERE account_id = $1 AND hash = $2 AND used_at IS NULL RETURNING true AS used`,
);

/** False for one that is unknown or was used. */
export async function useRecoveryCode(
  client: Runner,
  accountId: AccountId,
  hash: Buffer,
  at: Date,
): Promise<boolean> {
  return (await run(client, useCode, [accountId, hash, at])).length === 1;
}

const selectState = statement<{ enabled: boolean; recoveryCodesLeft: number }>(
  'totp.state',
  `SELECT EXISTS (SELECT FROM totp WHERE account_id = $1 AND state = 'active') AS enabled,
          (SELECT count(*)::int FROM recovery_code WHERE account_id = $1 AND used_at IS NULL) AS "recoveryCodesLeft"`,
);

export async function findTotpState(
  client: Runner,
  accountId: AccountId,
): Promise<{ enabled: boolean; recoveryCodesLeft: number }> {
  return (await run(client, selectState, [accountId]))[0] ?? { enabled: false, recoveryCodesLeft: 0 };
}
