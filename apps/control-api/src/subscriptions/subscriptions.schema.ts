import { z } from 'zod';
import { effectiveStates, engines, meteringPeriods } from '@penstock/domain/terms';
import type { PlanId } from '@penstock/domain/ids';
import {
  bytes,
  bytesText,
  id,
  idText,
  name,
  pageReply,
  pageShape,
  text,
  time,
  timeText,
} from '../http/fields.js';
import { exampleIds } from '../http/example-ids.js';

const externalRef = text(200);
const wantedState = z.enum(['active', 'disabled']);

export const newSubscription = z
  .strictObject({
    planId: id<PlanId>(),
    name,
    /** Opaque reference of the tenant's own system. */
    externalRef: externalRef.nullable().default(null),
    /** Left out: the plan's duration from now. null: never. */
    expiresAt: time.nullable().optional(),
  })
  .meta({ examples: [{ planId: exampleIds.plan, name: 'customer 1', externalRef: 'order-20417' }] });
export type NewSubscription = z.output<typeof newSubscription>;

export const changedSubscription = z
  .strictObject({
    name: name.optional(),
    adminState: wantedState.optional(),
    limitBytes: bytes.nullable().optional(),
    expiresAt: time.nullable().optional(),
  })
  .refine((change) => Object.values(change).some((value) => value !== undefined), 'must change something')
  .meta({ examples: [{ name: 'customer one', adminState: 'disabled' }] });
export type ChangedSubscription = z.output<typeof changedSubscription>;

export const subscriptionQuery = z.strictObject({
  ...pageShape,
  planId: id<PlanId>().optional(),
  adminState: wantedState.optional(),
  state: z.enum(effectiveStates).optional(),
});
export type SubscriptionQuery = z.output<typeof subscriptionQuery>;

export const subscription = z.strictObject({
  subscriptionId: idText,
  planId: idText,
  name: z.string(),
  externalRef: z.string().nullable(),
  /** What an admin decided. */
  adminState: wantedState,
  /** What holds; null until the scheduler has looked at it for the first time. */
  state: z.enum(effectiveStates).nullable(),
  stateReason: z.string().nullable(),
  stateSince: timeText.nullable(),
  limitBytes: bytesText.nullable(),
  period: z.enum(meteringPeriods),
  engines: z.array(z.enum(engines)),
  deviceLimit: z.number().int(),
  expiresAt: timeText.nullable(),
  version: z.number().int(),
  createdAt: timeText,
});
export const subscriptionPage = pageReply(subscription);
