// Reading the audit log: pages, an export that streams, and the walk along the chain. Each page is a short transaction
// of its own, so a long export holds neither a connection nor a snapshot.
import { Readable } from 'node:stream';
import { Injectable, StreamableFile } from '@nestjs/common';
import { AUDIT_ROWS_A_PAGE, verifyAuditChain } from '@penstock/db/audit-chain';
import { Database } from '../database.js';
import type { Actor } from '../http/actor.js';
import type { Page } from '../http/fields.js';
import type { AuditExportQuery, AuditQuery } from './audit.schema.js';
import { exportAudit, listAudit, listAuditHeads, type AuditView } from './audit.store.js';

/** One export holds so many rows at most; the next begins after its last. */
export const EXPORT_ROWS_MAX = 100_000;
/** One answer walks so many rows at most: about three seconds. */
export const VERIFY_ROWS_MAX = 100_000;

export interface AuditReport {
  rows: number;
  ok: boolean;
  firstWrongSeq: bigint | null;
  reason: string | null;
  nextSeq: bigint | null;
}

@Injectable()
export class AuditService {
  constructor(private readonly database: Database) {}

  async list(actor: Actor, query: AuditQuery): Promise<Page<AuditView>> {
    const rows = await this.database.transaction(actor, (acting) => listAudit(acting, query));
    const items = rows.slice(0, query.limit);
    return { items, nextCursor: rows.length > query.limit ? String(items.at(-1)?.seq) : null };
  }

  /** One JSON object a line, oldest first. */
  export(actor: Actor, query: AuditExportQuery): StreamableFile {
    return new StreamableFile(Readable.from(this.#lines(actor, query), { objectMode: false }), {
      type: 'application/x-ndjson',
      disposition: 'attachment; filename="audit.ndjson"',
    });
  }

  async *#lines(actor: Actor, { afterSeq, ...filter }: AuditExportQuery): AsyncGenerator<Buffer> {
    let last = afterSeq;
    for (let rows = 0; rows < EXPORT_ROWS_MAX;) {
      const limit = Math.min(AUDIT_ROWS_A_PAGE, EXPORT_ROWS_MAX - rows);
      const page = await this.database.transaction(actor, (acting) =>
        exportAudit(acting, filter, last, limit),
      );
      if (page.length > 0) yield Buffer.from(page.map(lineOf).join(''));
      last = page.at(-1)?.seq ?? last;
      rows += page.length;
      if (page.length < limit) return;
    }
  }

  /** Walks the tenant's chain and holds it against the heads that were kept each hour. */
  async verify(actor: Actor, afterSeq: bigint): Promise<AuditReport> {
    const heads = await this.database.transaction(actor, listAuditHeads);
    const report = await verifyAuditChain(
      (work) => this.database.transaction(actor, ({ client }) => work(client)),
      actor.tenantId,
      { afterSeq, heads, rowsMax: VERIFY_ROWS_MAX },
    );
    const { rows, ok, firstWrongSeq, reason, complete, lastSeq } = report;
    return { rows, ok, firstWrongSeq, reason, nextSeq: complete ? null : lastSeq };
  }
}

function lineOf(row: AuditView): string {
  const text = JSON.stringify(row, (_key, value: unknown) =>
    typeof value === 'bigint' ? value.toString() : value,
  );
  return `${text}\n`;
}
