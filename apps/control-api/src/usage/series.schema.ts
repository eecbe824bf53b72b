import { z } from 'zod';
import { engines } from '@penstock/domain/terms';
import type { NodeId, SubscriptionId } from '@penstock/domain/ids';
import { format } from '../http/csv.js';
import { exampleIds } from '../http/example-ids.js';
import { bytesText, id, pageShape, time, timeText } from '../http/fields.js';
import { timeZone } from '../tenants/tenants.schema.js';

/** Points of one answer. */
export const POINTS_MAX = 10_000;
/** Days of one top list. */
export const TOP_DAYS_MAX = 400;
/** The same of subscriptions: 31 days of 100,000 take 1.3 s. */
export const TOP_SUBSCRIPTION_DAYS_MAX = 92;
export const groupings = ['tenant', 'node', 'engine', 'subscription'] as const;
export type Grouping = (typeof groupings)[number];
export const steps = ['hour', 'day', 'month'] as const;
export type Step = (typeof steps)[number];

const by = z
  .enum(groupings)
  .default('tenant')
  .meta({ description: 'One series, or row, for each of these.' });
const filterShape = {
  subscriptionId: id<SubscriptionId>().optional().meta({ description: 'Only its usage.' }),
  nodeId: id<NodeId>().optional().meta({ description: 'Only usage over this node.' }),
  engine: z.enum(engines).optional(),
  scope: z
    .enum(['own', 'all'])
    .default('own')
    .meta({ description: 'all: over all tenants; only for the platform, and not by subscription.' }),
  format,
};

const day = z.iso.date();

export const seriesQuery = z.strictObject({
  by,
  ...filterShape,
  from: time
    .optional()
    .meta({ description: 'Hours that begin at this time or later; by default 30 days before `to`.' }),
  to: time.optional().meta({ description: 'Hours that begin before this time; by default now.' }),
  step: z.enum(steps).default('day'),
  timeZone: timeZone.optional().meta({ description: 'Of days and months; by default the tenant’s.' }),
});
export type SeriesQuery = z.output<typeof seriesQuery>;

export const topQuery = z.strictObject({
  by: by.default('subscription'),
  ...filterShape,
  from: day
    .optional()
    .meta({ description: 'First day, of the tenant’s time zone; by default 30 days before `to`.' }),
  to: day.optional().meta({ description: 'Last day; by default today.' }),
  limit: pageShape.limit,
});
export type TopQuery = z.output<typeof topQuery>;

const bytesShape = {
  upBytes: bytesText,
  downBytes: bytesText,
  billableBytes: bytesText.meta({ description: 'Raw times the node’s multiplier in force then.' }),
};
const key = z
  .string()
  .meta({ description: 'Id of the tenant, node or subscription, or the name of the engine.' });

export const usageSeries = z.strictObject({
  by: z.enum(groupings),
  step: z.enum(steps),
  timeZone: z.string(),
  from: timeText,
  to: timeText,
  series: z.array(
    z.strictObject({
      key,
      points: z
        .array(z.strictObject({ at: timeText, ...bytesShape }))
        .meta({ description: 'By time; steps without usage are left out.' }),
    }),
  ),
});

export const usageTop = z
  .strictObject({
    by: z.enum(groupings),
    from: day,
    to: day,
    items: z.array(
      z.strictObject({
        key,
        name: z
          .string()
          .nullable()
          .meta({ description: 'Of the subscription, node or tenant, while it exists.' }),
        ...bytesShape,
      }),
    ),
  })
  .meta({
    examples: [
      {
        ...{ by: 'subscription', from: '2026-10-01', to: '2026-10-31' },
        items: [
          {
            ...{ key: exampleIds.subscription, name: 'customer-17' },
            ...{ upBytes: '1000', downBytes: '9000', billableBytes: '10000' },
          },
        ],
      },
    ],
  });
