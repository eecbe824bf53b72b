import { isIP } from 'node:net';
import { z } from 'zod';
import { eventPatterns } from '../events/event-names.js';
import { idText, name, pageReply, pageShape, timeText } from '../http/fields.js';

const PORTS = new Set(['', '443', '8443']);
const URL_MAX = 2_000;

/** Names that lead to the machine itself or only within a network of somebody's own. */
const HOME_NAME = /(^|\.)(localhost|local|internal)$/;

/** What is wrong with the address of a webhook, in words; null when nothing is. */
function urlFault(text: string): string | null {
  const parsed = URL.canParse(text) ? new URL(text) : null;
  if (parsed === null) return 'must be an address such as https://hooks.example.org/penstock';
  if (parsed.protocol !== 'https:') return 'must be an https address';
  if (parsed.username + parsed.password !== '') return 'must hold no user name or password';
  if (!PORTS.has(parsed.port)) return 'must be on port 443 or 8443';
  if (isIP(parsed.hostname.replace(/^\[|\]$/g, '')) !== 0) return 'must hold a host name, not an IP address';
  const host = parsed.hostname.replace(/\.$/, '');
  if (HOME_NAME.test(host))
    return 'must hold a public host name, not localhost or one of .local or .internal';
  return host.includes('.') ? null : 'must hold a full host name such as hooks.example.org';
}

/** Where a tenant's server listens. Whom that name leads to is checked when it is called (scheduler). */
const url = z
  .string()
  .max(URL_MAX)
  .superRefine((value, context) => {
    const message = urlFault(value);
    if (message !== null) context.addIssue({ code: 'custom', message });
  });

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
