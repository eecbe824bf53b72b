// Signing in and out. A password is asked for on the terminal or read from standard input; it is never an argument.
import type { Command } from 'commander';
import { ProblemError } from '@penstock/client/transport';
import { AppError } from '@penstock/domain/errors';
import type { AuthWhoamiReply } from '@penstock/client/gen/api';
import { allRows, readEndpoints, type Api } from '../api.js';
import { APP_CODE, readHidden, readProof, type Proof, type ProofOptions } from '../hidden.js';
import type { Context } from '../context.js';
import { printDone, printOne, printRows, type Output } from '../output.js';

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
      printDone(context.output(), `signed in as ${options.email}`);
    });

  program
    .command('login')
    .description('sign in; the password is asked for, or read from standard input')
    .requiredOption('--email <email>')
    .option('--tenant <id>', 'tenant to act in, when the account has several')
    .option('--code [-]', 'with the code of the authenticator app; a terminal asks anyway when it is needed')
    .option('--recovery-code [-]', 'with one of the recovery codes instead')
    .addHelpText(
      'after',
      '\nA script gives the password, and the code behind it, as lines of standard input.',
    )
    .action(async (options: SignInOptions) => {
      await signIn(context, options, await readProof(options));
      printDone(context.output(), `signed in as ${options.email}`);
    });

  program
    .command('use [tenant]')
    .description(
      'act in another tenant from now on: its id, its name, or "platform"; without one: where you can',
    )
    .action(async (tenant: string | undefined) => {
      const api = context.api();
      const out = context.output();
      const before = await api.whoami();
      if (tenant === undefined) return printPlaces(out, before);
      await api.switchTenant(await tenantIdOf(api, before, tenant));
      const now = await api.whoami();
      if (out.json) return printOne(out, { ...now.tenant, role: now.role });
      out.write(`acting in ${now.tenant.name} (${now.tenant.tenantId}) as ${now.role}\n`);
      if (!now.tenant.platform && (await api.platformTenant()) !== undefined)
        out.write(
          '"tenant", "settings", "account" and "keys" go on managing the platform; back: penstock use platform\n',
        );
    });

  program
    .command('logout')
    .description('end the session')
    .action(async () => {
      await context.api().signOut();
      printDone(context.output(), 'signed out');
    });

  program
    .command('whoami')
    .description('who is signed in, in which tenant, with which role')
    .action(async () => printPerson(context.output(), await context.api().whoami()));
}

interface SignInOptions extends ProofOptions {
  email: string;
  tenant?: string;
}

async function signIn(context: Context, options: SignInOptions, given: Proof): Promise<void> {
  const { email, tenant } = options;
  const { password, ...proof } = given;
  try {
    await context.api().signIn(email, password, tenant, proof);
  } catch (error) {
    if (error instanceof ProblemError && error.field === 'tenantId' && tenant === undefined)
      throw new AppError('invalid_input', 'this account has several tenants: name one with --tenant ID');
    const needsCode = error instanceof ProblemError && error.code === 'totp_required';
    if (!needsCode || Object.keys(proof).length > 0 || !process.stdin.isTTY) throw error;
    const asked = await readHidden(APP_CODE);
    await context.api().signIn(email, password, tenant, { code: asked.trim() });
  }
}

const PLATFORM = 'platform';
const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** The tenant that a person names, by id or by name, among those that he can act in. Throws not_found. */
async function tenantIdOf(api: Api, { memberships }: AuthWhoamiReply, wanted: string): Promise<string> {
  if (ID.test(wanted)) return wanted;
  const platform = await api.platformTenant();
  if (wanted === PLATFORM) {
    if (platform === undefined) throw new AppError('not_found', 'you have no place in the platform');
    return platform;
  }
  const named = ({ name }: { name: string }): boolean => name.toLowerCase() === wanted.toLowerCase();
  const own = memberships.find(named);
  if (own !== undefined) return own.tenantId;
  const others = platform === undefined ? [] : await allRows((await api.platform()).tenants.listAll());
  const other = others.find(named);
  if (other === undefined) throw new AppError('not_found', `there is no tenant called ${wanted} for you`);
  return other.tenantId;
}

function printPlaces(out: Output, { tenant, role, memberships }: AuthWhoamiReply): void {
  if (!out.json) out.write(`acting in ${tenant.name} (${tenant.tenantId}) as ${role}\n\n`);
  printRows(out, memberships, { tenantId: 'id', name: 'tenant', role: 'role' });
}

/** Permissions by noun: a line of forty is read by nobody. */
function printPerson(out: Output, me: AuthWhoamiReply): void {
  if (out.json) return printOne(out, me);
  const { account, tenant, role, permissions, memberships } = me;
  const kind = tenant.platform ? ', the platform' : '';
  out.write(`${`${account.displayName} <${account.email}>`.trim()}  ${account.accountId}\n`);
  out.write(`acting in ${tenant.name} (${tenant.tenantId}${kind}) as ${role}\n\nmay\n`);
  const verbs = new Map<string, string[]>();
  for (const permission of permissions) {
    const dot = permission.lastIndexOf('.');
    const noun = permission.slice(0, dot);
    verbs.set(noun, [...(verbs.get(noun) ?? []), permission.slice(dot + 1)]);
  }
  const width = Math.max(0, ...[...verbs.keys()].map((noun) => noun.length));
  for (const [noun, list] of verbs) out.write(`  ${noun.padEnd(width)}  ${list.join(', ')}\n`);
  out.write('\nmember of\n');
  printRows(out, memberships, { tenantId: 'id', name: 'tenant', role: 'role' });
}
