// The newest order of a subscription on each node, and what should hold. Read only: the scheduler writes.
import type { NodeId, SubscriptionId } from '@penstock/domain/ids';
import type { AdminState, EffectiveState } from '@penstock/domain/terms';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';

export interface Order {
  nodeId: NodeId;
  kind: 'grant' | 'cut';
  cause: string;
  state: 'ordered' | 'confirmed' | 'unproven' | 'failed';
  revision: bigint;
  causedAt: Date;
  orderedAt: Date;
  acknowledgedAt: Date | null;
  cutUs: number | null;
  provenUs: number | null;
  sessionsEnded: number | null;
  reason: string;
}

const selectOrders = statement<Order>(
  'enforcement.newest',
  `SELECT DISTINCT ON (node_id) node_id AS "nodeId", kind, cause, state, revision, caused_at AS "causedAt",
          ordered_at AS "orderedAt", acknowledged_at AS "acknowledgedAt", cut_us AS "cutUs", proven_us AS "provenUs",
          sessions_ended AS "sessionsEnded", reason
     FROM enforcement WHERE tenant_id = $1 AND subscription_id = $2 ORDER BY node_id, revision DESC`,
);

export function listOrders({ actor, client }: Acting, id: SubscriptionId): Promise<Order[]> {
  return run(client, selectOrders, [actor.tenantId, id]);
}

export interface Wanted {
  adminState: AdminState;
  effectiveState: EffectiveState | null;
  tenantState: 'active' | 'suspended';
  /** Nodes that serve it now. */
  nodeIds: NodeId[];
}

// A tombstone too: its end is what has to be proven.
const selectWanted = statement<Wanted>(
  'enforcement.wanted',
  `SELECT s.admin_state AS "adminState", e.effective_state AS "effectiveState",
          (SELECT t.state FROM tenant t WHERE t.tenant_id = s.tenant_id) AS "tenantState",
          ARRAY(SELECT a.node_id FROM assignment a WHERE a.tenant_id = s.tenant_id
                   AND a.subscription_id = s.subscription_id AND a.ended_at IS NULL) AS "nodeIds"
     FROM subscription s LEFT JOIN subscription_state e
       ON e.tenant_id = s.tenant_id AND e.subscription_id = s.subscription_id
    WHERE s.tenant_id = $1 AND s.subscription_id = $2`,
);

export async function findWanted({ actor, client }: Acting, id: SubscriptionId): Promise<Wanted | null> {
  return (await run(client, selectWanted, [actor.tenantId, id]))[0] ?? null;
}
