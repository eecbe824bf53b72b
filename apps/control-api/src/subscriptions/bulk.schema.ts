import { z } from 'zod';
import type { PlanId, SubscriptionId } from '@penstock/domain/ids';
import { exampleIds } from '../http/example-ids.js';
import { id, idText, name } from '../http/fields.js';
import { added } from './acts.schema.js';
import { beginning, subscriptionFilter } from './subscriptions.schema.js';

/** Of one request: a transaction of some seconds. */
export const BULK_MAX = 10_000;
const NUMBER_MAX = 1_000_000_000;
/** What is replaced by the number. */
export const NUMBER = '{n}';

export const newSubscriptions = z
  .strictObject({
    planId: id<PlanId>(),
    namePattern: name
      .refine((text) => text.split(NUMBER).length === 2, `must hold ${NUMBER} once`)
      .refine((text) => text.length <= 90, 'must be at most 90 characters')
      .meta({ description: `${NUMBER} becomes the number` }),
    first: z.number().int().min(0).max(NUMBER_MAX).default(1).meta({ description: 'The first number' }),
    count: z.number().int().min(1).max(BULK_MAX),
    ...beginning,
  })
  .meta({ examples: [{ planId: exampleIds.plan, namePattern: 'customer-{n}', first: 1, count: 3 }] });
export type NewSubscriptions = z.output<typeof newSubscriptions>;

/** In the order of their numbers. */
export const madeSubscriptions = z.strictObject({
  count: z.number().int(),
  subscriptionIds: z.array(idText),
});

export const bulkActions = [
  'disable',
  'enable',
  'delete',
  'activate',
  'reset',
  'renew',
  'extend',
  'top_up',
] as const;

export const bulkAct = z
  .strictObject({
    action: z.enum(bulkActions),
    subscriptionIds: z
      .array(id<SubscriptionId>())
      .min(1)
      .max(BULK_MAX)
      .refine((list) => new Set(list).size === list.length, 'must not repeat itself')
      .optional(),
    filter: z
      .strictObject(subscriptionFilter)
      .optional()
      .meta({ description: 'All that it finds; more than 10,000 are refused' }),
    days: z.number().int().min(1).max(36_500).optional().meta({ description: 'For extend' }),
    bytes: added.optional(),
    planId: id<PlanId>().optional().meta({ description: 'For renew: another plan' }),
  })
  .superRefine((act, context) => {
    const refuse = (path: string, message: string): void =>
      context.addIssue({ code: 'custom', path: [path], message });
    if ((act.subscriptionIds === undefined) === (act.filter === undefined))
      refuse('subscriptionIds', 'say which: subscriptionIds or filter');
    const only = [
      ['days', 'extend', true],
      ['bytes', 'top_up', true],
      ['planId', 'renew', false],
    ] as const;
    for (const [field, action, needed] of only) {
      if (act[field] !== undefined && act.action !== action) refuse(field, `is for ${action} alone`);
      if (act[field] === undefined && act.action === action && needed) refuse(field, `${action} needs it`);
    }
  })
  .meta({ examples: [{ action: 'disable', subscriptionIds: [exampleIds.subscription] }] });
export type BulkAct = z.output<typeof bulkAct>;

export const bulkDone = z.strictObject({ count: z.number().int() });
