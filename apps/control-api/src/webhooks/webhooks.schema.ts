import { isIP } from 'node:net';
import { z } from 'zod';
import { eventPatterns } from '../events/event-names.js';
import { idText, name, pageReply, pageShape, timeText } from '../http/fields.js';

const PORTS = new Set(['', '443', '8443']);
const URL_MAX = 2_000;

/** Where a tenant's server listens. Whom that name leads to is checked when it is called (scheduler). */
const url = z
  .string()
  .max(URL_MAX)
  .refine((value) => {
    const parsed = URL.canParse(value) ? new URL(value) : null;
    return (
      parsed !== null &&
      parsed.protocol === 'https:' &&
      PORTS.has(parsed.port) &&
      parsed.username + parsed.password === '' &&
      isIP(parsed.hostname.replace(/^\[|\]$/g, '')) === 0
    );
  }, 'must be an https URL on port 443 or 8443 with a host name and no user name or password');

const escaped = eventPatterns.map((name) => name.replace(/[.*]/g, '\\$&'));
const anEvent = new RegExp(`^(${escaped.join('|')})$`);

const events = z
  .array(z.string().regex(anEvent, 'must be an event that there is (subscription.create), noun.* or *'))
  .min(1)
  .max(100)
  .refine((list) => new Set(list).size === list.length, 'must not repeat');

export const newWebhook = z.strictObject({ name, url, events }).meta({
  examples: [{ name: 'Billing', url: 'https://hooks.example.org/penstock', events: ['subscription.*'] }],
});
export type NewWebhook = z.output<typeof newWebhook>;

export const changedWebhook = z
  .strictObject({
    name: name.optional(),
    url: url.optional(),
    events: events.optional(),
    enabled: z.boolean().optional(),
  })
  .refine((change) => Object.values(change).some((value) => value !== undefined), 'must change something')
  .meta({ examples: [{ enabled: false }] });
export type ChangedWebhook = z.output<typeof changedWebhook>;

export const webhook = z.strictObject({
  webhookId: idText,
  name: z.string(),
  /** Scheme, host and port; the rest of a URL may be a secret. */
  origin: z.string(),
  events: z.array(z.string()),
  enabled: z.boolean(),
  disabledReason: z.string().nullable(),
  /** Failed deliveries in a row. */
  failures: z.number().int(),
  version: z.number().int(),
  createdAt: timeText,
});
export const webhookPage = pageReply(webhook);

/** Shown once. */
export const webhookWithSecret = webhook.extend({ secret: z.string() });

export const delivery = z.strictObject({
  deliveryId: idText,
  type: z.string(),
  state: z.enum(['pending', 'delivered', 'failed']),
  attempts: z.number().int(),
  nextAt: timeText.nullable(),
  httpStatus: z.number().int().nullable(),
  error: z.string().nullable(),
  createdAt: timeText,
  doneAt: timeText.nullable(),
});
export const deliveryPage = pageReply(delivery);

export const deliveryQuery = z.strictObject({
  ...pageShape,
  state: z.enum(['pending', 'delivered', 'failed']).optional(),
});
export type DeliveryQuery = z.output<typeof deliveryQuery>;
