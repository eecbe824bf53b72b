// From the inbounds that a node has and those that it shall have to what is to be done. Pure. An inbound keeps its keys,
// and so its customers their configurations, while its tag, engine and security stay.
import { askedSettings } from './inbound-keys.js';
import type { NewInbound } from './inbounds.schema.js';
import type { InboundRow } from './inbounds.store.js';

type Inbound = Omit<InboundRow, 'nodeId'>;

export interface InboundPlan {
  /** Tags. */
  remove: string[];
  /** With the keys that they had. */
  update: Inbound[];
  /** To be given keys. */
  insert: NewInbound[];
}

export function planInbounds(before: readonly Inbound[], wanted: readonly NewInbound[]): InboundPlan {
  const plan: InboundPlan = { remove: [], update: [], insert: [] };
  const byTag = new Map(before.map((inbound) => [inbound.tag, inbound]));
  for (const inbound of wanted) {
    const old = byTag.get(inbound.tag);
    if (old === undefined || !isSameKind(old, inbound)) {
      plan.insert.push(inbound);
      continue;
    }
    byTag.delete(inbound.tag);
    const { tag, engine, port } = inbound;
    const settings = { ...old.settings, ...askedSettings(inbound) };
    if (port !== old.port || !isEqual(settings, old.settings))
      plan.update.push({ tag, engine, port, settings });
  }
  plan.remove.push(...byTag.keys());
  return plan;
}

function isSameKind(old: Inbound, inbound: NewInbound): boolean {
  if (old.engine !== inbound.engine) return false;
  return inbound.engine === 'wireguard' || old.settings['security'] === inbound.security;
}

/** The order of keys does not count: jsonb keeps its own. */
function isEqual(a: Record<string, unknown>, b: Record<string, unknown>): boolean {
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length &&
    keys.every((key) => JSON.stringify(a[key]) === JSON.stringify(b[key]))
  );
}
