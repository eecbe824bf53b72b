// The `penstock` command: what people do over the API, and what is done on the host beside it (verify, db url). Answers
// on standard output, one sentence on standard error and a non-zero exit when it fails.
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { ProblemError } from '@penstock/client/transport';
import { AppError } from '@penstock/domain/errors';
import { processEnvironment } from '@penstock/service/config';
import { Api, readEndpoints } from './api.js';
import { accountCommands } from './commands/account.js';
import { configCommands } from './commands/config.js';
import { auditCommands } from './commands/audit.js';
import { databaseCommands } from './commands/database.js';
import { eventCommands } from './commands/events.js';
import { groupCommands, quarantineCommands } from './commands/groups.js';
import { keyCommands } from './commands/keys.js';
import { memberCommands } from './commands/members.js';
import { nodeCommands } from './commands/nodes.js';
import { ownerCommands } from './commands/owner.js';
import { peopleCommands } from './commands/people.js';
import { platformCommands } from './commands/platform.js';
import { planCommands } from './commands/plans.js';
import { statementCommands } from './commands/statements.js';
import { subscriptionCommands } from './commands/subscriptions.js';
import { tenantCommands } from './commands/tenants.js';
import { verifyCommand } from './commands/verify.js';
import { webhookCommands } from './commands/webhooks.js';
import type { Context } from './context.js';

/** Of the package that this file was built into. */
function version(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

const env = processEnvironment();
const program = new Command('penstock')
  .description('Control plane for VPN access over Xray and WireGuard.')
  .version(version(), '--version', 'the version of this command')
  .option('--api <url>', 'address of the API (default: the one running from this clone)')
  .option('--data <directory>', 'data directory of npm start', env['PENSTOCK_DATA_DIR'] ?? '.penstock')
  .option('--json', 'answer in JSON')
  .showHelpAfterError('(--help shows what there is)')
  .exitOverride();

let api: Api | undefined;

const context: Context = {
  api() {
    if (api !== undefined) return api;
    const { api: named, data } = program.opts<{ api?: string; data: string }>();
    const address = named ?? env['PENSTOCK_API'] ?? readEndpoints(data)?.api;
    if (address === undefined) {
      throw new AppError('unavailable', 'no API is known: run npm start here, or name one with --api');
    }
    return (api = new Api(address, env));
  },
  output() {
    return {
      json: program.opts<{ json?: boolean }>().json === true,
      write: (text) => void process.stdout.write(text),
    };
  },
  dataDirectory: () => program.opts<{ data: string }>().data,
};

for (const add of [
  peopleCommands,
  accountCommands,
  memberCommands,
  keyCommands,
  tenantCommands,
  platformCommands,
  planCommands,
  subscriptionCommands,
  nodeCommands,
  groupCommands,
  quarantineCommands,
  statementCommands,
  eventCommands,
  webhookCommands,
  verifyCommand,
  auditCommands,
  ownerCommands,
  databaseCommands,
  configCommands,
]) {
  add(program, context);
}

// `penstock … | head` ends our output early; that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit();
});

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode;
  else {
    const refused = error instanceof AppError || error instanceof ProblemError;
    const known = refused || error instanceof RangeError;
    const message = error instanceof Error ? error.message : String(error);
    // The API's own sentences begin with the field.
    const told = refused && (error.field === undefined || message.includes(error.field));
    const field = refused && !told ? ` (${error.field})` : '';
    process.stderr.write(`penstock: ${message}${field}\n`);
    if (!known && env['PENSTOCK_DEBUG'] !== undefined && error instanceof Error)
      process.stderr.write(`${error.stack}\n`);
    process.exitCode = 1;
  }
}
