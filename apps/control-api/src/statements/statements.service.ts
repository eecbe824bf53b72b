// Statements as a tenant reads them: pages, the signed file, a look at the running month. A file streams; each of its
// pages is a short transaction of its own, which is as good as one long one because lines never change.
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { Injectable, StreamableFile } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { lineText, type StatementHeader, type StatementLine } from '@penstock/domain/statement';
import { Database } from '../database.js';
import type { Actor } from '../http/actor.js';
import { csvFile, csvLine } from '../http/csv.js';
import { pageOf, type Page, type PageQuery } from '../http/fields.js';
import type { StatementId } from './statements.schema.js';
import {
  findPreview,
  findStatement,
  FIRST_LINE,
  listKeys,
  listLines,
  listStatements,
  type KeyRow,
  type LineKey,
  type StatementRow,
} from './statements.store.js';

/** Lines of one transaction of a file. */
const LINES_A_PAGE = 5_000;
/** A month's late usage is waited for this long (scheduler, statements/close.ts). */
const GRACE_MS = 48 * 3_600_000;

export interface StatementView extends Omit<StatementHeader, 'format' | 'tenantId'> {
  digest: string;
  signature: string;
}

export interface Preview {
  month: string;
  timeZone: string;
  usage: { upBytes: bigint; downBytes: bigint; billableBytes: bigint };
  closesAt: Date;
  statementId: StatementId | null;
}

@Injectable()
export class StatementsService {
  constructor(private readonly database: Database) {}

  async list(actor: Actor, query: PageQuery): Promise<Page<StatementView>> {
    const rows = await this.database.transaction(actor, (acting) => listStatements(acting, query));
    const page = pageOf(rows, query.limit, (row) => row.statementId);
    return { ...page, items: page.items.map(viewOf) };
  }

  async get(actor: Actor, id: StatementId): Promise<StatementView> {
    return viewOf(await this.#find(actor, id));
  }

  /** The file that `penstock statement verify` checks. */
  async file(actor: Actor, id: StatementId): Promise<StreamableFile> {
    const row = await this.#find(actor, id);
    return new StreamableFile(Readable.from(this.#signedFile(actor, row), { objectMode: false }), {
      type: 'application/x-ndjson',
      disposition: `attachment; filename="${nameOf(row)}.ndjson"`,
    });
  }

  /** The lines for a spreadsheet; not signed. */
  async csv(actor: Actor, id: StatementId): Promise<StreamableFile> {
    const row = await this.#find(actor, id);
    return csvFile(this.#csvLines(actor, row), `${nameOf(row)}.csv`);
  }

  async preview(actor: Actor, month: string | null): Promise<Preview> {
    const row = await this.database.transaction(actor, (acting) => findPreview(acting, month));
    if (row === null) throw new AppError('not_found', 'there is no such tenant');
    const { endsAt, upBytes, downBytes, billableBytes, ...rest } = row;
    return {
      ...rest,
      usage: { upBytes, downBytes, billableBytes },
      closesAt: new Date(endsAt.getTime() + GRACE_MS),
    };
  }

  async keys(actor: Actor) {
    const rows = await this.database.transaction(actor, listKeys);
    return { items: rows.map(keyView) };
  }

  async #find(actor: Actor, id: StatementId): Promise<StatementRow> {
    const row = await this.database.transaction(actor, (acting) => findStatement(acting, id));
    if (row === null) throw new AppError('not_found', 'there is no such statement');
    return row;
  }

  async *#signedFile(actor: Actor, row: StatementRow): AsyncGenerator<Buffer> {
    const signature = row.signature.toString('base64');
    const publicKey = row.publicKey.toString('base64');
    yield Buffer.from(`${row.header}\n${JSON.stringify({ signature, publicKey })}\n`);
    for await (const lines of this.#pages(actor, row.statementId))
      yield Buffer.from(lines.map(lineText).join(''));
  }

  async *#csvLines(actor: Actor, row: StatementRow): AsyncGenerator<string> {
    yield csvLine(['month', 'subscription', 'engine', 'up_bytes', 'down_bytes', 'billable_bytes']);
    for await (const lines of this.#pages(actor, row.statementId))
      for (const line of lines) {
        const { month, subscriptionId, engine, upBytes, downBytes, billableBytes } = line;
        yield csvLine([month, subscriptionId, engine, upBytes, downBytes, billableBytes]);
      }
  }

  async *#pages(actor: Actor, id: StatementId): AsyncGenerator<StatementLine[]> {
    let after: LineKey | null = FIRST_LINE;
    while (after !== null) {
      const from: LineKey = after;
      const page = await this.database.transaction(actor, (acting) =>
        listLines(acting, id, from, LINES_A_PAGE),
      );
      if (page.lines.length > 0) yield page.lines;
      after = page.next;
    }
  }
}

function viewOf({ header, digest, signature }: StatementRow): StatementView {
  const { statementId, month, timeZone, closedAt, lines, linesDigest, usage, corrections, previous, keyId } =
    JSON.parse(header) as StatementHeader;
  return {
    ...{ statementId, month, timeZone, closedAt, lines, linesDigest, usage, corrections, previous, keyId },
    ...{ digest: digest.toString('hex'), signature: signature.toString('base64') },
  };
}

function keyView({ keyId, publicKey, createdAt, retiredAt }: KeyRow) {
  const fingerprint = createHash('sha256').update(publicKey).digest('hex');
  return { keyId, publicKey: publicKey.toString('base64'), fingerprint, createdAt, retiredAt };
}

function nameOf({ header }: StatementRow): string {
  return `statement-${(JSON.parse(header) as StatementHeader).month}`;
}
