// One's own account: sessions, password, authenticator app.
import type { Command } from 'commander';
import { AppError } from '@penstock/domain/errors';
import {
  APP_CODE,
  readHidden,
  readHiddenAll,
  readProof,
  refuseArgument,
  type ProofOptions,
} from '../hidden.js';
import type { Context } from '../context.js';
import { printDone, printOne, printRows, printSecret } from '../output.js';

export function accountCommands(program: Command, context: Context): void {
  const session = program.command('session').description('where you are signed in');
  session
    .command('list')
    .description('your sessions; "current" is this one')
    .action(async () => {
      const { items } = await context.api().client.sessions.list();
      printRows(context.output(), items, {
        ...{ sessionId: 'id', ip: 'from', userAgent: 'with', createdAt: 'since' },
        ...{ lastSeenAt: 'last seen', current: 'current' },
      });
    });
  session
    .command('end <id>')
    .description('sign out there')
    .action(async (id: string) => {
      await context.api().client.sessions.end(id);
      printDone(context.output(), 'ended');
    });
  session
    .command('end-others')
    .description('sign out everywhere but here')
    .action(async () => printOne(context.output(), await context.api().client.sessions.endOthers()));

  program
    .command('password')
    .description('set a new password; a script gives the current and the new one as two lines')
    .action(async () => {
      const questions = ['Current password: ', 'New password: '];
      const terminal = process.stdin.isTTY;
      const answers = await readHiddenAll(terminal ? [...questions, 'New password again: '] : questions);
      const [current = '', next = '', again = next] = answers;
      if (again !== next) throw new AppError('invalid_input', 'the two new passwords differ');
      await context.api().client.password.change({ current, new: next });
      printDone(context.output(), 'changed; your other sessions are over');
    });
  totpCommands(program, context);
}

function totpCommands(program: Command, context: Context): void {
  const totp = program.command('totp').description('codes of an authenticator app at sign-in');
  const proven = (command: Command): Command =>
    command
      .option('--code [-]', 'with a code of the app that is in force: asked for, or the second line of input')
      .option('--recovery-code [-]', 'with one of its recovery codes instead');
  totp
    .command('show')
    .description('whether one is in force, and how many recovery codes are left')
    .action(async () => printOne(context.output(), await context.api().client.totp.state()));
  proven(totp.command('setup'))
    .description('begin: the secret for the app; "totp confirm" puts it into force')
    .action(async (options: ProofOptions) => {
      const proof = await readProof(options);
      printSecret(context.output(), await context.api().client.totp.begin(proof));
    });
  totp
    .command('confirm [-]')
    .description('asks for the code that the app shows now; the answer shows the recovery codes')
    .action(async (given: string | undefined) => {
      refuseArgument('confirm', given);
      const code = (await readHidden(APP_CODE)).trim();
      printSecret(context.output(), await context.api().client.totp.confirm({ code }));
    });
  proven(totp.command('renew-codes'))
    .description('new recovery codes; the old ones open nothing any more')
    .action(async (options: ProofOptions) => {
      const proof = await readProof(options);
      printSecret(context.output(), await context.api().client.totp.renewCodes(proof));
    });
  proven(totp.command('remove'))
    .description('sign in with the password alone again')
    .action(async (options: ProofOptions) => {
      const proof = await readProof(options);
      await context.api().client.totp.remove(proof);
      printDone(context.output(), 'removed');
    });
}
