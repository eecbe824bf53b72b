import { z } from 'zod';
import { bytes, bytesText, idText, name, pageReply, timeText } from '../http/fields.js';

const COUNT_MAX = 100_000_000;
const API_PER_MINUTE_MAX = 10_000_000;

export const timeZone = z
  .string()
  .max(60)
  .refine((zone) => {
    // Offsets ("+02:00") are no places: they know no summer.
    if (!/^(UTC|[A-Za-z]+\/[A-Za-z0-9_+\-/]+)$/.test(zone)) return false;
    try {
      return new Intl.DateTimeFormat('en', { timeZone: zone }).resolvedOptions().timeZone !== '';
    } catch {
      return false;
    }
  }, 'must be an IANA time zone');

const count = (max: number, least = 0) => z.number().int().min(least).max(max);

/** null: no limit. */
const limitShape = {
  subscriptions: count(COUNT_MAX)
    .nullable()
    .meta({ description: 'Living subscriptions at most; null: any.' }),
  nodes: count(COUNT_MAX).nullable().meta({ description: 'Own nodes at most; null: any.' }),
  poolBytes: bytes
    .nullable()
    .meta({ description: 'Billable bytes of all subscriptions in a calendar month; null: any.' }),
  apiPerMinute: count(API_PER_MINUTE_MAX, 1)
    .nullable()
    .meta({ description: 'Requests a minute of all its people and keys; null: no limit of its own.' }),
};
const limits = z.strictObject(limitShape).partial();
export type Limits = z.output<typeof limits>;

export const newTenant = z
  .strictObject({ name, timeZone: timeZone.optional(), limits: limits.default({}) })
  .meta({
    examples: [
      {
        name: 'Example Net',
        timeZone: 'Europe/Berlin',
        limits: { subscriptions: 10_000, nodes: 20, poolBytes: '500000000000000', apiPerMinute: 600 },
      },
    ],
  });
export type NewTenant = z.output<typeof newTenant>;

export const changedTenant = z
  .strictObject({ name: name.optional(), timeZone: timeZone.optional(), limits: limits.optional() })
  .refine((change) => Object.keys(change).length > 0, 'names nothing to change')
  .meta({ examples: [{ limits: { subscriptions: 20_000 } }] });
export type ChangedTenant = z.output<typeof changedTenant>;

export const changedOwnTenant = z
  .strictObject({ name: name.optional(), timeZone: timeZone.optional() })
  .refine((change) => Object.keys(change).length > 0, 'names nothing to change')
  .meta({ examples: [{ name: 'Example Net', timeZone: 'Europe/Berlin' }] });

export const suspension = z
  .strictObject({ reason: z.string().max(500).default('') })
  .meta({ examples: [{ reason: 'unpaid since March' }] });

export const tenant = z.strictObject({
  tenantId: idText,
  name: z.string(),
  kind: z.enum(['platform', 'customer']),
  state: z.enum(['active', 'suspended']),
  suspendedAt: timeText.nullable(),
  timeZone: z.string(),
  limits: z.strictObject({ ...limitShape, poolBytes: bytesText.nullable() }),
  version: z.number().int(),
  createdAt: timeText,
});
export const tenantPage = pageReply(tenant);
