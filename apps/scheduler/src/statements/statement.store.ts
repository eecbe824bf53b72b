// SQL of closing statements. A line is what a month's days hold less what lines of that month already say: for the
// statement's own month that is all of it, for an earlier one what came late. So over all statements every byte of the
// days stands in the lines exactly once.
import type { Runner } from '@penstock/db/statement';
import { run, statement } from '@penstock/db/statement';
import { engineName, type StatementLine } from '@penstock/domain/statement';

export interface DueStatement {
  tenantId: string;
  /** First day of the month. */
  month: string;
  timeZone: string;
}

/** The month that each tenant's (but those of $3) next statement is for, where it ended before $1 in its zone. */
export const listDue = statement<DueStatement>(
  'statement.due',
  `SELECT n.tenant_id AS "tenantId", n.month, n.zone AS "timeZone"
   FROM (
     SELECT t.tenant_id, known_zone(t.time_zone) AS zone,
            coalesce((SELECT (max(s.month) + interval '1 month')::date FROM statement s WHERE s.tenant_id = t.tenant_id),
                     date_trunc('month', t.created_at AT TIME ZONE known_zone(t.time_zone))::date) AS month
     FROM tenant t
   ) n
   WHERE (n.month + interval '1 month')::timestamp AT TIME ZONE n.zone <= $1 AND n.tenant_id <> ALL ($3::uuid[])
   ORDER BY n.month, n.tenant_id LIMIT $2`,
);

export interface LastStatement {
  month: string;
  digest: Buffer;
  closedAt: Date;
}

export const findLast = statement<LastStatement>(
  'statement.last',
  `SELECT month, digest, closed_at AS "closedAt" FROM statement WHERE tenant_id = $1 ORDER BY month DESC LIMIT 1`,
);

// Sums saturate at 2^63 − 1 as days do; up to there differences are exact, and never negative, because days only grow.
/** Writes the lines of statement $2 for the month $3, and those that correct months whose days changed after $4. */
const insertLines = statement<Record<string, never>>(
  'statement_line.insert',
  `WITH months AS (
     SELECT $3::date AS month
     UNION
     SELECT DISTINCT date_trunc('month', day)::date FROM usage_rolled
     WHERE tenant_id = $1 AND day < $3 AND rolled_at > $4::timestamptz
   ), used AS (
     SELECT m.month, d.subscription_id, d.engine, least(sum(d.up_bytes), 9223372036854775807)::int8 AS up, least(sum(d.down_bytes), 9223372036854775807)::int8 AS down,
            least(sum(d.billable_bytes), 9223372036854775807)::int8 AS billable
     FROM months m JOIN usage_day d ON d.tenant_id = $1 AND d.day >= m.month AND d.day < (m.month + interval '1 month')::date
     GROUP BY 1, 2, 3
   ), stated AS (
     SELECT l.month, l.subscription_id, l.engine, least(sum(l.up_bytes), 9223372036854775807)::int8 AS up, least(sum(l.down_bytes), 9223372036854775807)::int8 AS down,
            least(sum(l.billable_bytes), 9223372036854775807)::int8 AS billable
     FROM months m JOIN statement_line l ON l.tenant_id = $1 AND l.month = m.month GROUP BY 1, 2, 3
   )
   INSERT INTO statement_line (tenant_id, statement_id, month, subscription_id, engine, up_bytes, down_bytes, billable_bytes)
   SELECT $1, $2, u.month, u.subscription_id, u.engine, u.up - coalesce(s.up, 0), u.down - coalesce(s.down, 0),
          u.billable - coalesce(s.billable, 0)
   FROM used u LEFT JOIN stated s ON s.month = u.month AND s.subscription_id = u.subscription_id AND s.engine = u.engine
   WHERE (u.up, u.down, u.billable) <> (coalesce(s.up, 0), coalesce(s.down, 0), coalesce(s.billable, 0))`,
);

interface LineRow extends Omit<StatementLine, 'engine'> {
  engine: number;
}

const pageLines = statement<LineRow>(
  'statement_line.page',
  `SELECT to_char(month, 'YYYY-MM') AS month, subscription_id AS "subscriptionId", engine, up_bytes AS "upBytes",
          down_bytes AS "downBytes", billable_bytes AS "billableBytes"
   FROM statement_line
   WHERE tenant_id = $1 AND statement_id = $2
     AND (month, subscription_id, engine) > (($3::text || '-01')::date, $4::uuid, $5::smallint)
   ORDER BY month, subscription_id, engine LIMIT $6`,
);

const PAGE_ROWS = 5_000;

/** All lines of a statement in order, page by page. */
export async function* statementLines(
  db: Runner,
  tenantId: string,
  statementId: string,
): AsyncGenerator<StatementLine> {
  let after: [string, string, number] = ['0001-01', '00000000-0000-0000-0000-000000000000', 0];
  for (;;) {
    const rows = await run(db, pageLines, [tenantId, statementId, ...after, PAGE_ROWS]);
    for (const row of rows) yield { ...row, engine: engineName(row.engine) };
    const last = rows.at(-1);
    if (last === undefined || rows.length < PAGE_ROWS) return;
    after = [last.month, last.subscriptionId, last.engine];
  }
}

export async function writeLines(
  db: Runner,
  due: DueStatement,
  statementId: string,
  last: LastStatement | undefined,
): Promise<void> {
  // Days that were made while the last statement was being closed are looked at again: a line of nothing is not written.
  const since = last === undefined ? new Date(0) : new Date(last.closedAt.getTime() - 3_600_000);
  await run(db, insertLines, [due.tenantId, statementId, due.month, since]);
}

export const insertStatement = statement<Record<string, never>>(
  'statement.insert',
  `INSERT INTO statement (tenant_id, statement_id, month, time_zone, lines, up_bytes, down_bytes, billable_bytes, corrections,
                          closed_at, key_id, header, signature, digest)
   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
);

export interface KeyRow {
  keyId: string;
  publicKey: Buffer;
  privateKey: Buffer;
}

const lockKeysAlone = statement<Record<string, never>>(
  'statement_key.lock',
  `SELECT pg_advisory_xact_lock(hashtextextended('statement keys', 0))`,
);

/** Until the transaction ends nobody else makes, replaces or uses a key. */
export async function lockKeys(db: Runner): Promise<void> {
  await run(db, lockKeysAlone);
}

const lockKeysTogether = statement<Record<string, never>>(
  'statement_key.lock_shared',
  `SELECT pg_advisory_xact_lock_shared(hashtextextended('statement keys', 0))`,
);

/** Until the transaction ends nobody replaces the key. */
export async function holdKey(db: Runner): Promise<void> {
  await run(db, lockKeysTogether);
}

export const hasKey = statement<{ keyId: string }>(
  'statement_key.has',
  'SELECT key_id AS "keyId" FROM statement_key WHERE retired_at IS NULL',
);

export const findKey = statement<KeyRow>(
  'statement_key.find',
  `SELECT key_id AS "keyId", public_key AS "publicKey", private_key AS "privateKey" FROM statement_key
   WHERE retired_at IS NULL`,
);

export const insertKey = statement<Record<string, never>>(
  'statement_key.insert',
  'INSERT INTO statement_key (key_id, public_key, private_key, created_at) VALUES ($1, $2, $3, $4)',
);
