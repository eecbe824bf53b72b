import { z } from 'zod';
import { effectiveStates, engines, meteringPeriods } from '@penstock/domain/terms';
import type { PlanId } from '@penstock/domain/ids';
import { bytes, bytesText, id, idText, name, pageShape, text, time, timeText } from '../http/fields.js';
import { exampleIds } from '../http/example-ids.js';

const externalRef = text(200);
const wantedState = z.enum(['active', 'disabled']);

/** How a list is ordered; a minus turns it round. By when they were made where nothing else is said. */
export const subscriptionSorts = [
  'createdAt',
  '-createdAt',
  'name',
  '-name',
  'expiresAt',
  '-expiresAt',
] as const;
export type SubscriptionSort = (typeof subscriptionSorts)[number];

/** What a subscription's beginning and end may be made of; shared by one and by many. */
export const beginning = {
  expiresAt: time
    .nullable()
    .optional()
    .meta({ description: 'Left out: the plan’s duration from its start. null: never' }),
  onHold: z
    .boolean()
    .optional()
    .meta({ description: 'It starts at its first use; left out: as the plan says' }),
  holdDeadline: time.optional().meta({ description: 'One on hold starts by itself then, used or not' }),
  nextPlanId: id<PlanId>().nullable().optional().meta({ description: 'Left out: as the plan says' }),
};

export const newSubscription = z
  .strictObject({
    planId: id<PlanId>(),
    name,
    /** Opaque reference of the tenant's own system. */
    externalRef: externalRef.nullable().default(null),
    ...beginning,
  })
  .meta({ examples: [{ planId: exampleIds.plan, name: 'customer 1', externalRef: 'order-20417' }] });
export type NewSubscription = z.output<typeof newSubscription>;

export const changedSubscription = z
  .strictObject({
    name: name.optional(),
    externalRef: externalRef.nullable().optional(),
    adminState: wantedState.optional(),
    limitBytes: bytes.nullable().optional(),
    expiresAt: time.nullable().optional(),
    holdDeadline: time.nullable().optional(),
    nextPlanId: id<PlanId>().nullable().optional(),
  })
  .refine((change) => Object.values(change).some((value) => value !== undefined), 'must change something')
  .meta({ examples: [{ limitBytes: '20000000000', expiresAt: '2027-01-01T00:00:00Z' }] });
export type ChangedSubscription = z.output<typeof changedSubscription>;

/** Which subscriptions; for lists and for what is done to many. */
export const subscriptionFilter = {
  planId: id<PlanId>().optional(),
  adminState: wantedState.optional(),
  state: z.enum(effectiveStates).optional(),
  externalRef: externalRef.optional().meta({ description: 'Exactly this reference, whatever its case' }),
  q: text(100).optional().meta({ description: 'What the name or the reference begins with' }),
  expiresBefore: time.optional(),
};

export const subscriptionQuery = z
  .strictObject({
    limit: pageShape.limit,
    cursor: z
      .string()
      .regex(/^[A-Za-z0-9_-]{1,800}$/, 'must be the nextCursor of a page')
      .optional(),
    ...subscriptionFilter,
    sort: z.enum(subscriptionSorts).optional(),
  })
  .refine((query) => query.q === undefined || query.sort === undefined, {
    message: 'what is searched for comes in the order of what was found',
    path: ['sort'],
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
  /** It has not started: its first use, its deadline or an admin starts it. */
  onHold: z.boolean(),
  holdDeadline: timeText.nullable(),
  /** null while it is on hold. */
  startedAt: timeText.nullable(),
  /** Days from the start; null: expiresAt stands by itself. */
  durationDays: z.number().int().nullable(),
  expiresAt: timeText.nullable(),
  nextPlanId: idText.nullable(),
  version: z.number().int(),
  createdAt: timeText,
});
export const subscriptionPage = z.strictObject({
  items: z.array(subscription),
  nextCursor: z.string().nullable(),
});
