import { z } from 'zod';
import { timeText } from '../http/fields.js';
import { keyStates } from './rotation.js';

/** The thumbprint of the public key (RFC 7638). */
export const kid = z.string().regex(/^[A-Za-z0-9_-]{43}$/, 'must be a key id of 43 characters');

export const rotate = z
  .strictObject({
    immediate: z.boolean().default(false).meta({
      description: 'Signs with the next key at once, though others may have kept our JWKS without it.',
    }),
  })
  .meta({ examples: [{ immediate: true }] });

const time = timeText.nullable();

export const signingKey = z.strictObject({
  kid,
  state: z.enum(keyStates),
  createdAt: timeText,
  activatedAt: time,
  demotedAt: time,
  neededUntil: time.meta({ description: 'The last moment at which a machine token of this key is good.' }),
  retiredAt: time,
});
export const signingKeyList = z.strictObject({ items: z.array(signingKey) });

export const jwks = z.strictObject({ keys: z.array(z.record(z.string(), z.unknown())) });
