// "Confirmed on n of m nodes, 212 ms" from orders and from what should hold. Pure. An order of the wrong kind (an old
// grant while a cut is due) confirms nothing.
import type { NodeId } from '@penstock/domain/ids';
import { hasAccess } from '@penstock/domain/terms';
import type { Order, Wanted } from './enforcement.store.js';

export interface Summary {
  state: string;
  confirmed: number;
  nodes: number;
  ms: number | null;
  items: Order[];
}

/** What every node should have been told. An admin's word counts at once, before the scheduler has acted on it. */
export function wantedKind({ adminState, effectiveState, tenantState }: Wanted): Order['kind'] {
  if (adminState !== 'active' || tenantState === 'suspended') return 'cut';
  // Switched on again, and the scheduler has not come to it yet.
  if (effectiveState === 'disabled' || effectiveState === null) return 'grant';
  return hasAccess(effectiveState) ? 'grant' : 'cut';
}

export function summarize(wanted: Wanted, orders: Order[]): Summary {
  const kind = wantedKind(wanted);
  const assigned = new Set(wanted.nodeIds);
  // A node that no longer serves the subscription must have cut it off, whatever holds elsewhere; one that never
  // served it need not be told of a cut.
  const due = (nodeId: NodeId): Order['kind'] => (assigned.has(nodeId) ? kind : 'cut');
  const nodes = new Set(orders.map((order) => order.nodeId));
  if (kind === 'grant') for (const nodeId of assigned) nodes.add(nodeId);
  const done = orders.filter((order) => order.kind === due(order.nodeId) && order.state === 'confirmed');
  const times = done.map(
    (order) => (order.acknowledgedAt ?? order.causedAt).getTime() - order.causedAt.getTime(),
  );
  return {
    state: `confirmed on ${done.length} of ${nodes.size} nodes`,
    confirmed: done.length,
    nodes: nodes.size,
    ms: times.length === 0 ? null : Math.max(...times),
    items: orders,
  };
}
