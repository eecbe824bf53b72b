// Tenants, for members of the platform tenant.
import type { Command } from 'commander';
import type { Context } from '../main.js';
import { printOne, printRows, type Row } from '../output.js';

export function tenantCommands(program: Command, context: Context): void {
  const tenant = program.command('tenant').description('customers of the platform');
  tenant
    .command('create <name>')
    .option('--time-zone <zone>', 'IANA time zone of periods', 'UTC')
    .action(async (name: string, options: { timeZone: string }) => {
      const body = { name, timeZone: options.timeZone };
      printOne(context.output(), await context.api().request<Row>('POST', '/api/v1/tenants', body));
    });
  tenant.command('list').action(async () =>
    printRows(context.output(), await context.api().list<Row>('/api/v1/tenants'), {
      tenantId: 'id',
      name: 'name',
      state: 'state',
      createdAt: 'created',
    }),
  );
  tenant
    .command('show <tenantId>')
    .action(async (id: string) =>
      printOne(context.output(), await context.api().request<Row>('GET', `/api/v1/tenants/${id}`)),
    );
}
