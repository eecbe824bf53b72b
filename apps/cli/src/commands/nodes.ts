// Nodes and join tokens.
import type { Command } from 'commander';
import type { Context } from '../main.js';
import { printOne, printRows, type Row } from '../output.js';

export function nodeCommands(program: Command, context: Context): void {
  const node = program.command('node').description('machines that carry traffic');
  node.command('list').action(async () =>
    printRows(context.output(), await context.api().list<Row>('/api/v1/nodes'), {
      nodeId: 'id',
      name: 'name',
      address: 'address',
      state: 'state',
      online: 'online',
      shared: 'shared',
    }),
  );
  node
    .command('show <id>')
    .action(async (id: string) =>
      printOne(context.output(), await context.api().request<Row>('GET', `/api/v1/nodes/${id}`)),
    );
  node
    .command('create <name>')
    .description('register a node with a VLESS and a WireGuard inbound')
    .requiredOption('--address <host>', 'host name or address that customers connect to')
    .option('--xray-port <port>', 'VLESS port (0: none)', '443')
    .option('--wireguard-port <port>', 'WireGuard port (0: none)', '51820')
    .option('--wireguard-subnet <cidr>', "addresses of the customers' devices", '10.66.0.0/16')
    .option('--group <id...>', 'node groups')
    .action(async (name: string, options: Record<string, string> & { group?: string[] }) => {
      const inbounds: Row[] = [];
      if (options['xrayPort'] !== '0') {
        inbounds.push({ tag: 'vless', engine: 'xray', port: Number(options['xrayPort']), security: 'none' });
      }
      if (options['wireguardPort'] !== '0') {
        inbounds.push({
          tag: 'wireguard',
          engine: 'wireguard',
          port: Number(options['wireguardPort']),
          subnets: [options['wireguardSubnet']],
        });
      }
      const body = { name, address: options['address'], inbounds, nodeGroupIds: options.group ?? [] };
      printOne(context.output(), await context.api().request<Row>('POST', '/api/v1/nodes', body));
    });
  node
    .command('token <nodeId>')
    .description('a one-time join token for the node (secret, shown once)')
    .action(async (id: string) => {
      const out = context.output();
      const answer = await context.api().request<Row>('POST', `/api/v1/nodes/${id}/join-tokens`, {});
      out.write(out.json ? JSON.stringify(answer, null, 2) + '\n' : `${String(answer['token'])}\n`);
    });
  node
    .command('revoke <nodeId>')
    .description("revoke the node's certificates and close its streams")
    .requiredOption('--reason <text>')
    .action(async (id: string, options: { reason: string }) =>
      printOne(
        context.output(),
        await context.api().request<Row>('POST', `/api/v1/nodes/${id}/revoke`, options),
      ),
    );

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
}
