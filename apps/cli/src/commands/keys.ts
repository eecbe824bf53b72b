// Keys: those that sign our tokens (platform owners) and those that integrations use.
import type { Command } from 'commander';
import type { Client, NewApiKey, NewMachineToken } from '@penstock/client/gen/api';
import { allRows } from '../api.js';
import type { Context } from '../context.js';
import { printDone, printOne, printRows, printSecret, type Row } from '../output.js';

export function keyCommands(program: Command, context: Context): void {
  const keys = program.command('keys').description('keys that sign access tokens');
  const signing = async (): Promise<Client['signingKeys']> => (await context.api().platform()).signingKeys;
  const print = (answer: Row): void => printOne(context.output(), answer);
  keys.command('list').action(async () => {
    const { items } = await (await signing()).list();
    const columns = { kid: 'key', state: 'state', createdAt: 'created', activatedAt: 'signs since' };
    printRows(context.output(), items, columns);
  });
  keys
    .command('rotate')
    .description('sign with the next key from now on; tokens of the current one stay good until they expire')
    .option('--now', 'also when the next key was published less than ten minutes ago')
    .action(async (options: { now?: true }) =>
      print(await (await signing()).rotate({ immediate: options.now === true })),
    );
  keys
    .command('rollback')
    .description('sign with the key that signed before')
    .action(async () => print(await (await signing()).rollback()));
  keys
    .command('retire <kid>')
    .description('refuse a key and every token that it signed')
    .action(async (kid: string) => print(await (await signing()).retire(kid)));
  apiKeyCommands(program, context);
  machineTokenCommands(program, context);
}

function apiKeyCommands(program: Command, context: Context): void {
  const apiKey = program.command('api-key').description('keys of integrations');
  apiKey
    .command('create <name>')
    .description('make a key; it is shown this once')
    .requiredOption('--scope <scopes...>', 'what it may do, such as subscription.read')
    .option('--expires <time>', 'RFC 3339, at most a year ahead (default: 90 days)')
    .option('--from <cidrs...>', 'networks that it may be used from (default: any)')
    .action(async (name: string, options: { scope: string[]; expires?: string; from?: string[] }) => {
      const body = {
        ...{ name, scopes: options.scope as NewApiKey['scopes'], cidrs: options.from ?? [] },
        ...(options.expires === undefined ? {} : { expiresAt: options.expires }),
      };
      printSecret(context.output(), await context.api().client.apiKeys.create(body));
    });
  apiKey.command('list').action(async () =>
    printRows(context.output(), await allRows(context.api().client.apiKeys.listAll()), {
      ...{ keyId: 'id', name: 'name', prefix: 'begins', expiresAt: 'expires' },
      ...{ lastUsedAt: 'last used', revokedAt: 'revoked' },
    }),
  );
  apiKey
    .command('revoke <keyId>')
    .description('refuse a key from now on')
    .action(async (id: string) => {
      await context.api().client.apiKeys.revoke(id);
      printDone(context.output(), 'revoked');
    });
}

function machineTokenCommands(program: Command, context: Context): void {
  const token = program.command('machine-token').description('narrow, short-lived tokens for one machine');
  token
    .command('create <name>')
    .description('make a token; it is shown this once')
    .requiredOption('--scope <scopes...>', 'what it may do, such as subscription.read')
    .option('--expires <time>', 'RFC 3339, at most 30 days ahead')
    .option('--audience <text>', 'whom it is for')
    .option('--path <prefix>', 'the only paths that it opens')
    .option('--single-use', 'it opens one request')
    .action(async (name: string, options: MachineTokenOptions) => {
      const { scope, expires, audience, path, singleUse } = options;
      const body = {
        ...{ name, scopes: scope as NewMachineToken['scopes'] },
        ...(expires === undefined ? {} : { expiresAt: expires }),
        ...(audience === undefined ? {} : { audience }),
        ...(path === undefined ? {} : { pathPrefix: path }),
        ...(singleUse === undefined ? {} : { singleUse }),
      };
      printSecret(context.output(), await context.api().client.machineTokens.create(body));
    });
  token
    .command('list')
    .description('tokens without their secrets')
    .action(async () =>
      printRows(context.output(), await allRows(context.api().client.machineTokens.listAll()), {
        ...{ keyId: 'id', name: 'name', scopes: 'scopes', expiresAt: 'expires', usedAt: 'used' },
        revokedAt: 'revoked',
      }),
    );
  token
    .command('revoke <id>')
    .description('refuse a token from now on')
    .action(async (id: string) => {
      await context.api().client.machineTokens.revoke(id);
      printDone(context.output(), 'revoked');
    });
}

interface MachineTokenOptions {
  scope: string[];
  expires?: string;
  audience?: string;
  path?: string;
  singleUse?: true;
}
