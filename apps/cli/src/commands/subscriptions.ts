// Subscriptions: one end customer's right to use; his usage, and how far his access was enforced.
import type { Command } from 'commander';
import type { Subscription, SubscriptionChange } from '@penstock/client/gen/api';
import { allRows } from '../api.js';
import type { Context } from '../context.js';
import { actCommands, deviceCommands } from './subscription-acts.js';
import { humanLimit, parseBytes, printDone, printOne, printRows, withHumanBytes } from '../output.js';

type State = NonNullable<Subscription['state']>;

interface CreateOptions {
  plan: string;
  externalRef?: string;
  expires?: string;
  onHold?: true;
}

interface ListOptions {
  state?: string;
  plan?: string;
  search?: string;
}

interface UpdateOptions {
  limit?: string;
  state?: string;
  name?: string;
  expires?: string;
  nextPlan?: string;
}

export function subscriptionCommands(program: Command, context: Context): void {
  const subscription = program.command('subscription').description("end customers' right to use");
  const print = (answer: Subscription): void => {
    const out = context.output();
    printOne(out, withHumanBytes(out, answer));
  };
  subscription
    .command('create <name>')
    .description('make one from a plan')
    .requiredOption('--plan <id>')
    .option('--external-ref <text>', 'what your own system calls it')
    .option('--expires <time>', 'RFC 3339, or "never" (default: as the plan says)')
    .option('--on-hold', 'it starts at its first use')
    .action(async (name: string, options: CreateOptions) => {
      const { plan, externalRef, expires, onHold } = options;
      const body = {
        ...{ name, planId: plan },
        ...(externalRef === undefined ? {} : { externalRef }),
        ...(expires === undefined ? {} : { expiresAt: timeOf(expires) }),
        ...(onHold === undefined ? {} : { onHold }),
      };
      print(await context.api().client.subscriptions.create(body));
    });
  subscription
    .command('create-many <pattern>')
    .description('make many from a plan, all or none: "customer-{n}" is numbered')
    .requiredOption('--plan <id>')
    .requiredOption('--count <n>', '10,000 at most')
    .option('--first <n>', 'the first number', '1')
    .action(async (pattern: string, options: { plan: string; count: string; first: string }) => {
      const { plan, count, first } = options;
      const body = { planId: plan, namePattern: pattern, count: Number(count), first: Number(first) };
      const made = await context.api().client.bulk.create(body);
      const out = context.output();
      if (out.json) return printOne(out, made);
      for (const id of made.subscriptionIds) out.write(`${id}\n`);
    });
  subscription
    .command('list')
    .description('the first ten thousand of those that are asked for')
    .option('--state <state>', 'on_hold, active, limited, expired or disabled')
    .option('--plan <id>')
    .option('--search <text>', 'what the name or the reference begins with')
    .action(async ({ state, plan, search }: ListOptions) => {
      const out = context.output();
      const query = { state: state as State | undefined, planId: plan, q: search };
      const rows = await allRows(context.api().client.subscriptions.listAll(query));
      const shown = out.json ? rows : rows.map((row) => ({ ...row, limit: humanLimit(row.limitBytes) }));
      printRows(out, shown, {
        ...{ subscriptionId: 'id', name: 'name', state: 'state', adminState: 'admin' },
        ...{ limit: 'limit', period: 'period', expiresAt: 'expires' },
      });
    });
  subscription
    .command('show <id>')
    .description('one subscription')
    .action(async (id: string) => print(await context.api().client.subscriptions.get(id)));
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
      for (const engine of answer.missingEngines) out.write(`# no node offers ${engine} now\n`);
    });
  subscription
    .command('update <id>')
    .description('change what it was given')
    .option('--limit <bytes>', '50GB, unlimited')
    .option('--state <state>', 'active or disabled')
    .option('--name <name>')
    .option('--expires <time>', 'RFC 3339, or "never"')
    .option('--next-plan <id>', 'what it goes on with afterwards; "none"')
    .action(async (id: string, options: UpdateOptions) => {
      const { limit, state, name, expires, nextPlan } = options;
      const api = context.api();
      const { version } = await api.client.subscriptions.get(id);
      const body = {
        ...(limit === undefined ? {} : { limitBytes: parseBytes(limit)?.toString() ?? null }),
        ...(state === undefined
          ? {}
          : { adminState: state as NonNullable<SubscriptionChange['adminState']> }),
        ...(name === undefined ? {} : { name }),
        ...(expires === undefined ? {} : { expiresAt: timeOf(expires) }),
        ...(nextPlan === undefined ? {} : { nextPlanId: nextPlan === 'none' ? null : nextPlan }),
      };
      print(await api.client.subscriptions.change(id, body, { ifMatch: version }));
    });
  subscription
    .command('delete <id>')
    .description('delete it; usage that still arrives is billed')
    .action(async (id: string) => {
      const api = context.api();
      const { version } = await api.client.subscriptions.get(id);
      await api.client.subscriptions.delete(id, { ifMatch: version });
      printDone(context.output(), 'deleted; usage that still arrives is billed');
    });
  actCommands(subscription, context);
  deviceCommands(subscription, context);
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
      printOne(out, withHumanBytes(out, usage));
    });
}

/** null for "never"; the API judges the rest. */
function timeOf(text: string): string | null {
  return text === 'never' ? null : text;
}
