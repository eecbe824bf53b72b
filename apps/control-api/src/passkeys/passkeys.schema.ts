import { z } from 'zod';
import type { TenantId } from '@penstock/domain/ids';
import { id, idText, name, timeText } from '../http/fields.js';

const BINARY_MAX = 16_384;
const binary = z
  .string()
  .max(BINARY_MAX)
  .regex(/^[A-Za-z0-9_-]*$/, 'must be base64url');
/** Credential ids have at most 1,023 bytes. */
const credentialId = binary.min(1).max(1364);

const common = {
  id: credentialId,
  rawId: credentialId,
  type: z.literal('public-key'),
  authenticatorAttachment: z.enum(['platform', 'cross-platform']).nullish(),
  clientExtensionResults: z.record(z.string().max(100), z.unknown()).default({}),
};

/** PublicKeyCredential.toJSON() of navigator.credentials.create(). */
const created = z.strictObject({
  ...common,
  response: z.strictObject({
    clientDataJSON: binary.min(1),
    attestationObject: binary.min(1),
    authenticatorData: binary.optional(),
    transports: z.array(z.string().max(20)).max(10).optional(),
    publicKeyAlgorithm: z.number().int().optional(),
    publicKey: binary.optional(),
  }),
});
export type Created = z.output<typeof created>;

/** PublicKeyCredential.toJSON() of navigator.credentials.get(). */
const asserted = z.strictObject({
  ...common,
  response: z.strictObject({
    clientDataJSON: binary.min(1),
    authenticatorData: binary.min(1),
    signature: binary.min(1),
    userHandle: binary.nullish(),
  }),
});
export type Asserted = z.output<typeof asserted>;

const EXAMPLE = { id: 'AQ', rawId: 'AQ', type: 'public-key' as const, clientExtensionResults: {} };

export const newPasskey = z.strictObject({ name, credential: created }).meta({
  examples: [
    {
      name: 'Laptop',
      credential: { ...EXAMPLE, response: { clientDataJSON: 'e30', attestationObject: 'oA' } },
    },
  ],
});
export type NewPasskey = z.output<typeof newPasskey>;

export const signIn = z.strictObject({ credential: asserted, tenantId: id<TenantId>().optional() }).meta({
  examples: [
    {
      credential: {
        ...EXAMPLE,
        response: { clientDataJSON: 'e30', authenticatorData: 'AA', signature: 'AA' },
      },
    },
  ],
});
export type SignIn = z.output<typeof signIn>;

/** What navigator.credentials takes, by PublicKeyCredential.parse…OptionsFromJSON(). */
export const options = z.looseObject({ challenge: z.string() });

export const passkey = z.strictObject({
  passkeyId: idText,
  name: z.string(),
  synced: z.boolean().meta({ description: 'It lives in several devices of its owner.' }),
  createdAt: timeText,
  lastUsedAt: timeText.nullable(),
});
export const passkeyList = z.strictObject({ items: z.array(passkey) });
