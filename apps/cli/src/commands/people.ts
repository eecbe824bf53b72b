// Signing in and out. A password is asked for on the terminal or read from standard input; it is never an argument.
import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import type { Command } from 'commander';
import { ProblemError } from '@penstock/client/transport';
import { AppError } from '@penstock/domain/errors';
import { readEndpoints } from '../api.js';
import type { Context } from '../main.js';
import { printOne } from '../output.js';

export function peopleCommands(program: Command, context: Context): void {
  program
    .command('setup')
    .description('make the first owner with the one-time set-up link of npm start')
    .requiredOption('--email <email>')
    .option('--name <name>', 'display name', 'Owner')
    .option('--link <url>', 'the set-up link (default: the one of this clone)')
    .action(async (options: { email: string; name: string; link?: string }) => {
      const link = options.link ?? readEndpoints(context.dataDirectory())?.setupUrl;
      const token = link?.split('#')[1];
      if (token === undefined)
        throw new AppError('not_found', 'there is no unused set-up link here; name one with --link');
      const password = await readHidden('Password: ');
      const api = context.api();
      await api.open.setup.claim({
        token,
        email: options.email,
        password,
        displayName: options.name,
      });
      await api.signIn(options.email, password);
      context.output().write(`signed in as ${options.email}\n`);
    });

  program
    .command('login')
    .description('sign in; the password is asked for, or read from standard input')
    .requiredOption('--email <email>')
    .option('--tenant <id>', 'tenant to act in, when the account has several')
    .option('--code <code>', 'code of the authenticator app; asked for in a terminal when it is needed')
    .option('--recovery-code <code>', 'one of the recovery codes instead')
    .action(async (options: SignInOptions) => {
      const password = await readHidden('Password: ');
      await signIn(context, options, password);
      context.output().write(`signed in as ${options.email}\n`);
    });

  program
    .command('use <tenantId>')
    .description('act in another tenant from now on')
    .action(async (tenantId: string) => {
      await context.api().switchTenant(tenantId);
      context.output().write(`acting in tenant ${tenantId}\n`);
    });

  program
    .command('logout')
    .description('end the session')
    .action(async () => {
      await context.api().signOut();
      context.output().write('signed out\n');
    });

  program
    .command('whoami')
    .description('who is signed in, in which tenant, with which role')
    .action(async () => printOne(context.output(), await context.api().client.auth.whoami()));
}

interface SignInOptions {
  email: string;
  tenant?: string;
  code?: string;
  recoveryCode?: string;
}

async function signIn(context: Context, options: SignInOptions, password: string): Promise<void> {
  const { email, tenant, code, recoveryCode } = options;
  const proof = { ...(code !== undefined && { code }), ...(recoveryCode !== undefined && { recoveryCode }) };
  try {
    await context.api().signIn(email, password, tenant, proof);
  } catch (error) {
    const needsCode = error instanceof ProblemError && error.code === 'totp_required';
    if (!needsCode || code !== undefined || recoveryCode !== undefined || !process.stdin.isTTY) throw error;
    const asked = await readHidden('Code of your authenticator app: ');
    await context.api().signIn(email, password, tenant, { code: asked.trim() });
  }
}

/** A secret from the terminal, which shows the question and nothing of the answer; or all of standard input. */
async function readHidden(question: string): Promise<string> {
  if (!process.stdin.isTTY) {
    let text = '';
    for await (const chunk of process.stdin) text += String(chunk);
    return text.replace(/\r?\n$/, '');
  }
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const terminal = createInterface({ input: process.stdin, output: nowhere, terminal: true });
  try {
    process.stderr.write(question);
    const answer = await terminal.question('');
    process.stderr.write('\n');
    return answer;
  } finally {
    terminal.close();
  }
}
