import { z } from 'zod';
import { scopes } from '../api-keys/api-keys.schema.js';
import { AUDIENCE } from '../auth/access-token.js';
import { idText, name, pageReply, time, timeText } from '../http/fields.js';

const TOKEN = /^[A-Za-z0-9_-]{10,500}\.[A-Za-z0-9_-]{10,3000}\.[A-Za-z0-9_-]{10,500}$/;

const pathPrefix = z
  .string()
  .max(200)
  .regex(/^\/api\/v1(\/[A-Za-z0-9_-]+)*$/, 'must be a path under /api/v1')
  .meta({ description: 'The paths that it may ask: this one and all under it.' });

const narrowing = {
  name: name.default('machine'),
  scopes,
  pathPrefix: pathPrefix.default('/api/v1'),
  singleUse: z.boolean().default(false).meta({ description: 'Good for one request.' }),
};

export const newMachineToken = z
  .strictObject({
    ...narrowing,
    audience: z
      .string()
      .regex(/^[\x21-\x7e]{1,200}$/, 'must be printable characters')
      .default(AUDIENCE)
      .meta({ description: 'Who it is for. This API takes only its own; others verify by our JWKS.' }),
    expiresAt: time.optional().meta({ description: 'At most 30 days ahead; an hour when left out.' }),
  })
  .meta({ examples: [{ name: 'Exporter', scopes: ['usage.read'], pathPrefix: '/api/v1/usage' }] });
export type NewMachineToken = z.output<typeof newMachineToken>;

export const attenuation = z
  .strictObject({
    token: z.string().regex(TOKEN, 'must be a machine token'),
    ...narrowing,
    pathPrefix: pathPrefix.optional(),
    expiresAt: time
      .optional()
      .meta({ description: 'At most as long as the token itself, which is the default.' }),
  })
  .meta({
    examples: [
      {
        token: 'eyJhbGciOiJFUzI1NiJ9.eyJleGFtcGxlIjoxfQ.bm90LWEtc2lnbmF0dXJl',
        scopes: ['usage.read'],
        pathPrefix: '/api/v1/usage',
      },
    ],
  });
export type Attenuation = z.output<typeof attenuation>;

export const machineToken = z.strictObject({
  keyId: idText,
  name: z.string(),
  accountId: idText.meta({ description: 'Who made it, and for whom it acts.' }),
  scopes: z.array(z.string()),
  audience: z.string(),
  pathPrefix: z.string(),
  singleUse: z.boolean(),
  createdAt: timeText,
  expiresAt: timeText,
  usedAt: timeText.nullable(),
  revokedAt: timeText.nullable(),
});
export const machineTokenPage = pageReply(machineToken);
export const madeMachineToken = machineToken.extend({
  token: z.string().meta({ description: 'Shown this once.' }),
});
