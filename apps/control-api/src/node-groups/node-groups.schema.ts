import { z } from 'zod';
import type { NodeId } from '@penstock/domain/ids';
import { id, idText, name, pageReply, timeText } from '../http/fields.js';
import { exampleIds } from '../http/example-ids.js';

export const newNodeGroup = z.strictObject({ name }).meta({ examples: [{ name: 'Frankfurt' }] });
export type NewNodeGroup = z.output<typeof newNodeGroup>;

export const changedNodeGroup = z
  .strictObject({ name })
  .meta({ examples: [{ name: 'Frankfurt and Amsterdam' }] });
export type ChangedNodeGroup = z.output<typeof changedNodeGroup>;

export const newMember = z
  .strictObject({ nodeId: id<NodeId>() })
  .meta({ examples: [{ nodeId: exampleIds.node }] });
export type NewMember = z.output<typeof newMember>;

export const nodeGroup = z.strictObject({
  nodeGroupId: idText,
  name: z.string(),
  /** True: the operator's own, for all tenants. */
  shared: z.boolean(),
  nodeIds: z.array(idText),
  version: z.number().int(),
  createdAt: timeText,
});
export const nodeGroupPage = pageReply(nodeGroup);
