// What is done to one subscription beside changing its terms, and its WireGuard devices.
import type { Command } from 'commander';
import type { Subscription } from '@penstock/client/gen/api';
import type { Context } from '../context.js';
import { humanBytes, parseBytes, printDone, printOne, printRows, withHumanBytes } from '../output.js';

const plainActs = [
  ['activate', 'start one on hold now'],
  ['disable', 'take its access away until it is enabled'],
  ['enable', 'give back what disabling took'],
  ['reset', 'begin a new period now; the old one is kept'],
  ['rotate', 'new credentials: what was given out before opens nothing any more'],
] as const;

export function actCommands(subscription: Command, context: Context): void {
  const print = (answer: Subscription): void => {
    const out = context.output();
    printOne(out, withHumanBytes(out, answer));
  };
  for (const [act, description] of plainActs) {
    subscription
      .command(`${act} <id>`)
      .description(description)
      .action(async (id: string) => print(await context.api().client.acts[act](id)));
  }
  subscription
    .command('renew <id>')
    .description('another term after the days that are left, and a new period now')
    .option('--plan <id>', 'with the terms of another plan')
    .action(async (id: string, options: { plan?: string }) => {
      const body = options.plan === undefined ? {} : { planId: options.plan };
      print(await context.api().client.acts.renew(id, body));
    });
  subscription
    .command('top-up <id> <bytes>')
    .description('add to the current period alone: 5GB')
    .action(async (id: string, text: string) => {
      const bytes = parseBytes(text);
      if (bytes === null) throw new RangeError('a top-up is a number of bytes, such as 5GB');
      print(await context.api().client.acts.topUp(id, { bytes: bytes.toString() }));
    });
  subscription
    .command('erase <id>')
    .description('forget its names and references for ever, also when it was deleted; what it used stays')
    .action(async (id: string) => {
      await context.api().client.acts.erase(id);
      printDone(context.output(), 'its names and references are forgotten');
    });
  subscription
    .command('acts <id>')
    .description('resets, renewals, top-ups and starts, the newest first')
    .action(async (id: string) => {
      const out = context.output();
      const { items } = await context.api().client.acts.list(id);
      const added = (bytes: string | null): string | null => bytes && humanBytes(BigInt(bytes));
      printRows(out, out.json ? items : items.map((item) => ({ ...item, added: added(item.bytes) })), {
        ...{ actId: 'id', kind: 'act', added: 'bytes', planId: 'plan' },
        ...{ requestedAt: 'asked', doneAt: 'done' },
      });
    });
}

export function deviceCommands(subscription: Command, context: Context): void {
  subscription
    .command('devices <id>')
    .description('its WireGuard devices')
    .action(async (id: string) => {
      const { items } = await context.api().client.devices.list(id);
      printRows(context.output(), items, {
        ...{ deviceId: 'id', name: 'name', publicKey: 'public key', createdAt: 'made' },
      });
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
    .command('rename-device <id> <deviceId> <name>')
    .description('give a device another name')
    .action(async (id: string, deviceId: string, name: string) =>
      printOne(context.output(), await context.api().client.devices.rename(id, deviceId, { name })),
    );
  subscription
    .command('rotate-device <id> <deviceId>')
    .description('new keys: the old configuration opens nothing any more')
    .option('--public-key <key>', "the customer's own key; otherwise a pair is made")
    .action(async (id: string, deviceId: string, options: { publicKey?: string }) =>
      printOne(context.output(), await context.api().client.devices.rotate(id, deviceId, { ...options })),
    );
  subscription
    .command('remove-device <id> <deviceId>')
    .description('take a device away')
    .action(async (id: string, deviceId: string) => {
      await context.api().client.devices.remove(id, deviceId);
      printDone(context.output(), 'removed');
    });
}
