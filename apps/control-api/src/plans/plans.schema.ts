import { z } from 'zod';
import { engines, meteringPeriods } from '@penstock/domain/terms';
import type { NodeGroupId, PlanId } from '@penstock/domain/ids';
import { bytes, bytesText, id, idText, name, pageReply, timeText } from '../http/fields.js';
import { exampleIds } from '../http/example-ids.js';

const NODE_GROUPS_MAX = 50;
/** What a node takes of one subscription (node-agent, wireguard/plan.ts). */
const DEVICES_MAX = 256;
const unique = (list: unknown[]): boolean => new Set(list).size === list.length;

const limitBytes = bytes
  .nullable()
  .meta({ description: 'Bytes of a period, both directions; null: unlimited' });
const durationDays = z.number().int().min(1).max(36_500).nullable();
const deviceLimit = z.number().int().min(1).max(DEVICES_MAX);
const engineList = z
  .array(z.enum(engines))
  .min(1)
  .max(engines.length)
  .refine(unique, 'must not repeat itself');
const offlinePolicy = z.enum(['deny', 'grace']);
const nodeGroupIds = z
  .array(id<NodeGroupId>())
  .min(1)
  .max(NODE_GROUPS_MAX)
  .refine(unique, 'must not repeat itself');
const nextPlanId = id<PlanId>()
  .nullable()
  .meta({ description: 'What a subscription goes on with when its term or its quota is over' });

export const newPlan = z
  .strictObject({
    name,
    limitBytes,
    period: z.enum(meteringPeriods).default('none'),
    durationDays: durationDays.default(null),
    deviceLimit: deviceLimit.default(1),
    engines: engineList,
    offlinePolicy: offlinePolicy.default('deny'),
    nodeGroupIds,
    /** Subscriptions are on hold until they are used. */
    startsOnFirstUse: z.boolean().default(false),
    nextPlanId: nextPlanId.default(null),
  })
  .meta({
    examples: [
      {
        name: 'Ten gigabytes a month',
        limitBytes: '10000000000',
        period: 'month',
        durationDays: 30,
        deviceLimit: 2,
        engines: ['xray', 'wireguard'],
        nodeGroupIds: [exampleIds.nodeGroup],
      },
    ],
  });
export type NewPlan = z.output<typeof newPlan>;

/** Terms are copied when a subscription is made, so these hold for later ones; node groups hold for all at once. */
export const changedPlan = z
  .strictObject({
    name: name.optional(),
    limitBytes: limitBytes.optional(),
    period: z.enum(meteringPeriods).optional(),
    durationDays: durationDays.optional(),
    deviceLimit: deviceLimit.optional(),
    engines: engineList.optional(),
    offlinePolicy: offlinePolicy.optional(),
    nodeGroupIds: nodeGroupIds.optional(),
    startsOnFirstUse: z.boolean().optional(),
    nextPlanId: nextPlanId.optional(),
  })
  .refine((change) => Object.values(change).some((value) => value !== undefined), 'must change something')
  .meta({ examples: [{ name: 'Twenty gigabytes a month', limitBytes: '20000000000' }] });
export type ChangedPlan = z.output<typeof changedPlan>;

export const plan = z.strictObject({
  planId: idText,
  name: z.string(),
  limitBytes: bytesText.nullable(),
  period: z.enum(meteringPeriods),
  durationDays: z.number().int().nullable(),
  deviceLimit: z.number().int(),
  engines: z.array(z.enum(engines)),
  offlinePolicy: z.enum(['deny', 'grace']),
  nodeGroupIds: z.array(idText),
  startsOnFirstUse: z.boolean(),
  nextPlanId: idText.nullable(),
  version: z.number().int(),
  createdAt: timeText,
});
export const planPage = pageReply(plan);
