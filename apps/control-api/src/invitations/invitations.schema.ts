import { z } from 'zod';
import { roles } from '@penstock/domain/terms';
import { displayName, email, newPassword } from '../auth/auth.schema.js';
import { idText, pageReply, timeText } from '../http/fields.js';
import { INVITATION_TOKEN } from './invitation-link.js';

const EXAMPLE_TOKEN = `pin1.${'x'.repeat(43)}`;
const token = z
  .string()
  .regex(INVITATION_TOKEN, 'must be the part of the link after #')
  .meta({ description: 'What stands after # in the link. It travels in the body and never in an address.' });

export const newInvitation = z
  .strictObject({ email, role: z.enum(roles) })
  .meta({ examples: [{ email: 'colleague@example.org', role: 'operator' }] });
export type NewInvitation = z.output<typeof newInvitation>;

export const acceptInvitation = z
  .strictObject({
    token,
    password: newPassword.meta({
      description: 'A new one; for an account that exists already, its own: joining needs both.',
    }),
    displayName: displayName
      .optional()
      .meta({ description: 'Of a new account; left out: the mail address.' }),
  })
  .meta({
    examples: [{ token: EXAMPLE_TOKEN, password: 'correct horse battery', displayName: 'Colleague' }],
  });
export type AcceptInvitation = z.output<typeof acceptInvitation>;

export const joinTenant = z.strictObject({ token }).meta({ examples: [{ token: EXAMPLE_TOKEN }] });

export const invitation = z.strictObject({
  invitationId: idText,
  email: z.string(),
  role: z.enum(roles),
  state: z.enum(['open', 'accepted', 'revoked', 'expired']),
  createdBy: idText.nullable(),
  createdAt: timeText,
  expiresAt: timeText,
  acceptedBy: idText.nullable(),
});
export const invitationPage = pageReply(invitation);
export const madeInvitation = invitation.extend({
  link: z.string().meta({ description: 'Shown once. Nothing is sent: give it to the person yourself.' }),
});

export const joined = z.strictObject({
  accountId: idText,
  tenantId: idText,
  tenantName: z.string(),
  email: z.string(),
  role: z.enum(roles),
});
