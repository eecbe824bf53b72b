// The audit chain of a tenant: how a row is hashed, appended and checked. A row's hash is SHA-256(previous hash ‖
// canonical JSON of the row without seq and hashes); seq counts from 1 without gaps. Whoever changes, removes, adds or
// moves a row as a superuser breaks it at that row; whoever cuts off the end is found by a head that was kept elsewhere.
// Used by control-api (append, verify) and by `penstock audit` and `penstock owner` on the host.
import { createHash } from 'node:crypto';
import { isIPv4, isIPv6 } from 'node:net';
import { canonicalJson } from '@penstock/domain/canonical-json';
import { run, statement, type Runner } from './statement.js';

export interface AuditRecord {
  tenantId: string;
  at: Date;
  /** null: the product itself, or the host. */
  accountId: string | null;
  keyId: string | null;
  action: string;
  entity: string;
  entityId: string | null;
  before: object | null;
  after: object | null;
  ip: string | null;
  userAgent: string | null;
  requestId: string;
  traceId: string | null;
}

export interface AuditRow extends AuditRecord {
  seq: bigint;
  prevHash: Buffer;
  hash: Buffer;
}

/** The end of a chain as it was at some moment. */
export interface AuditHead {
  seq: bigint;
  hash: Buffer;
}

const ZERO_HASH = Buffer.alloc(32);
export const AUDIT_ROWS_A_PAGE = 1_000;

/** One text for equal addresses, whatever wrote them; null for what is none. */
export function canonicalIp(ip: string | null): string | null {
  const plain = ip?.split('%', 1)[0] ?? '';
  if (isIPv4(plain)) return plain;
  return isIPv6(plain) ? new URL(`http://[${plain}]`).hostname.slice(1, -1) : null;
}

/** What is hashed. Columns that came later are a part of it only where they say something. */
function textOf(row: AuditRecord): string {
  const { tenantId, at, accountId, action, entity, entityId, before, after, ip, userAgent, requestId } = row;
  return canonicalJson({
    ...{ tenantId, at, accountId, action, entity, entityId, before, after, ip, userAgent, requestId },
    ...(row.keyId === null ? {} : { keyId: row.keyId }),
    ...(row.traceId === null ? {} : { traceId: row.traceId }),
  });
}

// Writers of one tenant's chain follow each other; the lock ends with the transaction, so it is taken last.
const lockChain = statement(
  'audit.lock',
  `SELECT pg_advisory_xact_lock(hashtextextended('audit ' || $1::text, 0))`,
);

const appendRow = statement(
  'audit.append',
  `INSERT INTO audit_log (tenant_id, seq, at, account_id, key_id, action, entity, entity_id, before, after, ip,
                          user_agent, request_id, trace_id, prev_hash, hash)
   SELECT $1, coalesce(last.seq, 0) + 1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
          coalesce(last.hash, decode(repeat('00', 32), 'hex')),
          sha256(coalesce(last.hash, decode(repeat('00', 32), 'hex')) || convert_to($14::text, 'UTF8'))
     FROM (SELECT) one
     LEFT JOIN LATERAL (SELECT seq, hash FROM audit_log WHERE tenant_id = $1 ORDER BY seq DESC LIMIT 1) last ON true`,
);

/** Appends one row. The last statement of a transaction; the transaction's tenant is the record's. */
export async function appendAuditRecord(client: Runner, record: AuditRecord): Promise<void> {
  const row = { ...record, ip: canonicalIp(record.ip) };
  const { tenantId, at, accountId, keyId, action, entity, entityId, before, after } = row;
  await run(client, lockChain, [tenantId]);
  await run(client, appendRow, [
    ...[tenantId, at, accountId, keyId, action, entity, entityId],
    ...[before === null ? null : canonicalJson(before), after === null ? null : canonicalJson(after)],
    ...[row.ip, row.userAgent, row.requestId, row.traceId, textOf(row)],
  ]);
}

const selectPage = statement<AuditRow & { wholeMs: boolean }>(
  'audit.chain_page',
  `SELECT tenant_id AS "tenantId", seq, at, extract(microseconds FROM at)::bigint % 1000 = 0 AS "wholeMs",
          account_id AS "accountId", key_id AS "keyId", action, entity, entity_id AS "entityId", before, after, ip,
          user_agent AS "userAgent", request_id AS "requestId", trace_id AS "traceId", prev_hash AS "prevHash", hash
     FROM audit_log WHERE tenant_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`,
);

const selectHash = statement<{ hash: Buffer }>(
  'audit.hash_at',
  `SELECT hash FROM audit_log WHERE tenant_id = $1 AND seq = $2`,
);

export interface ChainReport {
  /** Rows that were looked at. */
  rows: number;
  ok: boolean;
  /** The first row that is not what was written, or that is missing. */
  firstWrongSeq: bigint | null;
  reason: string | null;
  /** The last row that was looked at; 0 for an empty chain. */
  lastSeq: bigint;
  /** False when `rowsMax` ended the walk. */
  complete: boolean;
}

export interface ChainOptions {
  /** Begins after this row, whose own hash is believed. */
  afterSeq?: bigint;
  /** Ends the walk after so many rows. */
  rowsMax?: number;
  /** Heads that were kept elsewhere: those rows must be there with that hash. */
  heads?: readonly AuditHead[];
}

/** Walks a chain page by page; `query` gives each page (in a transaction that may see the tenant). */
export async function verifyAuditChain(
  query: <T>(work: (runner: Runner) => Promise<T>) => Promise<T>,
  tenantId: string,
  options: ChainOptions = {},
): Promise<ChainReport> {
  const { afterSeq = 0n, rowsMax = Infinity, heads = [] } = options;
  const hashes = new Map(heads.map((head) => [head.seq, head.hash]));
  let lastSeq = afterSeq;
  let lastHash: Buffer = ZERO_HASH;
  if (afterSeq > 0n) {
    const [row] = await query((runner) => run(runner, selectHash, [tenantId, afterSeq]));
    if (row === undefined) return wrong(0, lastSeq, afterSeq, 'this row is missing');
    lastHash = row.hash;
  }
  for (let rows = 0; ;) {
    const limit = Math.min(AUDIT_ROWS_A_PAGE, rowsMax - rows);
    const page = await query((runner) => run(runner, selectPage, [tenantId, lastSeq, limit]));
    for (const row of page) {
      const fault = faultOf(row, lastSeq, lastHash, hashes.get(row.seq));
      if (fault !== null) return wrong(rows, lastSeq, lastSeq + 1n, fault);
      lastSeq = row.seq;
      lastHash = row.hash;
      rows++;
    }
    if (page.length < limit) {
      const cut = heads.find((head) => head.seq > lastSeq);
      if (cut !== undefined) {
        return wrong(rows, lastSeq, lastSeq + 1n, `the end is missing: row ${cut.seq} was there once`);
      }
      return { rows, ok: true, firstWrongSeq: null, reason: null, lastSeq, complete: true };
    }
    if (rows >= rowsMax)
      return { rows, ok: true, firstWrongSeq: null, reason: null, lastSeq, complete: false };
  }
}

function wrong(rows: number, lastSeq: bigint, firstWrongSeq: bigint, reason: string): ChainReport {
  return { rows, ok: false, firstWrongSeq, reason, lastSeq, complete: true };
}

/** Why this row does not follow the one before; null when it does. */
function faultOf(
  row: AuditRow & { wholeMs: boolean },
  lastSeq: bigint,
  lastHash: Buffer,
  kept: Buffer | undefined,
): string | null {
  if (row.seq !== lastSeq + 1n) return 'this row is missing';
  if (!row.prevHash.equals(lastHash)) return 'this row does not follow the one before';
  // Written in whole milliseconds; what stands below them was not hashed.
  if (!row.wholeMs) return 'the time of this row was changed';
  const ip = canonicalIp(row.ip) ?? row.ip;
  const hash = createHash('sha256')
    .update(lastHash)
    .update(textOf({ ...row, ip }), 'utf8');
  if (!hash.digest().equals(row.hash)) return 'this row was changed';
  if (kept !== undefined && !kept.equals(row.hash)) return 'this row is not the one that was there once';
  return null;
}
