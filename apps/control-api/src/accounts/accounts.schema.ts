import { z } from 'zod';
import { displayName } from '../auth/auth.schema.js';
import { idText, timeText } from '../http/fields.js';

export const changedProfile = z
  .strictObject({ displayName })
  .meta({ examples: [{ displayName: 'Customer desk' }] });
export type ChangedProfile = z.output<typeof changedProfile>;

export const profile = z.strictObject({ accountId: idText, email: z.string(), displayName: z.string() });

export const account = z.strictObject({
  ...profile.shape,
  disabledAt: timeText.nullable(),
});
