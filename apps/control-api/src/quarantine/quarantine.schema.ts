import { z } from 'zod';
import type { Id, NodeId, SubscriptionId } from '@penstock/domain/ids';
import { engines } from '@penstock/domain/terms';
import { exampleIds } from '../http/example-ids.js';
import { bytesText, id, idText, pageReply, pageShape, timeText } from '../http/fields.js';

export const quarantineReasons = ['not_assigned', 'above_link_rate', 'no_period'] as const;
export type QuarantineReason = (typeof quarantineReasons)[number];

/** Rows that one request lets go. */
export const RELEASE_ROWS_MAX = 10_000;
const IDS_MAX = 1_000;

export type QuarantineId = Id<'quarantine'>;

export const quarantineQuery = z.strictObject({
  ...pageShape,
  nodeId: id<NodeId>().optional(),
  subscriptionId: id<SubscriptionId>().optional(),
  reason: z.enum(quarantineReasons).optional(),
  released: z
    .enum(['true', 'false'])
    .optional()
    .meta({ description: 'Only what was billed since, or only what was not' }),
});
export type QuarantineQuery = z.output<typeof quarantineQuery>;

export const release = z
  .strictObject({
    quarantineIds: z.array(id<QuarantineId>()).min(1).max(IDS_MAX).optional(),
    nodeId: id<NodeId>().optional(),
    subscriptionId: id<SubscriptionId>().optional(),
    reason: z.enum(quarantineReasons).optional(),
  })
  .refine(
    ({ quarantineIds, nodeId, subscriptionId }) =>
      quarantineIds !== undefined || nodeId !== undefined || subscriptionId !== undefined,
    'must name quarantineIds, nodeId or subscriptionId',
  )
  .meta({ examples: [{ nodeId: exampleIds.node, reason: 'above_link_rate' }] });
export type Release = z.output<typeof release>;

export const quarantined = z.strictObject({
  quarantineId: idText,
  nodeId: idText,
  subscriptionId: idText,
  engine: z.enum(engines),
  upBytes: bytesText,
  downBytes: bytesText,
  /** not_assigned: the node did not serve it. above_link_rate: more than its link carries. no_period: nothing to count in. */
  reason: z.enum(quarantineReasons),
  createdAt: timeText,
  /** Somebody wants it billed; that takes seconds. */
  releaseAskedAt: timeText.nullable(),
  /** Billed, once, with the multiplier of its time. */
  releasedAt: timeText.nullable(),
});
export const quarantinePage = pageReply(quarantined);

/** A sum of many rows may be larger than any one of them. */
const sumText = z.string().regex(/^(0|[1-9][0-9]{0,30})$/);

export const released = z.strictObject({
  rows: z.number().int().meta({ description: 'How many will be billed by this request' }),
  upBytes: sumText,
  downBytes: sumText,
  more: z.boolean().meta({ description: 'There are more than one request lets go: ask again' }),
});
