// What the platform decides for everybody: its settings, and accounts that are closed.
import type { Command } from 'commander';
import type { SettingChange } from '@penstock/client/gen/api';
import type { Context } from '../context.js';
import { printOne } from '../output.js';

/** Option → setting; those of numbers are told apart. */
const settings = {
  supportName: ['--support-name <text>', 'who helps; shown to people and customers'],
  supportUrl: ['--support-url <url>', 'where help is to be had; https'],
  minPasswordLength: ['--min-password-length <n>', 'of passwords that are set from now on'],
  sessionDays: ['--session-days <n>', 'a sign-in that is not used ends after so many days'],
  usageHourDays: ['--usage-hour-days <n>', 'hourly usage is kept so long'],
  defaultTimeZone: ['--default-time-zone <zone>', 'of tenants that name none when they are made'],
} as const satisfies Record<keyof SettingChange, readonly [string, string]>;
const numbers: ReadonlySet<string> = new Set(['minPasswordLength', 'sessionDays', 'usageHourDays']);

export function platformCommands(program: Command, context: Context): void {
  const group = program.command('settings').description('of the whole platform');
  group
    .command('show')
    .description('what is set')
    .action(async () => printOne(context.output(), await (await context.api().platform()).settings.get()));
  const set = group.command('set').description('change what is named');
  for (const [flags, description] of Object.values(settings)) set.option(flags, description);
  set.action(async (options: Record<string, string>) => {
    const given = Object.entries(options).map(([name, text]) => [
      name,
      numbers.has(name) ? Number(text) : text,
    ]);
    const { settings: of } = await context.api().platform();
    const { version } = await of.get();
    const changed = await of.change(Object.fromEntries(given) as SettingChange, { ifMatch: version });
    printOne(context.output(), changed);
  });

  const account = program.command('account').description('people of all tenants (platform)');
  for (const [act, description] of [
    ['disable', 'nobody signs in with it any more, and it is signed out everywhere'],
    ['enable', 'it may sign in again'],
  ] as const) {
    account
      .command(`${act} <accountId>`)
      .description(description)
      .action(async (id: string) =>
        printOne(context.output(), await (await context.api().platform()).accounts[act](id)),
      );
  }
}
