// The audit log: searched over the API, verified on the host without it.
import type { Command } from 'commander';
import { parseId, type TenantId } from '@penstock/domain/ids';
import { auditEnds, readHeads, verifyAudit, type TenantReport } from '../host/audit-verify.js';
import { withHost } from '../host/database.js';
import type { Context } from '../context.js';
import { printRows, type Output, type Row } from '../output.js';

export function auditCommands(program: Command, context: Context): void {
  const audit = program.command('audit').description('who did what, and the proof that nobody changed it');
  audit
    .command('list')
    .option('--action <noun.verb>')
    .option('--entity <noun>')
    .option('--limit <rows>', 'newest rows, 200 at most', '50')
    .action(async (options: { action?: string; entity?: string; limit: string }) => {
      const query = new URLSearchParams(options as Record<string, string>);
      const page = await context.api().read<{ items: Row[] }>(`/api/v1/audit?${query}`);
      printRows(context.output(), page.items, {
        ...{ seq: 'row', at: 'time', action: 'action', entityId: 'object' },
        ...{ accountName: 'who', ip: 'from' },
      });
    });
  audit
    .command('verify')
    .description('walk the hash chains in the database; names the first wrong row')
    .option('--tenant <id>', 'only this one')
    .option('--head <file>', 'heads that were kept elsewhere: finds rows cut off the end')
    .action(async (options: { tenant?: string; head?: string }) => {
      const out = context.output();
      const only = options.tenant === undefined ? undefined : parseId<TenantId>(options.tenant, 'tenant');
      const heads = options.head === undefined ? new Map() : await readHeads(options.head);
      await withHost(context, async (pool) => {
        const reports: TenantReport[] = [];
        for await (const report of verifyAudit(pool, only, heads)) {
          reports.push(report);
          if (!out.json) out.write(lineOf(report));
        }
        tell(out, reports);
        if (reports.some((report) => !report.ok)) process.exitCode = 1;
      });
    });
  audit
    .command('heads')
    .description('the ends of all chains as they are now, for a file that is kept elsewhere')
    .action(async () => {
      const out = context.output();
      await withHost(context, async (pool) => {
        for await (const { tenantId, seq, hash } of auditEnds(pool))
          out.write(`${JSON.stringify({ tenantId, seq: seq.toString(), hash: hash.toString('hex') })}\n`);
      });
    });
}

function lineOf({ tenantId, name, rows, ok, firstWrongSeq, reason }: TenantReport): string {
  const head = `tenant ${tenantId}${name === '' ? '' : ` (${name})`}: ${rows} rows`;
  return ok ? `${head}\n` : `${head}\n  WRONG at row ${firstWrongSeq}: ${reason}\n`;
}

function tell(out: Output, reports: readonly TenantReport[]): void {
  if (out.json) {
    const plain = reports.map((report) => ({
      ...report,
      firstWrongSeq: report.firstWrongSeq?.toString() ?? null,
      lastSeq: report.lastSeq.toString(),
    }));
    return out.write(`${JSON.stringify({ tenants: plain })}\n`);
  }
  const wrong = reports.filter((report) => !report.ok).length;
  if (reports.length === 0) return out.write('nothing to verify: there is no tenant yet\n');
  out.write(
    wrong === 0 ? `${reports.length} chains verified\n` : `${wrong} of ${reports.length} chains are wrong\n`,
  );
}
