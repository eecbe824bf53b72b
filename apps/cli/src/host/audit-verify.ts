// Walks the audit chains in the database, one tenant after the other, and holds them against heads that were kept: in
// the database by the scheduler, and in a file that somebody took away.
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { verifyAuditChain, type AuditHead, type ChainReport } from '@penstock/db/audit-chain';
import type { Pool } from '@penstock/db/pool';
import { withTransaction } from '@penstock/db/transaction';
import { AppError } from '@penstock/domain/errors';
import type { TenantId } from '@penstock/domain/ids';
import { findEnd, findPlatform, listKeptHeads, listTenants } from './audit.store.js';

export interface TenantReport extends ChainReport {
  tenantId: TenantId;
  name: string;
}

const headLine = z.object({
  tenantId: z.guid(),
  seq: z.string().regex(/^[0-9]{1,18}$/),
  hash: z.string().regex(/^[0-9a-f]{64}$/),
});

/** Heads by tenant from a file of one JSON object a line. Throws invalid_input naming the line. */
export async function readHeads(file: string): Promise<Map<string, AuditHead[]>> {
  const heads = new Map<string, AuditHead[]>();
  const stream = createReadStream(file, 'utf8');
  let number = 0;
  try {
    for await (const line of createInterface({ input: stream, crlfDelay: Infinity })) {
      number++;
      if (line === '') continue;
      const { tenantId, seq, hash } = headLine.parse(JSON.parse(line));
      const list = heads.get(tenantId) ?? [];
      list.push({ seq: BigInt(seq), hash: Buffer.from(hash, 'hex') });
      heads.set(tenantId, list);
    }
  } catch (cause) {
    const what = number === 0 ? 'cannot be read' : `is no list of audit heads (line ${number})`;
    throw new AppError('invalid_input', `${file} ${what}`, { field: 'head', cause });
  }
  return heads;
}

/** Reports of all tenants, or of one. `pool`: control-api's login. */
export async function* verifyAudit(
  pool: Pool,
  only: TenantId | undefined,
  kept: ReadonlyMap<string, readonly AuditHead[]>,
): AsyncGenerator<TenantReport> {
  let found = false;
  const seen = new Set<string>();
  for await (const { tenantId, name } of tenants(pool)) {
    seen.add(tenantId);
    if (only !== undefined && only !== tenantId) continue;
    found = true;
    const own = <T>(work: (client: Parameters<Parameters<typeof withTransaction<T>>[1]>[0]) => Promise<T>) =>
      withTransaction(pool, work, { tenantId });
    const heads = [
      ...(await own((client) => listKeptHeads(client, tenantId))),
      ...(kept.get(tenantId) ?? []),
    ];
    yield { tenantId, name, ...(await verifyAuditChain(own, tenantId, { heads })) };
  }
  if (only !== undefined && !found)
    throw new AppError('not_found', 'there is no such tenant', { field: 'tenant' });
  if (only !== undefined) return;
  // A tenant that had a chain once and is gone altogether.
  for (const tenantId of kept.keys()) {
    if (seen.has(tenantId)) continue;
    const gone = { rows: 0, ok: false, firstWrongSeq: 1n, lastSeq: 0n, complete: true };
    yield { tenantId: tenantId as TenantId, name: '', ...gone, reason: 'the whole chain is missing' };
  }
}

/** The ends of all chains now. */
export async function* auditEnds(pool: Pool): AsyncGenerator<{ tenantId: TenantId } & AuditHead> {
  for await (const { tenantId } of tenants(pool)) {
    const end = await withTransaction(pool, (client) => findEnd(client, tenantId), { tenantId });
    if (end !== null) yield { tenantId, ...end };
  }
}

interface ListedTenant {
  tenantId: TenantId;
  name: string;
}

async function* tenants(pool: Pool): AsyncGenerator<ListedTenant> {
  const platform = await withTransaction(pool, findPlatform);
  if (platform === null) return;
  let after: TenantId | null = null;
  for (;;) {
    const from: TenantId | null = after;
    const page: ListedTenant[] = await withTransaction(pool, (client) => listTenants(client, from), {
      tenantId: platform,
    });
    yield* page;
    const last = page.at(-1);
    if (last === undefined) return;
    after = last.tenantId;
  }
}
