// Node groups, and usage in quarantine.
import type { Command } from 'commander';
import type { QuarantineReleaseBody } from '@penstock/client/gen/api';
import { allRows } from '../api.js';
import type { Context } from '../context.js';
import { printDone, humanBytes, printOne, printRows, type Row } from '../output.js';

export function groupCommands(program: Command, context: Context): void {
  const group = program.command('group').description('node groups that plans refer to');
  group
    .command('create <name>')
    .action(async (name: string) =>
      printOne(context.output(), await context.api().client.nodeGroups.create({ name })),
    );
  group.command('add <groupId> <nodeId>').action(async (groupId: string, nodeId: string) => {
    await context.api().client.nodeGroups.addNode(groupId, { nodeId });
    printDone(context.output(), 'added');
  });
  group.command('list').action(async () =>
    printRows(context.output(), await allRows(context.api().client.nodeGroups.listAll()), {
      nodeGroupId: 'id',
      name: 'name',
      nodeIds: 'nodes',
    }),
  );
  group
    .command('rename <groupId> <name>')
    .action(async (groupId: string, name: string) =>
      printOne(context.output(), await context.api().client.nodeGroups.rename(groupId, { name })),
    );
  group.command('remove <groupId> <nodeId>').action(async (groupId: string, nodeId: string) => {
    await context.api().client.nodeGroups.removeNode(groupId, nodeId);
    printDone(context.output(), 'removed');
  });
  group
    .command('delete <groupId>')
    .description('delete a group that no plan uses')
    .action(async (groupId: string) => {
      await context.api().client.nodeGroups.delete(groupId);
      printDone(context.output(), 'deleted');
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
      const rows = await allRows(context.api().client.quarantine.listAll());
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
        ...(reason === undefined ? {} : { reason: reason as NonNullable<QuarantineReleaseBody['reason']> }),
      };
      printOne(context.output(), await context.api().client.quarantine.release(body));
    });
}
