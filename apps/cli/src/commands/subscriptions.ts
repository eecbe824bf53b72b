// Subscriptions: one end customer's right to use; his usage, and how far his access was enforced.
import type { Command } from 'commander';
import type { SubscriptionChange } from '@penstock/client/gen/api';
import { allRows } from '../api.js';
import type { Context } from '../main.js';
import { humanBytes, parseBytes, printOne, printRows } from '../output.js';

export function subscriptionCommands(program: Command, context: Context): void {
  const subscription = program.command('subscription').description("end customers' right to use");
  subscription
    .command('create <name>')
    .requiredOption('--plan <id>')
    .option('--external-ref <text>')
    .action(async (name: string, options: { plan: string; externalRef?: string }) => {
      const body = {
        name,
        planId: options.plan,
        ...(options.externalRef === undefined ? {} : { externalRef: options.externalRef }),
      };
      printOne(context.output(), await context.api().client.subscriptions.create(body));
    });
  subscription.command('list').action(async () => {
    const out = context.output();
    const rows = await allRows(context.api().client.subscriptions.listAll());
    printRows(out, rows, {
      subscriptionId: 'id',
      name: 'name',
      state: 'state',
      adminState: 'admin',
      limitBytes: 'limit',
    });
  });
  subscription
    .command('show <id>')
    .action(async (id: string) =>
      printOne(context.output(), await context.api().client.subscriptions.get(id)),
    );
  subscription
    .command('access <id>')
    .description('links and WireGuard configuration of the customer (secret)')
    .action(async (id: string) => {
      const answer = await context.api().client.access.get(id);
      const out = context.output();
      if (out.json) return out.write(JSON.stringify(answer, null, 2) + '\n');
      for (const node of answer.items) {
        out.write(`# ${node.nodeName} (${node.address})\n`);
        for (const { uri } of node.vless) out.write(`${uri}\n`);
        for (const { conf } of node.wireguard) out.write(`${conf}\n`);
      }
    });
  subscription
    .command('device <id>')
    .description('add a WireGuard device')
    .option('--name <name>', 'name of the device', 'device')
    .option('--public-key <key>', "the customer's own key; otherwise a pair is made")
    .action(async (id: string, options: { name: string; publicKey?: string }) =>
      printOne(context.output(), await context.api().client.devices.add(id, { ...options })),
    );
  subscription
    .command('update <id>')
    .option('--limit <bytes>', '50GB, unlimited')
    .option('--state <state>', 'active or disabled')
    .option('--name <name>')
    .action(async (id: string, options: { limit?: string; state?: string; name?: string }) => {
      const api = context.api();
      const { version } = await api.client.subscriptions.get(id);
      const body = {
        ...(options.limit === undefined ? {} : { limitBytes: parseBytes(options.limit)?.toString() ?? null }),
        ...(options.state === undefined
          ? {}
          : { adminState: options.state as NonNullable<SubscriptionChange['adminState']> }),
        ...(options.name === undefined ? {} : { name: options.name }),
      };
      printOne(context.output(), await api.client.subscriptions.change(id, body, { ifMatch: version }));
    });
  subscription.command('delete <id>').action(async (id: string) => {
    const api = context.api();
    const { version } = await api.client.subscriptions.get(id);
    await api.client.subscriptions.delete(id, { ifMatch: version });
    context.output().write('deleted; usage that still arrives is billed\n');
  });
  subscription
    .command('enforcement <id>')
    .description('how far the last changes of access are confirmed, and how long they took')
    .action(async (id: string) => {
      const out = context.output();
      const answer = await context.api().client.enforcement.get(id);
      if (out.json) return out.write(JSON.stringify(answer, null, 2) + '\n');
      out.write(`${String(answer['state'])}${answer['ms'] === null ? '' : `, ${String(answer['ms'])} ms`}\n`);
      printRows(out, answer.items, {
        nodeId: 'node',
        revision: 'revision',
        kind: 'kind',
        state: 'state',
        sessionsEnded: 'sessions',
        cutUs: 'cut µs',
        provenUs: 'proven µs',
        reason: 'reason',
      });
    });

  program
    .command('usage <subscriptionId>')
    .description(
      'bytes of the current period. WireGuard counts encrypted payload with handshakes, Xray inner payload',
    )
    .action(async (id: string) => {
      const out = context.output();
      const usage = await context.api().client.usage.get(id);
      if (out.json) return out.write(JSON.stringify(usage, null, 2) + '\n');
      const human = Object.fromEntries(
        Object.entries(usage).map(([key, value]) => [
          key,
          key.endsWith('Bytes') && typeof value === 'string'
            ? `${value}  (${humanBytes(BigInt(value))})`
            : value,
        ]),
      );
      printOne(out, human);
    });
}
