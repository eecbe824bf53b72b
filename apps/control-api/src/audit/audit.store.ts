// The audit log: one row in the transaction of each change, chained per tenant. No audit, no change. A row's hash is
// SHA-256(previous hash ‖ canonical JSON of the row without seq and hashes); seq counts from 1 without gaps.
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';
import { canonicalJson } from './canonical-json.js';

export interface AuditEntry {
  /** `noun.verb`. */
  action: string;
  entity: string;
  entityId: string | null;
  /** Only what may be read by an auditor: never a secret, a hash or a token. */
  before?: object;
  after?: object;
}

// Writers of one tenant's chain follow each other; the lock ends with the transaction, so it is taken last.
const lockChain = statement(
  'audit.lock',
  `SELECT pg_advisory_xact_lock(hashtextextended('audit ' || $1::text, 0))`,
);

const appendRow = statement(
  'audit.append',
  `INSERT INTO audit_log (tenant_id, seq, at, account_id, action, entity, entity_id, before, after, ip, user_agent,
                          request_id, prev_hash, hash)
   SELECT $1, coalesce(last.seq, 0) + 1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,
          coalesce(last.hash, decode(repeat('00', 32), 'hex')),
          sha256(coalesce(last.hash, decode(repeat('00', 32), 'hex')) || convert_to($12::text, 'UTF8'))
     FROM (SELECT) one
     LEFT JOIN LATERAL (SELECT seq, hash FROM audit_log WHERE tenant_id = $1 ORDER BY seq DESC LIMIT 1) last ON true`,
);

/** Appends one row for the acting person. The last statement of a transaction. */
export async function appendAudit({ actor, client, at }: Acting, entry: AuditEntry): Promise<void> {
  const { tenantId, accountId, ip, userAgent, requestId } = actor;
  const { action, entity, entityId } = entry;
  const before = entry.before ?? null;
  const after = entry.after ?? null;
  const text = canonicalJson({
    ...{ tenantId, at, accountId, action, entity, entityId, before, after, ip, userAgent, requestId },
  });
  await run(client, lockChain, [tenantId]);
  await run(client, appendRow, [
    ...[tenantId, at, accountId, action, entity, entityId],
    ...[before === null ? null : canonicalJson(before), after === null ? null : canonicalJson(after)],
    ...[ip, userAgent, requestId, text],
  ]);
}
