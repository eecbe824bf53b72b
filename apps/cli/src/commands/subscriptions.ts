// Subscriptions: one end customer's right to use; his usage, and how far his access was enforced.
import type { Command } from 'commander';
import type { Context } from '../main.js';
import { humanBytes, parseBytes, printOne, printRows, type Row } from '../output.js';

const base = '/api/v1/subscriptions';

interface Access {
  items: { nodeName: string; address: string; vless: { uri: string }[]; wireguard: { conf: string }[] }[];
}

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
      printOne(context.output(), await context.api().request<Row>('POST', base, body));
    });
  subscription.command('list').action(async () => {
    const out = context.output();
    const rows = await context.api().list<Row>(base);
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
      printOne(context.output(), await context.api().request<Row>('GET', `${base}/${id}`)),
    );
  subscription
    .command('access <id>')
    .description('links and WireGuard configuration of the customer (secret)')
    .action(async (id: string) => {
      const answer = await context.api().request<Access>('GET', `${base}/${id}/access`);
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
      printOne(
        context.output(),
        await context.api().request<Row>('POST', `${base}/${id}/devices`, { ...options }),
      ),
    );
  subscription
    .command('update <id>')
    .option('--limit <bytes>', '50GB, unlimited')
    .option('--state <state>', 'active or disabled')
    .option('--name <name>')
    .action(async (id: string, options: { limit?: string; state?: string; name?: string }) => {
      const api = context.api();
      const { etag } = await api.getWithTag(`${base}/${id}`);
      const body = {
        ...(options.limit === undefined ? {} : { limitBytes: parseBytes(options.limit)?.toString() ?? null }),
        ...(options.state === undefined ? {} : { adminState: options.state }),
        ...(options.name === undefined ? {} : { name: options.name }),
      };
      printOne(
        context.output(),
        await api.request<Row>('PATCH', `${base}/${id}`, body, { 'if-match': etag }),
      );
    });
  subscription.command('delete <id>').action(async (id: string) => {
    const api = context.api();
    const { etag } = await api.getWithTag(`${base}/${id}`);
    await api.request('DELETE', `${base}/${id}`, undefined, { 'if-match': etag });
    context.output().write('deleted; usage that still arrives is billed\n');
  });
  subscription
    .command('enforcement <id>')
    .description('how far the last changes of access are confirmed, and how long they took')
    .action(async (id: string) => {
      const out = context.output();
      const answer = await context.api().request<Row & { items: Row[] }>('GET', `${base}/${id}/enforcement`);
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
      const usage = await context.api().request<Row>('GET', `${base}/${id}/usage`);
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
