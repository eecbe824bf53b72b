// Monthly statements: listed, downloaded, and verified without the product. Usage over time and top lists beside them.
import { createReadStream, createWriteStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { pipeline } from 'node:stream/promises';
import type { Command } from 'commander';
import { AppError } from '@penstock/domain/errors';
import { parseId } from '@penstock/domain/ids';
import { verifyStatement, type StatementReport } from '@penstock/ledger/verify-statement';
import type { Context } from '../context.js';
import {
  humanBytes,
  printDone,
  printOne,
  printRows,
  withHumanBytes,
  type Output,
  type Row,
} from '../output.js';

/** A file and what was found in it. */
interface Judged extends StatementReport {
  file: string;
}

export function statementCommands(program: Command, context: Context): void {
  const statement = program.command('statement').description('signed monthly usage');
  statement.command('list').action(async () => {
    const rows = await context.api().list<Row>('/api/v1/statements');
    const shown = context.output().json ? rows : rows.map(shownStatement);
    printRows(context.output(), shown, {
      ...{ statementId: 'id', month: 'month', billable: 'billable', corrected: 'of earlier months' },
      ...{ lines: 'lines', closedAt: 'closed' },
    });
  });
  statement
    .command('preview')
    .description('a month as its statement would be now, unsigned')
    .option('--month <month>', 'as in 2026-10 (default: the current one)')
    .action(async (options: { month?: string }) => {
      const query = options.month === undefined ? '' : `?${new URLSearchParams({ month: options.month })}`;
      const out = context.output();
      printOne(out, withHumanBytes(out, await context.api().read<Row>(`/api/v1/statements/preview${query}`)));
    });
  statement
    .command('keys')
    .description('the keys by which statements are verified')
    .action(async () => {
      const { items } = await context.api().read<{ items: Row[] }>('/api/v1/statements/keys');
      printRows(context.output(), items, {
        ...{ keyId: 'id', fingerprint: 'fingerprint', createdAt: 'made', retiredAt: 'signed until' },
      });
    });
  statement
    .command('key')
    .description('the key that signs statements')
    .command('rotate')
    .description('sign with a new key from now on; what older ones signed goes on verifying (platform owner)')
    .action(async () => {
      const key = await (await context.api().platform()).statements.rotateKey();
      printOne(context.output(), { ...key });
    });
  statement
    .command('download <id>')
    .description('write the signed file, or with --csv the lines for a spreadsheet')
    .requiredOption('--out <file>')
    .option('--csv')
    .action(async (id: string, options: { out: string; csv?: boolean }) => {
      const path = `/api/v1/statements/${parseId(id, 'id')}/file?format=${options.csv === true ? 'csv' : 'json'}`;
      await pipeline(await context.api().download(path), createWriteStream(options.out, { mode: 0o600 }));
      printDone(context.output(), `written to ${options.out}`);
    });
  statement
    .command('verify <files...>')
    .description(
      'check signature, lines and sums of statement files, and the chain between them; asks nobody',
    )
    .option('--key <fingerprint>', 'SHA-256 of the key that must have signed (penstock statement keys)')
    .action(async (files: string[], options: { key?: string }) => {
      const judged: Judged[] = [];
      for (const file of files) judged.push({ file, ...(await verifyStatement(linesOf(file))) });
      for (const one of judged) {
        if (options.key !== undefined && one.keyFingerprint !== options.key.toLowerCase())
          one.problem ??= 'it was signed by another key than the one that was named';
      }
      checkChain(judged);
      tell(context.output(), judged, options.key === undefined);
      if (judged.some((one) => one.problem !== null)) process.exitCode = 1;
    });
  usageCommands(program, context);
}

function usageCommands(program: Command, context: Context): void {
  program
    .command('top')
    .description('who or what used most')
    .option('--by <what>', 'subscription, node, engine or tenant', 'subscription')
    .option('--from <day>', 'first day, as in 2026-10-01 (default: 30 days ago)')
    .option('--to <day>', 'last day (default: today)')
    .option('--all', 'over all tenants (platform)')
    .option('--limit <n>', 'rows', '20')
    .action(async (options: { by: string; from?: string; to?: string; all?: boolean; limit: string }) => {
      const { by, from, to, all, limit } = options;
      const query = new URLSearchParams({
        ...{ by, limit, scope: all === true ? 'all' : 'own' },
        ...(from !== undefined && { from }),
        ...(to !== undefined && { to }),
      });
      const { items } = await context.api().read<{ items: Row[] }>(`/api/v1/usage/top?${query}`);
      const out = context.output();
      const human = (row: Row, field: string): string => humanBytes(BigInt(String(row[field])));
      const shown = out.json
        ? items
        : items.map((row) => ({
            ...row,
            ...{
              up: human(row, 'upBytes'),
              down: human(row, 'downBytes'),
              billable: human(row, 'billableBytes'),
            },
          }));
      printRows(out, shown, { key: by, name: 'name', up: 'up', down: 'down', billable: 'billable' });
    });
}

function shownStatement(row: Row): Row {
  const bytes = (of: unknown): string => humanBytes(BigInt((of as { billableBytes: string }).billableBytes));
  return { ...row, billable: bytes(row['usage']), corrected: bytes(row['corrections']) };
}

async function* linesOf(file: string): AsyncGenerator<string> {
  const input = createReadStream(file);
  try {
    for await (const line of createInterface({ input, crlfDelay: Infinity })) yield line;
  } catch (cause) {
    throw new AppError('invalid_input', `${file} cannot be read`, { cause, field: 'file' });
  } finally {
    input.destroy();
  }
}

/** Statements of one tenant name each other: with both at hand, a later one must name the one before. */
function checkChain(judged: Judged[]): void {
  const sorted = [...judged].sort((a, b) => (a.header.month < b.header.month ? -1 : 1));
  for (const one of sorted) {
    const before = sorted.filter((other) => other.header.tenantId === one.header.tenantId);
    const last = before[before.indexOf(one) - 1];
    if (last === undefined || nextMonth(last.header.month) !== one.header.month) continue;
    if (one.header.previous !== last.digest)
      one.problem ??= `it does not name ${last.file} as the one before`;
  }
}

function nextMonth(month: string): string {
  const [year = 0, number = 0] = month.split('-').map(Number);
  return number === 12 ? `${year + 1}-01` : `${year}-${String(number + 1).padStart(2, '0')}`;
}

function tell(out: Output, judged: readonly Judged[], showKey: boolean): void {
  if (out.json) return out.write(`${JSON.stringify(judged)}\n`);
  for (const { file, header, problem, keyFingerprint } of judged) {
    const { usage, corrections } = header;
    out.write(
      `${file}: ${header.month} of tenant ${header.tenantId}, ${header.lines} lines, ` +
        `${usage.billableBytes} billable bytes, ${corrections.billableBytes} of earlier months\n`,
    );
    if (showKey)
      out.write(`  signed by the key with fingerprint ${keyFingerprint}; compare it with the operator's\n`);
    out.write(problem === null ? '  holds\n' : `  WRONG: ${problem}\n`);
  }
}
