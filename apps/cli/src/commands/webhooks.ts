// Webhooks of the tenant, and what came of their deliveries.
import { setTimeout as delay } from 'node:timers/promises';
import type { Command } from 'commander';
import { systemClock } from '@penstock/domain/clock';
import type { Client, WebhookListDeliveriesItem } from '@penstock/client/gen/api';
import { allRows } from '../api.js';
import { readHidden } from '../hidden.js';
import type { Context } from '../context.js';
import { printDone, printOne, printRows, printSecret } from '../output.js';

const URL_HELP = 'https address on port 443 or 8443; "-": asked for, when the address is a secret';
const WAIT_S = 20;
const LOOK_MS = 500;

type Delivery = WebhookListDeliveriesItem;

export function webhookCommands(program: Command, context: Context): void {
  const webhook = program.command('webhook').description('servers that are told what happens in this tenant');
  webhook.command('list').action(async () =>
    printRows(context.output(), await allRows(context.api().client.webhooks.listAll()), {
      ...{ webhookId: 'id', name: 'name', origin: 'server', events: 'events' },
      ...{ enabled: 'enabled', failures: 'failures' },
    }),
  );
  webhook
    .command('show <id>')
    .action(async (id: string) => printOne(context.output(), await context.api().client.webhooks.get(id)));
  webhook
    .command('create <name>')
    .description('make a webhook; the secret that signs its deliveries is shown this once')
    .requiredOption('--url <url>', URL_HELP)
    .requiredOption('--event <patterns...>', 'noun.verb, noun.* or *')
    .action(async (name: string, options: { url: string; event: string[] }) => {
      const body = { name, url: await urlOf(options.url), events: options.event };
      printSecret(context.output(), await context.api().client.webhooks.create(body));
    });
  webhook
    .command('update <id>')
    .description('change what was given at its making')
    .option('--name <name>')
    .option('--url <url>', URL_HELP)
    .option('--event <patterns...>', 'noun.verb, noun.* or *; replaces all')
    .action(async (id: string, options: { name?: string; url?: string; event?: string[] }) => {
      const { name, url, event } = options;
      const body = {
        ...(name === undefined ? {} : { name }),
        ...(url === undefined ? {} : { url: await urlOf(url) }),
        ...(event === undefined ? {} : { events: event }),
      };
      printOne(context.output(), await context.api().client.webhooks.change(id, body));
    });
  for (const [act, enabled, description] of [
    ['enable', true, 'deliver again; earlier failures are forgotten'],
    ['disable', false, 'deliver nothing until it is enabled'],
  ] as const) {
    webhook
      .command(`${act} <id>`)
      .description(description)
      .action(async (id: string) =>
        printOne(context.output(), await context.api().client.webhooks.change(id, { enabled })),
      );
  }
  webhook
    .command('rotate <id>')
    .description('a new secret, shown this once; the old one signs too for a day')
    .action(async (id: string) =>
      printSecret(context.output(), await context.api().client.webhooks.rotate(id)),
    );
  webhook.command('delete <id>').action(async (id: string) => {
    await context.api().client.webhooks.delete(id);
    printDone(context.output(), 'deleted');
  });
  deliveryCommands(webhook, context);
}

function deliveryCommands(webhook: Command, context: Context): void {
  webhook
    .command('test <id>')
    .description('send a delivery that says nothing, and tell what the other side answered')
    .option('--wait <seconds>', 'for the answer', String(WAIT_S))
    .action(async (id: string, options: { wait: string }) => {
      const { webhooks } = context.api().client;
      const { deliveryId } = await webhooks.ping(id);
      const delivery = await firstTry(webhooks, id, deliveryId, Number(options.wait) * 1_000);
      const out = context.output();
      printOne(out, { ...delivery });
      if (delivery.state === 'delivered') return;
      process.exitCode = 1;
      if (!out.json && !isAnswered(delivery))
        out.write('No answer yet: what failed before is waited for; see penstock webhook deliveries.\n');
    });
  webhook
    .command('deliveries <id>')
    .description('what came of the newest deliveries')
    .option('--state <state>', 'pending, delivered or failed')
    .option('--limit <rows>', '200 at most', '50')
    .action(async (id: string, options: { state?: string; limit: string }) => {
      const page = await context.api().client.webhooks.listDeliveries(id, {
        limit: options.limit,
        state: options.state as Delivery['state'] | undefined,
      });
      printRows(context.output(), page.items, {
        ...{ deliveryId: 'id', type: 'event', state: 'state', attempts: 'tries', httpStatus: 'status' },
        ...{ error: 'error', createdAt: 'made', doneAt: 'over' },
      });
    });
  webhook
    .command('redeliver <id> <deliveryId>')
    .description('send a delivery that is over once more')
    .action(async (id: string, deliveryId: string) => {
      await context.api().client.webhooks.deliverAgain(id, deliveryId);
      printDone(context.output(), 'it is sent again');
    });
}

async function urlOf(text: string): Promise<string> {
  return text === '-' ? (await readHidden('URL: ')).trim() : text;
}

/** A delivery, or what is known of it before it can be seen. */
type Tried = Pick<Delivery, 'deliveryId' | 'attempts'> & Partial<Delivery>;

/** A try is counted when it begins; it has ended when there is a word of how. */
function isAnswered({ state, httpStatus, error }: Tried): boolean {
  return state !== 'pending' || (httpStatus ?? null) !== null || (error ?? null) !== null;
}

/** The delivery once it was tried, or as it is when the time is over. */
async function firstTry(
  webhooks: Client['webhooks'],
  id: string,
  deliveryId: string,
  waitMs: number,
): Promise<Tried> {
  const until = systemClock.monotonic() + waitMs;
  for (;;) {
    const { items } = await webhooks.listDeliveries(id, { limit: 50 });
    const found = items.find((delivery) => delivery.deliveryId === deliveryId);
    if (found !== undefined && isAnswered(found)) return found;
    if (!(systemClock.monotonic() < until)) return found ?? { deliveryId, attempts: 0, state: 'pending' };
    await delay(LOOK_MS);
  }
}
