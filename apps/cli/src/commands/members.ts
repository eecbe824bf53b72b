// The people of the tenant that one acts in, and those who are invited to it.
import type { Command } from 'commander';
import { AppError } from '@penstock/domain/errors';
import type { Member, NewInvitation } from '@penstock/client/gen/api';
import { allRows, type Api } from '../api.js';
import type { Context } from '../context.js';
import { printDone, printOne, printRows, printSecret } from '../output.js';

const ROLES = 'owner, admin, operator or auditor';
type Role = NewInvitation['role'];

export function memberCommands(program: Command, context: Context): void {
  const member = program
    .command('member')
    .description('people of this tenant; WHO is an account id or an e-mail');
  member
    .command('list')
    .description('who is here, with which role')
    .option('--role <role>', `only ${ROLES}`)
    .action(async (options: { role?: string }) => {
      const query = options.role === undefined ? {} : { role: options.role as Role };
      printRows(context.output(), await allRows(context.api().client.members.listAll(query)), {
        ...{ accountId: 'id', email: 'e-mail', displayName: 'name', role: 'role' },
        ...{ disabled: 'disabled', createdAt: 'since' },
      });
    });
  member
    .command('show <who>')
    .description('one member')
    .action(async (who: string) => printOne(context.output(), await findMember(context.api(), who)));
  member
    .command('invite <email>')
    .description('invite somebody; the answer shows the one-time link, nothing is sent')
    .requiredOption('--role <role>', ROLES)
    .action((email: string, { role }: { role: string }) => invite(context, email, role));
  member
    .command('role <who> <role>')
    .description(`give another role: ${ROLES}, none above your own`)
    .action(async (who: string, role: string) => {
      const api = context.api();
      const { accountId, version } = await findMember(api, who);
      const changed = await api.client.members.change(
        accountId,
        { role: role as Role },
        { ifMatch: version },
      );
      printOne(context.output(), changed);
    });
  member
    .command('remove <who>')
    .description('send away from this tenant; the account stays')
    .action(async (who: string) => {
      const api = context.api();
      const { accountId, version, email } = await findMember(api, who);
      await api.client.members.remove(accountId, { ifMatch: version });
      printDone(context.output(), `${email} is no member any more`);
    });
  member
    .command('end-sessions <who>')
    .description('sign out everywhere')
    .action(async (who: string) => {
      const api = context.api();
      const { accountId } = await findMember(api, who);
      printOne(context.output(), await api.client.sessions.endOfMember(accountId));
    });
  member
    .command('reset-password <who>')
    .description('a one-time link to set a new password; nothing is sent')
    .option('--remove-second-factor', 'it also takes away codes, passkeys and identities', false)
    .action(async (who: string, options: { removeSecondFactor: boolean }) => {
      const api = context.api();
      const { accountId } = await findMember(api, who);
      printSecret(context.output(), await api.client.password.makeLink(accountId, options));
    });
  invitationCommands(program, context);
}

function invitationCommands(program: Command, context: Context): void {
  const invitation = program
    .command('invitation')
    .description('one-time links by which people come into this tenant');
  invitation
    .command('list')
    .description('open, used, revoked and expired ones')
    .action(async () =>
      printRows(context.output(), await allRows(context.api().client.invitations.listAll()), {
        ...{ invitationId: 'id', email: 'e-mail', role: 'role', state: 'state' },
        ...{ createdAt: 'made', expiresAt: 'expires' },
      }),
    );
  invitation
    .command('create <email>')
    .description('invite somebody; the answer shows the one-time link, nothing is sent')
    .requiredOption('--role <role>', ROLES)
    .action((email: string, { role }: { role: string }) => invite(context, email, role));
  invitation
    .command('revoke <id>')
    .description('take an open invitation back')
    .action(async (id: string) => {
      await context.api().client.invitations.revoke(id);
      printDone(context.output(), 'revoked');
    });
}

async function invite(context: Context, email: string, role: string): Promise<void> {
  const made = await context.api().client.invitations.create({ email, role: role as Role });
  printSecret(context.output(), made);
}

/** By account id, or by e-mail address in whatever case. Throws not_found. */
async function findMember({ client }: Api, who: string): Promise<Member> {
  if (!who.includes('@')) return client.members.get(who);
  for await (const member of client.members.listAll()) {
    if (member.email.toLowerCase() === who.toLowerCase()) return member;
  }
  throw new AppError('not_found', `${who} is no member of this tenant`);
}
