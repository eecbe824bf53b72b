import { z } from 'zod';
import { idText, name, pageReply, timeText } from '../http/fields.js';

const timeZone = z.string().refine((zone) => {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: zone }).resolvedOptions().timeZone !== '';
  } catch {
    return false;
  }
}, 'must be an IANA time zone');

export const newTenant = z
  .strictObject({ name, timeZone: timeZone.default('UTC') })
  .meta({ examples: [{ name: 'Example Net', timeZone: 'Europe/Berlin' }] });
export type NewTenant = z.output<typeof newTenant>;

export const tenant = z.strictObject({
  tenantId: idText,
  name: z.string(),
  kind: z.enum(['platform', 'customer']),
  state: z.enum(['active', 'suspended']),
  timeZone: z.string(),
  version: z.number().int(),
  createdAt: timeText,
});
export const tenantPage = pageReply(tenant);
