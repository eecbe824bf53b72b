// Tenants, for people with a place in the platform; they manage them from whatever tenant they act in.
import type { Command } from 'commander';
import type { Client, Tenant, TenantChange } from '@penstock/client/gen/api';
import { allRows } from '../api.js';
import type { Context } from '../context.js';
import { parseBytes, printOne, printRows, withHumanBytes } from '../output.js';

interface LimitOptions {
  subscriptions?: string;
  nodes?: string;
  pool?: string;
  apiPerMinute?: string;
}

export function tenantCommands(program: Command, context: Context): void {
  const tenant = program.command('tenant').description('customers of the platform');
  const tenants = async (): Promise<Client['tenants']> => (await context.api().platform()).tenants;
  const print = (answer: Tenant): void => {
    const out = context.output();
    printOne(out, withHumanBytes(out, answer));
  };
  const limited = (command: Command): Command =>
    command
      .option('--subscriptions <n>', 'at most so many; "unlimited"')
      .option('--nodes <n>', 'own nodes at most; "unlimited"')
      .option('--pool <bytes>', 'billable bytes of a calendar month: 50TB, unlimited')
      .option('--api-per-minute <n>', 'requests of its people and keys; "unlimited"');
  limited(tenant.command('create <name>'))
    .description('make a tenant')
    .option('--time-zone <zone>', 'IANA time zone of periods (default: that of the settings)')
    .action(async (name: string, options: LimitOptions & { timeZone?: string }) => {
      const { timeZone } = options;
      const body = { name, ...(timeZone === undefined ? {} : { timeZone }), ...limitsOf(options) };
      print(await (await tenants()).create(body));
    });
  tenant
    .command('list')
    .description('all tenants')
    .action(async () =>
      printRows(context.output(), await allRows((await tenants()).listAll()), {
        ...{ tenantId: 'id', name: 'name', state: 'state', timeZone: 'time zone', createdAt: 'created' },
      }),
    );
  tenant
    .command('show <tenantId>')
    .description('one tenant and its limits')
    .action(async (id: string) => print(await (await tenants()).get(id)));
  limited(tenant.command('update <tenantId>'))
    .description('change name, time zone or limits')
    .option('--name <name>')
    .option('--time-zone <zone>', 'IANA time zone of periods')
    .action(async (id: string, options: LimitOptions & { name?: string; timeZone?: string }) => {
      const { name, timeZone } = options;
      const body = {
        ...(name === undefined ? {} : { name }),
        ...(timeZone === undefined ? {} : { timeZone }),
        ...limitsOf(options),
      };
      const of = await tenants();
      const { version } = await of.get(id);
      print(await of.change(id, body, { ifMatch: version }));
    });
  tenant
    .command('suspend <tenantId>')
    .description('cut all its subscriptions on all nodes; nobody changes anything in it until it is resumed')
    .option('--reason <text>', 'for the audit log', '')
    .action(async (id: string, { reason }: { reason: string }) =>
      print(await (await tenants()).suspend(id, { reason })),
    );
  tenant
    .command('resume <tenantId>')
    .description('give back what suspension took')
    .action(async (id: string) => print(await (await tenants()).resume(id)));
}

function limitsOf({ subscriptions, nodes, pool, apiPerMinute }: LimitOptions): Pick<TenantChange, 'limits'> {
  const limits = {
    ...(subscriptions === undefined ? {} : { subscriptions: count(subscriptions) }),
    ...(nodes === undefined ? {} : { nodes: count(nodes) }),
    ...(pool === undefined ? {} : { poolBytes: parseBytes(pool)?.toString() ?? null }),
    ...(apiPerMinute === undefined ? {} : { apiPerMinute: count(apiPerMinute) }),
  };
  return Object.keys(limits).length === 0 ? {} : { limits };
}

/** null for "unlimited". Throws RangeError. */
function count(text: string): number | null {
  if (text === 'unlimited') return null;
  if (!/^\d{1,15}$/.test(text)) throw new RangeError(`${text} is no number (or "unlimited")`);
  return Number(text);
}
