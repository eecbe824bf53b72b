import { z } from 'zod';
import { idText, name, pageReply, time, timeText } from '../http/fields.js';
import { keyMayHold, permissions, type Permission } from '../permissions.js';

const CIDRS_MAX = 50;

const holdable = (Object.keys(permissions) as Permission[]).filter(keyMayHold) as [Permission];

/** What a key may be given, at least one and each once. */
export const scopes = z
  .array(z.enum(holdable))
  .min(1)
  .max(holdable.length)
  .refine((list) => new Set(list).size === list.length, 'must not repeat itself')
  .meta({ description: 'At most what its maker may do; what he may no longer do, the key may not either.' });

const cidr = z
  .union([z.cidrv4(), z.cidrv6()], 'must be a network in CIDR form, such as 192.0.2.0/24')
  .refine((text) => !text.endsWith('/0'), 'must not be all addresses');

export const newApiKey = z
  .strictObject({
    name,
    scopes,
    expiresAt: time.optional().meta({ description: 'At most a year ahead; 90 days when left out.' }),
    cidrs: z
      .array(cidr)
      .max(CIDRS_MAX)
      .default([])
      .meta({ description: 'Where it may be used from; anywhere when empty.' }),
  })
  .meta({ examples: [{ name: 'Billing', scopes: ['subscription.read', 'usage.read'] }] });
export type NewApiKey = z.output<typeof newApiKey>;

export const apiKey = z.strictObject({
  keyId: idText,
  name: z.string(),
  prefix: z.string().meta({ description: 'How the key begins.' }),
  scopes: z.array(z.string()),
  cidrs: z.array(z.string()),
  accountId: idText.meta({ description: 'Who made it, and for whom it acts.' }),
  createdAt: timeText,
  expiresAt: timeText,
  lastUsedAt: timeText.nullable().meta({ description: 'To the minute.' }),
  revokedAt: timeText.nullable(),
});
export const apiKeyPage = pageReply(apiKey);
export const madeApiKey = apiKey.extend({ key: z.string().meta({ description: 'Shown this once.' }) });
