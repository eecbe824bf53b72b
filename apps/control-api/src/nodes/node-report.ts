// What a node last said of itself, as people see it. Pure.
import type { NodeRow } from './nodes.store.js';

/** Three heartbeats of five seconds: what the product calls online. */
const ONLINE_MS = 15_000;

export type NodeReport = Pick<
  NodeRow,
  | 'agentVersion'
  | 'appliedRevision'
  | 'subscriptions'
  | 'engines'
  | 'walBytes'
  | 'walFrames'
  | 'acknowledgedSeq'
  | 'clockSkewMs'
> & { heartbeatAt: Date };

export function isOnline({ heartbeatAt }: NodeRow, nowMs: number): boolean {
  return heartbeatAt !== null && nowMs - heartbeatAt.getTime() <= ONLINE_MS;
}

/** null when the node was never heard of. */
export function reportedBy(row: NodeRow): NodeReport | null {
  const { heartbeatAt, agentVersion, appliedRevision, subscriptions, engines, clockSkewMs } = row;
  const { walBytes, walFrames, acknowledgedSeq } = row;
  if (heartbeatAt === null) return null;
  return {
    ...{ heartbeatAt, agentVersion, appliedRevision, subscriptions, engines, clockSkewMs },
    ...{ walBytes, walFrames, acknowledgedSeq },
  };
}
