import { z } from 'zod';
import { engines, meteringPeriods } from '@penstock/domain/terms';
import type { NodeGroupId } from '@penstock/domain/ids';
import { bytes, bytesText, id, idText, name, pageReply, timeText } from '../http/fields.js';
import { exampleIds } from '../http/example-ids.js';

const NODE_GROUPS_MAX = 50;
/** What a node takes of one subscription (node-agent, wireguard/plan.ts). */
const DEVICES_MAX = 256;
const unique = (list: unknown[]): boolean => new Set(list).size === list.length;

export const newPlan = z
  .strictObject({
    name,
    /** null: unlimited. */
    limitBytes: bytes.nullable(),
    period: z.enum(meteringPeriods).default('none'),
    durationDays: z.number().int().min(1).max(36_500).nullable().default(null),
    deviceLimit: z.number().int().min(1).max(DEVICES_MAX).default(1),
    engines: z.array(z.enum(engines)).min(1).max(engines.length).refine(unique, 'must not repeat itself'),
    offlinePolicy: z.enum(['deny', 'grace']).default('deny'),
    nodeGroupIds: z
      .array(id<NodeGroupId>())
      .min(1)
      .max(NODE_GROUPS_MAX)
      .refine(unique, 'must not repeat itself'),
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
  version: z.number().int(),
  createdAt: timeText,
});
export const planPage = pageReply(plan);
