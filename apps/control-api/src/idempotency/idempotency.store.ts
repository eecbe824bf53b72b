// Answers by Idempotency-Key.
import type { Client } from '@penstock/db/pool';
import { run, statement } from '@penstock/db/statement';

/** Whose key it is; the three are the row's key. */
export interface KeyPlace {
  tenantId: string;
  /** The account or API key that asks. */
  actorId: string;
  keyHash: Buffer;
}

export interface StoredRow {
  requestHash: Buffer;
  status: number;
  headers: Record<string, string>;
  body: Buffer;
}

const lockKey = statement<{ locked: boolean }>(
  'idempotency.lock',
  `SELECT pg_try_advisory_xact_lock($1::bigint) AS locked`,
);
const awaitKey = statement<{ locked: boolean }>(
  'idempotency.await',
  `SELECT true AS locked FROM pg_advisory_xact_lock($1::bigint)`,
);
const selectAnswer = statement<StoredRow>(
  'idempotency.get',
  `SELECT request_hash AS "requestHash", status, headers, body FROM idempotency_key
    WHERE tenant_id = $1 AND actor_id = $2 AND key_hash = $3`,
);
const insertAnswer = statement(
  'idempotency.insert',
  `INSERT INTO idempotency_key (tenant_id, actor_id, key_hash, request_hash, status, headers, body, created_at)
   VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
);

/**
 * Takes the key until the transaction ends, and reads its answer. `locked` false: another request has it now. With
 * `wait` it is taken in any case, after whoever has it.
 */
export async function claimKey(
  client: Client,
  { tenantId, actorId, keyHash }: KeyPlace,
  wait: boolean,
): Promise<{ locked: boolean; answer: StoredRow | null }> {
  const [lock] = await run(client, wait ? awaitKey : lockKey, [keyHash.readBigInt64BE(0)]);
  // A statement of its own: it must see what the holder before us committed.
  const rows = await run(client, selectAnswer, [tenantId, actorId, keyHash]);
  return { locked: lock?.locked === true, answer: rows[0] ?? null };
}

export async function insertKeptAnswer(
  client: Client,
  { tenantId, actorId, keyHash }: KeyPlace,
  row: StoredRow,
  at: Date,
): Promise<void> {
  const { requestHash, status, headers, body } = row;
  await run(client, insertAnswer, [
    ...[tenantId, actorId, keyHash, requestHash, status, JSON.stringify(headers), body, at],
  ]);
}
