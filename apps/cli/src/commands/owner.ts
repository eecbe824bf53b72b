// The platform's owner, from the host: for when nobody can sign in any more.
import type { Command } from 'commander';
import { systemClock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import { readEndpoints } from '../api.js';
import { recoverOwner } from '../host/owner-recover.js';
import type { Context } from '../context.js';
import { withHost } from '../host/database.js';

export function ownerCommands(program: Command, context: Context): void {
  const owner = program.command('owner').description('the platform’s owner, from the host');
  owner
    .command('recover')
    .description('make this address an owner of the platform, or let him in again, by a one-time link')
    .requiredOption('--email <address>')
    .option('--remove-second-factor', 'also take away codes and passkeys', false)
    .option('--url <address>', 'address that people open (default: of the product running from this clone)')
    .action(async (options: { email: string; removeSecondFactor: boolean; url?: string }) => {
      const { email, removeSecondFactor } = options;
      if (!/^[^\s@]+@[^\s@]+$/.test(email) || email.length > 254) {
        throw new AppError('invalid_input', 'this is no e-mail address', { field: 'email' });
      }
      const publicUrl = options.url ?? readEndpoints(context.dataDirectory())?.api;
      if (publicUrl === undefined) {
        throw new AppError('invalid_input', 'the address that people open is not known; name it', {
          field: 'url',
        });
      }
      const done = await withHost(context, (pool) =>
        recoverOwner(pool, systemClock, { email, removeSecondFactor, publicUrl }),
      );
      const out = context.output();
      if (out.json) return out.write(`${JSON.stringify(done)}\n`);
      out.write(
        `${done.email} is an owner of the platform${done.made ? ' (new account)' : ''}.\n` +
          `Open this link once before ${done.expiresAt.toISOString()} to set a password:\n${done.link}\n`,
      );
    });
}
