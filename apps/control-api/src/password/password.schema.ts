import { z } from 'zod';
import { givenPassword, newPassword } from '../auth/auth.schema.js';
import { timeText } from '../http/fields.js';
import { RESET_TOKEN } from '@penstock/domain/one-time-link';

const EXAMPLE_TOKEN = `prl1.${'x'.repeat(43)}`;

export const changePassword = z
  .strictObject({ current: givenPassword, new: newPassword })
  .meta({ examples: [{ current: 'correct horse battery', new: 'a longer sentence than before' }] });
export type ChangePassword = z.output<typeof changePassword>;

export const newResetLink = z
  .strictObject({
    removeSecondFactor: z.boolean().default(false).meta({
      description:
        'The link also removes codes, passkeys and identities at providers: for who lost or mistrusts them.',
    }),
  })
  .meta({ examples: [{}] });
export type NewResetLink = z.output<typeof newResetLink>;

export const resetLink = z.strictObject({
  link: z.string().meta({ description: 'Works once. Shown now and never again.' }),
  expiresAt: timeText,
});

export const reset = z
  .strictObject({
    token: z.string().regex(RESET_TOKEN, 'must be the token of a reset link'),
    password: newPassword,
  })
  .meta({ examples: [{ token: EXAMPLE_TOKEN, password: 'a longer sentence than before' }] });
export type Reset = z.output<typeof reset>;
