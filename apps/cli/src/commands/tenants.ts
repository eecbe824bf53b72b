// Tenants, for members of the platform tenant.
import type { Command } from 'commander';
import { allRows } from '../api.js';
import type { Context } from '../main.js';
import { printOne, printRows } from '../output.js';

export function tenantCommands(program: Command, context: Context): void {
  const tenant = program.command('tenant').description('customers of the platform');
  tenant
    .command('create <name>')
    .option('--time-zone <zone>', 'IANA time zone of periods', 'UTC')
    .action(async (name: string, options: { timeZone: string }) => {
      const body = { name, timeZone: options.timeZone };
      printOne(context.output(), await context.api().client.tenants.create(body));
    });
  tenant.command('list').action(async () =>
    printRows(context.output(), await allRows(context.api().client.tenants.listAll()), {
      tenantId: 'id',
      name: 'name',
      state: 'state',
      createdAt: 'created',
    }),
  );
  tenant
    .command('show <tenantId>')
    .action(async (id: string) => printOne(context.output(), await context.api().client.tenants.get(id)));
}
