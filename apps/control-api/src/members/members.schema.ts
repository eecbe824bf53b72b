import { z } from 'zod';
import { roles } from '@penstock/domain/terms';
import { idText, pageReply, pageShape, timeText } from '../http/fields.js';

export const memberQuery = z.strictObject({ ...pageShape, role: z.enum(roles).optional() });
export type MemberQuery = z.output<typeof memberQuery>;

export const changedMember = z
  .strictObject({ role: z.enum(roles) })
  .meta({ examples: [{ role: 'operator' }] });
export type ChangedMember = z.output<typeof changedMember>;

export const member = z.strictObject({
  accountId: idText,
  email: z.string(),
  displayName: z.string(),
  role: z.enum(roles),
  disabled: z.boolean().meta({ description: 'The platform closed the account: it cannot sign in anywhere.' }),
  version: z.number().int(),
  createdAt: timeText,
});
export const memberPage = pageReply(member);
