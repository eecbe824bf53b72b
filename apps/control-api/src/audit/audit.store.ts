// The audit log as a request writes and reads it: one row in the transaction of each change, chained per tenant
// (packages/db/src/audit-chain.ts). No audit, no change.
import { appendAuditRecord, type AuditHead } from '@penstock/db/audit-chain';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';
import type { AuditQuery } from './audit.schema.js';

export interface AuditEntry {
  /** `noun.verb`. */
  action: string;
  entity: string;
  entityId: string | null;
  /** Only what may be read by an auditor: never a secret, a hash or a token. Names of customers are withheld here. */
  before?: object;
  after?: object;
}

/**
 * What a tenant's people write about its customers, by entity. Who is erased must be gone from the log too, and no row of
 * it can ever change: it keeps that something was written, and whether it changed, never what.
 */
const aboutCustomers: Readonly<Record<string, readonly string[]>> = {
  subscription: ['name', 'externalRef', 'namePattern', 'filter'],
  device: ['name'],
};

function withoutCustomers(entity: string, values: object | undefined, than?: object): object | null {
  if (values === undefined) return null;
  const before = new Map(Object.entries(than ?? {}));
  const kept = Object.entries(values).map(([field, value]: [string, unknown]) => {
    if (value === null || value === undefined || !aboutCustomers[entity]?.includes(field))
      return [field, value];
    const isChanged = than !== undefined && before.get(field) !== value;
    return [field, isChanged ? 'withheld, changed' : 'withheld'];
  });
  return Object.fromEntries(kept) as object;
}

/** Appends one row for the acting person. The last statement of a transaction. */
export async function appendAudit({ actor, client, at }: Acting, entry: AuditEntry): Promise<void> {
  const { tenantId, accountId, keyId, ip, userAgent, requestId } = actor;
  await appendAuditRecord(client, {
    ...{ tenantId, at, accountId, keyId, ip, userAgent, requestId, traceId: actor.traceId ?? null },
    ...{ action: entry.action, entity: entry.entity, entityId: entry.entityId },
    before: withoutCustomers(entry.entity, entry.before),
    after: withoutCustomers(entry.entity, entry.after, entry.before),
  });
}

/** A row as it is shown. */
export interface AuditView {
  seq: bigint;
  at: Date;
  accountId: string | null;
  /** Name of the account today; null when the product or the host acted. */
  accountName: string | null;
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
  prevHash: string;
  hash: string;
}

const COLUMNS = `l.seq, l.at, l.account_id AS "accountId", a.display_name AS "accountName", l.key_id AS "keyId", l.action,
  l.entity, l.entity_id AS "entityId", l.before, l.after, l.ip, l.user_agent AS "userAgent",
  l.request_id AS "requestId", l.trace_id AS "traceId", encode(l.prev_hash, 'hex') AS "prevHash",
  encode(l.hash, 'hex') AS hash`;

const WHERE = `l.tenant_id = $1 AND ($3::text IS NULL OR l.action = $3) AND ($4::text IS NULL OR l.entity = $4)
  AND ($5::uuid IS NULL OR l.entity_id = $5) AND ($6::uuid IS NULL OR l.account_id = $6)
  AND ($7::uuid IS NULL OR l.key_id = $7) AND ($8::timestamptz IS NULL OR l.at >= $8)
  AND ($9::timestamptz IS NULL OR l.at < $9)`;

const selectNewest = statement<AuditView>(
  'audit.page',
  `SELECT ${COLUMNS} FROM audit_log l LEFT JOIN account a ON a.account_id = l.account_id
    WHERE ${WHERE} AND ($2::bigint IS NULL OR l.seq < $2) ORDER BY l.seq DESC LIMIT $10`,
);
const selectOldest = statement<AuditView>(
  'audit.export',
  `SELECT ${COLUMNS} FROM audit_log l LEFT JOIN account a ON a.account_id = l.account_id
    WHERE ${WHERE} AND l.seq > $2 ORDER BY l.seq LIMIT $10`,
);

type Filter = Pick<AuditQuery, 'action' | 'entity' | 'entityId' | 'accountId' | 'keyId' | 'from' | 'to'>;

function filterValues(filter: Filter): unknown[] {
  const { action, entity, entityId, accountId, keyId, from, to } = filter;
  return [action, entity, entityId, accountId, keyId, from, to].map((value) => value ?? null);
}

/** Newest first; one row more than a page holds. */
export function listAudit({ actor, client }: Acting, query: AuditQuery): Promise<AuditView[]> {
  const { cursor, limit } = query;
  return run(client, selectNewest, [actor.tenantId, cursor ?? null, ...filterValues(query), limit + 1]);
}

/** Oldest first, after `afterSeq`. */
export function exportAudit(
  { actor, client }: Acting,
  filter: Filter,
  afterSeq: bigint,
  limit: number,
): Promise<AuditView[]> {
  return run(client, selectOldest, [actor.tenantId, afterSeq, ...filterValues(filter), limit]);
}

const HEADS_MAX = 1_000;
const selectHeads = statement<AuditHead>(
  'audit.heads',
  `SELECT seq, hash FROM audit_head WHERE tenant_id = $1 ORDER BY seq DESC LIMIT ${HEADS_MAX}`,
);

/** The newest heads of the tenant's chain that were kept. */
export function listAuditHeads({ actor, client }: Acting): Promise<AuditHead[]> {
  return run(client, selectHeads, [actor.tenantId]);
}
