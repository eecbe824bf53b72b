import { z } from 'zod';
import { code, givenPassword, recoveryCode } from '../auth/auth.schema.js';

/** What a person shows before something that a stolen session must not do. */
export const proof = z
  .strictObject({
    password: givenPassword,
    code: code.optional().meta({ description: 'Needed when an authenticator is in force.' }),
    recoveryCode: recoveryCode.optional().meta({ description: 'In place of a code; works once.' }),
  })
  .meta({ examples: [{ password: 'correct horse battery', code: '123456' }] });
export type Proof = z.output<typeof proof>;

export const confirmation = z.strictObject({ code }).meta({ examples: [{ code: '123456' }] });

export const state = z.strictObject({ enabled: z.boolean(), recoveryCodesLeft: z.number().int() });

export const enrolment = z.strictObject({
  secret: z.string().meta({ description: 'Base32. Shown now and never again.' }),
  uri: z.string().meta({ description: 'The same as an otpauth: address, for a QR code.' }),
});

export const recoveryCodes = z.strictObject({
  recoveryCodes: z.array(z.string()).meta({ description: 'Each works once. Shown now and never again.' }),
});
