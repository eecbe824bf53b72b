import { z } from 'zod';
import type { TenantId } from '@penstock/domain/ids';
import { exampleIds } from '../http/example-ids.js';
import { id, idText, timeText } from '../http/fields.js';
import { proof } from '../totp/totp.schema.js';

const code = z.string().regex(/^[A-Za-z0-9_-]{43}$/, 'must be a code of 43 characters');
const exampleCode = 'b25lLXRpbWUtY29kZS1mcm9tLXRoZS1mcmFnbWVudC0';

export const startLink = proof.extend({ identityProviderId: id() }).meta({
  examples: [
    { identityProviderId: exampleIds.identityProvider, password: 'correct horse battery', code: '123456' },
  ],
});
export type StartLink = z.output<typeof startLink>;

export const started = z
  .strictObject({
    location: z.string().meta({ description: 'Where to send this browser, which has a cookie now.' }),
  })
  .meta({ examples: [{ location: 'https://id.example.org/authorize?client_id=penstock' }] });

/** What a provider sends a browser back with; providers add fields of their own. */
export const callbackQuery = z.looseObject({
  state: z.string().max(500),
  code: z.string().max(4000).optional(),
  error: z.string().max(200).optional(),
});
export type CallbackQuery = z.output<typeof callbackQuery>;

export const exchange = z
  .strictObject({
    code,
    tenantId: id<TenantId>()
      .optional()
      .meta({ description: 'May be left out by an account with one membership.' }),
  })
  .meta({ examples: [{ code: exampleCode }] });
export type Exchange = z.output<typeof exchange>;

export const link = z.strictObject({ code }).meta({ examples: [{ code: exampleCode }] });

export const identity = z.strictObject({
  identityProviderId: idText,
  issuer: z.string(),
  createdAt: timeText,
});
export const identityList = z.strictObject({ items: z.array(identity) });

export const publicProviders = z.strictObject({
  items: z.array(z.strictObject({ identityProviderId: idText, name: z.string() })),
});
