// Nodes, their join tokens and their streams.
import type { Command } from 'commander';
import type { NewNode } from '@penstock/client/gen/api';
import { allRows } from '../api.js';
import type { Context } from '../context.js';
import { printDone, printOne, printRows } from '../output.js';

export function nodeCommands(program: Command, context: Context): void {
  const node = program.command('node').description('machines that carry traffic');
  node.command('list').action(async () =>
    printRows(context.output(), await allRows(context.api().client.nodes.listAll()), {
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
    .action(async (id: string) => printOne(context.output(), await context.api().client.nodes.get(id)));
  node
    .command('create <name>')
    .description('register a node with a VLESS and a WireGuard inbound')
    .requiredOption('--address <host>', 'host name or address that customers connect to')
    .option('--xray-port <port>', 'VLESS port (0: none)', '443')
    .option('--wireguard-port <port>', 'WireGuard port (0: none)', '51820')
    .option('--wireguard-subnet <cidr>', "addresses of the customers' devices", '10.66.0.0/16')
    .option('--group <id...>', 'node groups')
    .action(async (name: string, options: Record<string, string> & { group?: string[] }) => {
      const inbounds: NewNode['inbounds'] = [];
      if (options['xrayPort'] !== '0') {
        inbounds.push({ tag: 'vless', engine: 'xray', port: Number(options['xrayPort']), security: 'none' });
      }
      if (options['wireguardPort'] !== '0') {
        inbounds.push({
          tag: 'wireguard',
          engine: 'wireguard',
          port: Number(options['wireguardPort']),
          subnets: [options['wireguardSubnet'] ?? ''],
        });
      }
      const body = { name, address: options['address'] ?? '', inbounds, nodeGroupIds: options.group ?? [] };
      printOne(context.output(), await context.api().client.nodes.register(body));
    });
  node
    .command('token <nodeId>')
    .description('a one-time join token for the node (secret, shown once)')
    .action(async (id: string) => {
      const out = context.output();
      const answer = await context.api().client.joinTokens.create(id, {});
      out.write(out.json ? JSON.stringify(answer, null, 2) + '\n' : `${String(answer['token'])}\n`);
    });
  node
    .command('tokens <nodeId>')
    .description('the newest join tokens of the node, without their secrets')
    .action(async (id: string) => {
      const { items } = await context.api().client.joinTokens.list(id);
      printRows(context.output(), items, {
        ...{
          joinTokenId: 'id',
          createdAt: 'made',
          expiresAt: 'expires',
          usedAt: 'used',
          revokedAt: 'revoked',
        },
      });
    });
  node.command('revoke-token <nodeId> <joinTokenId>').action(async (id: string, joinTokenId: string) => {
    await context.api().client.joinTokens.revoke(id, joinTokenId);
    printDone(context.output(), 'revoked');
  });
  node
    .command('update <nodeId>')
    .description('change what was registered')
    .option('--name <name>')
    .option('--address <host>')
    .option('--link-mbps <n>', 'usage above what the link carries is quarantined')
    .option('--multiplier <factor>', 'what a byte counts: 1, 0.5, 2.25; holds a few minutes from now on')
    .action(async (id: string, options: Record<string, string | undefined>) => {
      const { name, address, linkMbps, multiplier } = options;
      const body = {
        ...(name === undefined ? {} : { name }),
        ...(address === undefined ? {} : { address }),
        ...(linkMbps === undefined ? {} : { linkMbps: Number(linkMbps) }),
        ...(multiplier === undefined ? {} : { multiplierPerMille: Math.round(Number(multiplier) * 1000) }),
      };
      printOne(context.output(), await context.api().client.nodes.change(id, body));
    });
  for (const [act, description] of [
    ['drain', 'take no new customers; those that are there go on'],
    ['maintenance', 'serve nobody until it is activated again'],
    ['activate', 'end drain or maintenance'],
  ] as const) {
    node
      .command(`${act} <nodeId>`)
      .description(description)
      .action(async (id: string) => {
        const answer = await context.api().client.nodes[act](id);
        const out = context.output();
        if (out.json) return printOne(out, answer);
        out.write(`${answer.name}: ${answer.state}\n`);
      });
  }
  node
    .command('status <nodeId>')
    .description('heartbeat, engines, certificate, stream, and whether the node waits for your approval')
    .action(async (id: string) => printOne(context.output(), await context.api().client.nodes.status(id)));
  node
    .command('approve <nodeId>')
    .description('let a node whose certificate ran out have one for the key that its status shows')
    .requiredOption('--key <fingerprint>', 'compare it with the one in the log of the node')
    .action(async (id: string, { key }: { key: string }) => {
      const approved = await context.api().client.nodes.approve(id, { keyFingerprint: key });
      printOne(context.output(), approved);
    });
  const stream = node.command('stream').description("the node's stream of usage");
  stream
    .command('release <nodeId>')
    .description('let a frozen stream go on, in a new epoch, when the node opens it again (within a minute)')
    .action(async (id: string) =>
      printOne(context.output(), await context.api().client.nodes.releaseStream(id)),
    );
  node
    .command('delete <nodeId>')
    .description('delete a revoked node; its usage stays')
    .action(async (id: string) => {
      await context.api().client.nodes.delete(id);
      printDone(context.output(), 'deleted');
    });
  node
    .command('revoke <nodeId>')
    .description("revoke the node's certificates and close its streams")
    .requiredOption('--reason <text>')
    .action(async (id: string, options: { reason: string }) =>
      printOne(context.output(), await context.api().client.nodes.revoke(id, options)),
    );
}
