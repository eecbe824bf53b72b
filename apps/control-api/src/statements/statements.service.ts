// Statements as a tenant reads them: pages, the signed file, a look at the running month; and the platform's replacing of
// the key that signs them. A file streams; each of its pages is a short transaction of its own, which is as good as one
// long one because lines never change.
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { Injectable, StreamableFile } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { lineText, type StatementHeader, type StatementLine } from '@penstock/domain/statement';
import { newStatementKey } from '@penstock/service/statement-key';
import { appendAudit } from '../audit/audit.store.js';
import { Context } from '../context.js';
import { Database } from '../database.js';
import type { Actor } from '../http/actor.js';
import { csvFile, csvLine } from '../http/csv.js';
import { pageOf, type Page, type PageQuery } from '../http/fields.js';
import type { StatementId } from './statements.schema.js';
import {
  findPreview,
  findStatement,
  FIRST_LINE,
  insertKey,
  listKeys,
  listLines,
  listStatements,
  lockKeys,
  retireKeys,
  type KeyRow,
  type LineKey,
  type StatementRow,
} from './statements.store.js';

/** Lines of one transaction of a file. */
const LINES_A_PAGE = 5_000;
/** A month's late usage is waited for this long (scheduler, statements/close.ts). */
const GRACE_MS = 48 * 3_600_000;
/** All that are published: as many rotations. */
const KEYS_MAX = 1_000;

export interface StatementView extends Omit<StatementHeader, 'format' | 'tenantId'> {
  digest: string;
  signature: string;
}

export interface KeyView extends Omit<KeyRow, 'publicKey'> {
  publicKey: string;
  fingerprint: string;
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
  constructor(
    private readonly context: Context,
    private readonly database: Database,
  ) {}

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

  /** Newest first; retired ones too, for what they signed. */
  async keys(actor: Actor): Promise<{ items: KeyView[] }> {
    const rows = await this.database.transaction(actor, (acting) => listKeys(acting, KEYS_MAX));
    return { items: rows.map(keyView) };
  }

  /** A new key signs from now on; a statement that is being closed is waited for. Throws limit_reached. */
  rotateKey(actor: Actor): Promise<KeyView> {
    return this.database.transaction(actor, async (acting) => {
      await lockKeys(acting);
      const before = await listKeys(acting, KEYS_MAX);
      if (before.length >= KEYS_MAX) {
        throw new AppError('limit_reached', `${KEYS_MAX} statement keys are published, and none may go`);
      }
      const made = newStatementKey(this.context.config.DATA_KEY);
      await retireKeys(acting);
      await insertKey(acting, made);
      const { keyId, publicKey } = made;
      const after = keyView({ keyId, publicKey, createdAt: acting.at, retiredAt: null });
      await appendAudit(acting, {
        ...{ action: 'statement_key.rotate', entity: 'statement_key', entityId: keyId },
        before: { keyIds: before.filter((key) => key.retiredAt === null).map((key) => key.keyId) },
        after: { keyId, fingerprint: after.fingerprint },
      });
      return after;
    });
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

function keyView({ keyId, publicKey, createdAt, retiredAt }: KeyRow): KeyView {
  const fingerprint = createHash('sha256').update(publicKey).digest('hex');
  return { keyId, publicKey: publicKey.toString('base64'), fingerprint, createdAt, retiredAt };
}

function nameOf({ header }: StatementRow): string {
  return `statement-${(JSON.parse(header) as StatementHeader).month}`;
}
