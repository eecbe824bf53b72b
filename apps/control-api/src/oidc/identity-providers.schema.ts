import { z } from 'zod';
import { idText, name, pageReply, text, timeText } from '../http/fields.js';

const issuer = z
  .url({ protocol: /^https?$/ })
  .max(500)
  .refine((value) => {
    // Asked of what is no URL too: the check before does not end the checks.
    if (!URL.canParse(value)) return false;
    const url = new URL(value);
    return url.search === '' && url.hash === '' && url.username === '' && url.password === '';
  }, 'must be an address without query, fragment or name')
  .meta({ description: 'As the provider writes it in its own discovery document; https.' });

const clientSecret = text(500).meta({ description: 'Kept encrypted and never shown again.' });

export const newIdentityProvider = z
  .strictObject({
    name,
    issuer,
    clientId: text(200),
    clientSecret,
    enabled: z.boolean().default(true),
  })
  .meta({
    examples: [
      {
        name: 'Example SSO',
        issuer: 'https://sso.example.com',
        clientId: 'penstock',
        clientSecret: 'kept-encrypted-and-never-shown',
      },
    ],
  });
export type NewIdentityProvider = z.output<typeof newIdentityProvider>;

export const changedIdentityProvider = z
  .strictObject({
    name: name.optional(),
    issuer: issuer.optional(),
    clientId: text(200).optional(),
    clientSecret: clientSecret.optional(),
    enabled: z.boolean().optional(),
  })
  .meta({ examples: [{ enabled: false }] });
export type ChangedIdentityProvider = z.output<typeof changedIdentityProvider>;

export const identityProvider = z.strictObject({
  identityProviderId: idText,
  name: z.string(),
  issuer: z.string(),
  clientId: z.string(),
  enabled: z.boolean(),
  version: z.number().int(),
  createdAt: timeText,
});
export const identityProviderPage = pageReply(identityProvider);
