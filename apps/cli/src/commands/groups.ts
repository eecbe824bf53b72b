// Node groups, and usage in quarantine.
import type { Command } from 'commander';
import type { Context } from '../main.js';
import { humanBytes, printOne, printRows, type Row } from '../output.js';

export function groupCommands(program: Command, context: Context): void {
  const group = program.command('group').description('node groups that plans refer to');
  group
    .command('create <name>')
    .action(async (name: string) =>
      printOne(context.output(), await context.api().request<Row>('POST', '/api/v1/node-groups', { name })),
    );
  group.command('add <groupId> <nodeId>').action(async (groupId: string, nodeId: string) => {
    await context.api().request('POST', `/api/v1/node-groups/${groupId}/nodes`, { nodeId });
    context.output().write('added\n');
  });
  group.command('list').action(async () =>
    printRows(context.output(), await context.api().list<Row>('/api/v1/node-groups'), {
      nodeGroupId: 'id',
      name: 'name',
      nodeIds: 'nodes',
    }),
  );
  group
    .command('rename <groupId> <name>')
    .action(async (groupId: string, name: string) =>
      printOne(
        context.output(),
        await context.api().request<Row>('PATCH', `/api/v1/node-groups/${groupId}`, { name }),
      ),
    );
  group.command('remove <groupId> <nodeId>').action(async (groupId: string, nodeId: string) => {
    await context.api().request('DELETE', `/api/v1/node-groups/${groupId}/nodes/${nodeId}`);
    context.output().write('removed\n');
  });
  group
    .command('delete <groupId>')
    .description('delete a group that no plan uses')
    .action(async (groupId: string) => {
      await context.api().request('DELETE', `/api/v1/node-groups/${groupId}`);
      context.output().write('deleted\n');
    });
}

export function quarantineCommands(program: Command, context: Context): void {
  const quarantine = program.command('quarantine').description('usage that is kept but not billed');
  quarantine
    .command('list')
    .description('what waits; --all: with what was released')
    .option('--all')
    .action(async (options: { all?: true }) => {
      const out = context.output();
      const rows = await context.api().list<Row>('/api/v1/quarantine');
      const wanted = options.all === true ? rows : rows.filter((row) => row['releasedAt'] === null);
      const bytes = (row: Row): string =>
        humanBytes(BigInt(String(row['upBytes'])) + BigInt(String(row['downBytes'])));
      printRows(out, out.json ? wanted : wanted.map((row) => ({ ...row, bytes: bytes(row) })), {
        ...{ quarantineId: 'id', nodeId: 'node', subscriptionId: 'subscription', bytes: 'bytes' },
        ...{ reason: 'reason', createdAt: 'since', releasedAt: 'released' },
      });
    });
  quarantine
    .command('release')
    .description('have it billed, each row once')
    .option('--id <id...>')
    .option('--node <id>')
    .option('--subscription <id>')
    .option('--reason <reason>', 'not_assigned, above_link_rate or no_period')
    .action(async (options: { id?: string[]; node?: string; subscription?: string; reason?: string }) => {
      const { id, node, subscription, reason } = options;
      const body = {
        ...(id === undefined ? {} : { quarantineIds: id }),
        ...(node === undefined ? {} : { nodeId: node }),
        ...(subscription === undefined ? {} : { subscriptionId: subscription }),
        ...(reason === undefined ? {} : { reason }),
      };
      printOne(
        context.output(),
        await context.api().request<Row>('POST', '/api/v1/quarantine/release', body),
      );
    });
}
