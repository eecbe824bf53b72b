import { z } from 'zod';
import type { PlanId } from '@penstock/domain/ids';
import { bytes, bytesText, id, idText, timeText } from '../http/fields.js';

/** What is added to a period: something, and so that a sum of many still fits. */
export const added = bytes
  .refine((value) => value > 0n && value <= 2n ** 60n, 'must be from 1 to 1152921504606846976')
  .meta({ description: 'Bytes that are added to the current period alone' });

export const renewal = z
  .strictObject({
    planId: id<PlanId>().optional().meta({ description: 'Left out: the plan that it has' }),
  })
  .meta({ examples: [{}] });
export type Renewal = z.output<typeof renewal>;

export const topUp = z.strictObject({ bytes: added }).meta({ examples: [{ bytes: '5000000000' }] });
export type TopUp = z.output<typeof topUp>;

export const act = z.strictObject({
  actId: idText,
  kind: z.enum(['reset', 'renew', 'top_up', 'start', 'next_plan']),
  bytes: bytesText.nullable(),
  planId: idText.nullable(),
  requestedAt: timeText,
  /** When it was carried out; null: it waits. */
  doneAt: timeText.nullable(),
});
/** The newest first. */
export const actList = z.strictObject({ items: z.array(act) });
