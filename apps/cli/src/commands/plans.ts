// Plans: terms on offer.
import type { Command } from 'commander';
import type { NewPlan } from '@penstock/client/gen/api';
import { allRows, type Api } from '../api.js';
import type { Context } from '../main.js';
import { humanBytes, parseBytes, printOne, printRows } from '../output.js';

export function planCommands(program: Command, context: Context): void {
  const plan = program.command('plan').description('terms on offer');
  plan
    .command('create <name>')
    .requiredOption('--limit <bytes>', 'traffic a period: 50GB, 1500MB, unlimited')
    .option('--period <period>', 'none, day, week or month', 'none')
    .option('--engines <list>', 'xray,wireguard', 'xray,wireguard')
    .option('--days <n>', 'duration')
    .option('--devices <n>', 'WireGuard devices', '1')
    .option('--group <id...>', 'node groups (default: the group called "default")')
    .action(async (name: string, options: Record<string, string> & { group?: string[] }) => {
      const api = context.api();
      const groups = options.group ?? (await defaultGroup(api));
      printOne(
        context.output(),
        await api.client.plans.create({
          name,
          limitBytes: parseBytes(options['limit'] ?? '')?.toString() ?? null,
          period: options['period'] as NonNullable<NewPlan['period']>,
          engines: (options['engines'] ?? '').split(',') as NewPlan['engines'],
          deviceLimit: Number(options['devices']),
          ...(options['days'] === undefined ? {} : { durationDays: Number(options['days']) }),
          nodeGroupIds: groups,
        }),
      );
    });
  plan.command('list').action(async () => {
    const out = context.output();
    const rows = await allRows(context.api().client.plans.listAll());
    const shown = out.json
      ? rows
      : rows.map((row) => ({
          ...row,
          limit: row.limitBytes === null ? 'unlimited' : humanBytes(BigInt(row.limitBytes)),
        }));
    printRows(out, shown, {
      planId: 'id',
      name: 'name',
      limit: 'limit',
      period: 'period',
      engines: 'engines',
    });
  });
}

async function defaultGroup({ client }: Api): Promise<string[]> {
  const groups = await allRows(client.nodeGroups.listAll());
  return groups.filter((group) => group.name === 'default').map((group) => group.nodeGroupId);
}
