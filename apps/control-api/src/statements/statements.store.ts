// Reading statements, which the scheduler closes and nobody changes, and replacing the key that signs them.
import { run, statement } from '@penstock/db/statement';
import { engineName, type StatementLine } from '@penstock/domain/statement';
import type { NewStatementKey } from '@penstock/service/statement-key';
import type { Acting } from '../database.js';
import type { PageQuery } from '../http/fields.js';
import type { StatementId } from './statements.schema.js';

export interface StatementRow {
  statementId: StatementId;
  /** The signed text. */
  header: string;
  signature: Buffer;
  digest: Buffer;
  publicKey: Buffer;
}

const selectPage = statement<StatementRow>(
  'statement.page',
  `SELECT s.statement_id AS "statementId", s.header, s.signature, s.digest, k.public_key AS "publicKey"
     FROM statement s JOIN statement_key k ON k.key_id = s.key_id
    WHERE s.tenant_id = $1 AND ($2::uuid IS NULL OR s.statement_id < $2)
    ORDER BY s.statement_id DESC LIMIT $3`,
);

/** Newest first; one row more than a page holds. */
export function listStatements({ actor, client }: Acting, query: PageQuery): Promise<StatementRow[]> {
  return run(client, selectPage, [actor.tenantId, query.cursor ?? null, query.limit + 1]);
}

const selectOne = statement<StatementRow>(
  'statement.get',
  `SELECT s.statement_id AS "statementId", s.header, s.signature, s.digest, k.public_key AS "publicKey"
     FROM statement s JOIN statement_key k ON k.key_id = s.key_id WHERE s.tenant_id = $1 AND s.statement_id = $2`,
);

export async function findStatement(
  { actor, client }: Acting,
  id: StatementId,
): Promise<StatementRow | null> {
  return (await run(client, selectOne, [actor.tenantId, id]))[0] ?? null;
}

interface LineRow extends Omit<StatementLine, 'engine'> {
  engine: number;
}

const selectLines = statement<LineRow>(
  'statement_line.read',
  `SELECT to_char(month, 'YYYY-MM') AS month, subscription_id AS "subscriptionId", engine, up_bytes AS "upBytes",
          down_bytes AS "downBytes", billable_bytes AS "billableBytes"
     FROM statement_line
    WHERE tenant_id = $1 AND statement_id = $2
      AND (month, subscription_id, engine) > (($3::text || '-01')::date, $4::uuid, $5::smallint)
    ORDER BY month, subscription_id, engine LIMIT $6`,
);

export type LineKey = readonly [month: string, subscriptionId: string, engine: number];
export const FIRST_LINE: LineKey = ['0001-01', '00000000-0000-0000-0000-000000000000', 0];

/** Lines behind `after` in the order of the file, and where the next page begins; null at the end. */
export async function listLines(
  { actor, client }: Acting,
  id: StatementId,
  after: LineKey,
  limit: number,
): Promise<{ lines: StatementLine[]; next: LineKey | null }> {
  const rows = await run(client, selectLines, [actor.tenantId, id, ...after, limit]);
  const last = rows.at(-1);
  return {
    lines: rows.map((row) => ({ ...row, engine: engineName(row.engine) })),
    next: last === undefined || rows.length < limit ? null : [last.month, last.subscriptionId, last.engine],
  };
}

export interface PreviewRow {
  month: string;
  timeZone: string;
  upBytes: bigint;
  downBytes: bigint;
  billableBytes: bigint;
  endsAt: Date;
  statementId: StatementId | null;
}

const selectPreview = statement<PreviewRow>(
  'statement.preview',
  `SELECT to_char(m.month, 'YYYY-MM') AS month, m.zone AS "timeZone", u.up AS "upBytes", u.down AS "downBytes",
          u.billable AS "billableBytes", (m.month + interval '1 month') AT TIME ZONE m.zone AS "endsAt",
          s.statement_id AS "statementId"
     FROM (SELECT known_zone(time_zone) AS zone,
                  coalesce(($2::text || '-01')::timestamp, date_trunc('month', $3::timestamptz AT TIME ZONE known_zone(time_zone))) AS month
             FROM tenant WHERE tenant_id = $1) m
    CROSS JOIN LATERAL (
      SELECT least(coalesce(sum(up_bytes), 0), 9223372036854775807)::int8 AS up,
             least(coalesce(sum(down_bytes), 0), 9223372036854775807)::int8 AS down,
             least(coalesce(sum(billable_bytes), 0), 9223372036854775807)::int8 AS billable
        FROM usage_node_hour
       WHERE tenant_id = $1 AND day >= m.month::date AND day < (m.month + interval '1 month')::date) u
     LEFT JOIN statement s ON s.tenant_id = $1 AND s.month = m.month::date`,
);

/** `month`: 2026-10, or null for the current one. */
export async function findPreview(
  { actor, client, at }: Acting,
  month: string | null,
): Promise<PreviewRow | null> {
  return (await run(client, selectPreview, [actor.tenantId, month, at]))[0] ?? null;
}

export interface KeyRow {
  keyId: string;
  publicKey: Buffer;
  createdAt: Date;
  retiredAt: Date | null;
}

const selectKeys = statement<KeyRow>(
  'statement_key.list',
  `SELECT key_id AS "keyId", public_key AS "publicKey", created_at AS "createdAt", retired_at AS "retiredAt"
     FROM statement_key ORDER BY created_at DESC, key_id DESC LIMIT $1`,
);

/** Keys that sign, or signed; the same for all tenants. */
export function listKeys({ client }: Acting, limit: number): Promise<KeyRow[]> {
  return run(client, selectKeys, [limit]);
}

const lockRows = statement(
  'statement_key.lock',
  `SELECT pg_advisory_xact_lock(hashtextextended('statement keys', 0))`,
);

/** Rotations follow each other, and wait for the statement that is being signed (scheduler, statements/close.ts). */
export async function lockKeys({ client }: Acting): Promise<void> {
  await run(client, lockRows);
}

const retireRows = statement(
  'statement_key.retire',
  `UPDATE statement_key SET retired_at = $1 WHERE retired_at IS NULL`,
);

/** Under the lock of keys. */
export async function retireKeys({ client, at }: Acting): Promise<void> {
  await run(client, retireRows, [at]);
}

const insertRow = statement(
  'statement_key.insert',
  `INSERT INTO statement_key (key_id, public_key, private_key, created_at) VALUES ($1, $2, $3, $4)`,
);

export async function insertKey({ client, at }: Acting, key: NewStatementKey): Promise<void> {
  await run(client, insertRow, [key.keyId, key.publicKey, key.privateSealed, at]);
}
