// Plans: terms on offer.
import type { Command } from 'commander';
import type { NewPlan, Plan } from '@penstock/client/gen/api';
import { allRows, type Api } from '../api.js';
import type { Context } from '../context.js';
import { humanLimit, parseBytes, printDone, printOne, printRows, withHumanBytes } from '../output.js';

export function planCommands(program: Command, context: Context): void {
  const plan = program.command('plan').description('terms on offer');
  const print = (answer: Plan): void => {
    const out = context.output();
    printOne(out, withHumanBytes(out, answer));
  };
  plan
    .command('create <name>')
    .description('offer something')
    .requiredOption('--limit <bytes>', 'traffic a period: 50GB, 1500MB, unlimited')
    .option('--period <period>', 'none, day, week or month', 'none')
    .option('--engines <list>', 'xray,wireguard', 'xray,wireguard')
    .option('--days <n>', 'duration')
    .option('--devices <n>', 'WireGuard devices', '1')
    .option('--group <id...>', 'node groups (default: the group called "default")')
    .action(async (name: string, options: Record<string, string> & { group?: string[] }) => {
      const api = context.api();
      const groups = options.group ?? (await defaultGroup(api));
      print(
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
    const shown = out.json ? rows : rows.map((row) => ({ ...row, limit: humanLimit(row.limitBytes) }));
    printRows(out, shown, {
      planId: 'id',
      name: 'name',
      limit: 'limit',
      period: 'period',
      engines: 'engines',
    });
  });
  plan
    .command('show <id>')
    .description('one plan')
    .action(async (id: string) => print(await context.api().client.plans.get(id)));
  plan
    .command('archive <id>')
    .description('offer it no longer; subscriptions that were made from it go on')
    .action(async (id: string) => {
      const { plans } = context.api().client;
      const { version } = await plans.get(id);
      await plans.delete(id, { ifMatch: version });
      printDone(context.output(), 'archived');
    });
}

async function defaultGroup({ client }: Api): Promise<string[]> {
  const groups = await allRows(client.nodeGroups.listAll());
  return groups.filter((group) => group.name === 'default').map((group) => group.nodeGroupId);
}
