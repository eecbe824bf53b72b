// Rows of signing keys. A platform table: no tenant. Writers follow each other under one lock.
import { run, statement, type Runner } from '@penstock/db/statement';
import type { JWK } from 'jose';
import type { KeyAge } from './rotation.js';

export interface SigningKeyRow extends KeyAge {
  publicJwk: JWK;
  privateSealed: Buffer | null;
}

const lockRows = statement(
  'signing_key.lock',
  `SELECT pg_advisory_xact_lock(hashtextextended('signing keys', 0))`,
);

export async function lockSigningKeys(client: Runner): Promise<void> {
  await run(client, lockRows);
}

const selectLiving = statement<SigningKeyRow>(
  'signing_key.living',
  `SELECT kid, state, public_jwk AS "publicJwk", private_sealed AS "privateSealed", created_at AS "createdAt",
          activated_at AS "activatedAt", demoted_at AS "demotedAt", needed_until AS "neededUntil"
     FROM signing_key WHERE state <> 'retired' ORDER BY created_at, kid`,
);

/** All keys that sign, verify or will. */
export function listLivingKeys(client: Runner): Promise<SigningKeyRow[]> {
  return run(client, selectLiving);
}

const selectAll = statement<KeyAge & { retiredAt: Date | null }>(
  'signing_key.all',
  `SELECT kid, state, created_at AS "createdAt", activated_at AS "activatedAt", demoted_at AS "demotedAt",
          needed_until AS "neededUntil", retired_at AS "retiredAt"
     FROM signing_key ORDER BY created_at DESC, kid LIMIT $1`,
);

export function listKeys(client: Runner, max: number): Promise<(KeyAge & { retiredAt: Date | null })[]> {
  return run(client, selectAll, [max]);
}

const insertRow = statement(
  'signing_key.insert',
  `INSERT INTO signing_key (kid, state, public_jwk, private_sealed, created_at, activated_at)
   VALUES ($1, $2, $3, $4, $5, $6)`,
);

export async function insertSigningKey(
  client: Runner,
  key: { kid: string; state: 'next' | 'current'; publicJwk: JWK; privateSealed: Buffer },
  at: Date,
): Promise<void> {
  const activatedAt = key.state === 'current' ? at : null;
  await run(client, insertRow, [
    ...[key.kid, key.state, JSON.stringify(key.publicJwk), key.privateSealed, at, activatedAt],
  ]);
}

const demoteRow = statement(
  'signing_key.demote',
  `UPDATE signing_key SET state = 'previous', demoted_at = $1 WHERE state = 'current'`,
);

export async function demoteCurrentKey(client: Runner, at: Date): Promise<void> {
  await run(client, demoteRow, [at]);
}

const activateRow = statement(
  'signing_key.activate',
  `UPDATE signing_key SET state = 'current', activated_at = $2, demoted_at = NULL WHERE kid = $1`,
);

export async function activateKey(client: Runner, kid: string, at: Date): Promise<void> {
  await run(client, activateRow, [kid, at]);
}

const retireRows = statement(
  'signing_key.retire',
  `UPDATE signing_key SET state = 'retired', retired_at = $2, private_sealed = NULL
    WHERE kid = ANY ($1::text[]) AND state IN ('next', 'previous')`,
);

/** The private half goes with it. */
export async function retireKeys(client: Runner, kids: readonly string[], at: Date): Promise<void> {
  await run(client, retireRows, [kids, at]);
}

const neededRow = statement(
  'signing_key.needed',
  `UPDATE signing_key SET needed_until = $2 WHERE kid = $1 AND coalesce(needed_until < $2, true)`,
);

/** A token of this key is good until then. */
export async function keepKeyUntil(client: Runner, kid: string, until: Date): Promise<void> {
  await run(client, neededRow, [kid, until]);
}
