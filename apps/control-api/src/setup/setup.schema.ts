import { z } from 'zod';
import { displayName, email, newPassword, tokens } from '../auth/auth.schema.js';
import { name } from '../http/fields.js';

export const setup = z
  .strictObject({
    token: z.string().min(1).max(200),
    email,
    password: newPassword,
    displayName,
    /** New name of the platform tenant. */
    tenantName: name.optional(),
  })
  .meta({
    examples: [
      {
        token: 'the part of the set-up link after #',
        email: 'owner@example.org',
        password: 'correct horse battery',
        displayName: 'Owner',
      },
    ],
  });
export type Setup = z.output<typeof setup>;

export const setupState = z.strictObject({ needed: z.boolean() });
export const setupDone = tokens;
