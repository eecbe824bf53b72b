// Reads what a node should have, from state alone: open assignments of active subscriptions, their devices and
// addresses, the node's inbounds. Nothing is remembered between reads; secrets are opened here and not kept.
import { run, statement, type Runner } from '@penstock/db/statement';
import { ZERO_ID, type NodeId, type SubscriptionId, type TenantId } from '@penstock/domain/ids';
import type { Engine } from '@penstock/domain/terms';
import type { DesiredDevice, InboundRow } from './access.js';

/** What stands in the tables of one subscription with access; sealed. */
export interface DesiredRow {
  tenantId: TenantId;
  subscriptionId: SubscriptionId;
  secret: Buffer;
  engines: Engine[];
  devices: DesiredDevice[] | null;
}

export interface PendingRow {
  tenantId: TenantId;
  subscriptionId: SubscriptionId;
  cause: string;
  causedAt: Date;
  generation: string;
  /** null: no access now. */
  secret: Buffer | null;
  engines: Engine[] | null;
  devices: DesiredDevice[] | null;
}

/** Subscriptions a page of the whole state holds. */
export const PAGE_ROWS = 2_000;

const DEVICES = `(
  SELECT jsonb_agg(jsonb_build_object('deviceId', d.device_id, 'publicKey', encode(d.public_key, 'base64'),
           'address', host(x.address) || CASE family(x.address) WHEN 4 THEN '/32' ELSE '/128' END) ORDER BY d.device_id)
  FROM device d
  JOIN node_address x ON x.node_id = a.node_id AND x.device_id = d.device_id AND x.released_at IS NULL
  WHERE d.tenant_id = a.tenant_id AND d.subscription_id = a.subscription_id AND d.removed_at IS NULL
    AND 'wireguard' = ANY (s.engines))`;

// The first row always comes while the lease is held, so an empty answer means that another process took the node.
const findPending = statement<Omit<PendingRow, 'tenantId'> & { tenantId: TenantId | null }>(
  'desired.pending',
  `SELECT c.tenant_id AS "tenantId", c.subscription_id AS "subscriptionId", c.cause, c.caused_at AS "causedAt",
          c.generation, d.secret, d.engines, d.devices
   FROM node_lease l
   LEFT JOIN LATERAL (
     SELECT n.* FROM node_change n WHERE n.node_id = l.node_id ORDER BY n.caused_at LIMIT $3) c ON true
   LEFT JOIN LATERAL (
     SELECT s.secret, s.engines, ${DEVICES} AS devices
     FROM assignment a
     JOIN subscription_state st ON st.tenant_id = a.tenant_id AND st.subscription_id = a.subscription_id
     JOIN subscription s ON s.tenant_id = a.tenant_id AND s.subscription_id = a.subscription_id
     WHERE a.tenant_id = c.tenant_id AND a.node_id = c.node_id AND a.subscription_id = c.subscription_id
       AND a.ended_at IS NULL AND st.effective_state IN ('active', 'on_hold')) d ON true
   WHERE l.node_id = $1 AND l.fence = $2`,
);

/** Changes that wait for the node, with what holds now. null: the node's lease is not ours any more. */
export async function findPendingChanges(
  db: Runner,
  nodeId: NodeId,
  fence: bigint,
  max: number,
): Promise<PendingRow[] | null> {
  const rows = await run(db, findPending, [nodeId, fence.toString(), max]);
  if (rows.length === 0) return null;
  return rows.filter((row): row is PendingRow => row.tenantId !== null);
}

const findByIds = statement<DesiredRow>(
  'desired.by_ids',
  `SELECT a.tenant_id AS "tenantId", a.subscription_id AS "subscriptionId", s.secret, s.engines, ${DEVICES} AS devices
   FROM unnest($2::uuid[], $3::uuid[]) AS k (tenant_id, subscription_id)
   JOIN assignment a ON a.tenant_id = k.tenant_id AND a.node_id = $1 AND a.subscription_id = k.subscription_id
     AND a.ended_at IS NULL
   JOIN subscription_state st ON st.tenant_id = a.tenant_id AND st.subscription_id = a.subscription_id
     AND st.effective_state IN ('active', 'on_hold')
   JOIN subscription s ON s.tenant_id = a.tenant_id AND s.subscription_id = a.subscription_id`,
);

/** Those of these subscriptions that should have access on the node. */
export async function findDesired(
  db: Runner,
  nodeId: NodeId,
  keys: readonly { tenantId: TenantId; subscriptionId: SubscriptionId }[],
): Promise<DesiredRow[]> {
  if (keys.length === 0) return [];
  return run(db, findByIds, [nodeId, keys.map((k) => k.tenantId), keys.map((k) => k.subscriptionId)]);
}

const findPage = statement<DesiredRow>(
  'desired.page',
  `SELECT a.tenant_id AS "tenantId", a.subscription_id AS "subscriptionId", s.secret, s.engines, ${DEVICES} AS devices
   FROM (SELECT x.* FROM assignment x
         JOIN subscription_state st ON st.tenant_id = x.tenant_id AND st.subscription_id = x.subscription_id
           AND st.effective_state IN ('active', 'on_hold')
         WHERE x.node_id = $1 AND x.ended_at IS NULL AND (x.tenant_id, x.subscription_id) > ($2::uuid, $3::uuid)
         ORDER BY x.tenant_id, x.subscription_id LIMIT $4) a
   JOIN subscription s ON s.tenant_id = a.tenant_id AND s.subscription_id = a.subscription_id
   ORDER BY a.tenant_id, a.subscription_id`,
);

/** The whole desired state of a node, in pages. */
export async function* listDesired(
  db: Runner,
  nodeId: NodeId,
): AsyncGenerator<DesiredRow[], void, undefined> {
  let after: { tenantId: string; subscriptionId: string } = { tenantId: ZERO_ID, subscriptionId: ZERO_ID };
  for (;;) {
    const rows = await run(db, findPage, [nodeId, after.tenantId, after.subscriptionId, PAGE_ROWS]);
    if (rows.length > 0) yield rows;
    const last = rows.at(-1);
    if (rows.length < PAGE_ROWS || last === undefined) return;
    after = last;
  }
}

const findInbounds = statement<InboundRow & { secret: Buffer | null }>(
  'desired.inbounds',
  'SELECT tag, engine, port, settings, secret FROM inbound WHERE node_id = $1 ORDER BY tag',
);

/** The node's inbounds by tag; `secret` is sealed. */
export async function listInbounds(
  db: Runner,
  nodeId: NodeId,
): Promise<(InboundRow & { secret: Buffer | null })[]> {
  return run(db, findInbounds, [nodeId]);
}

const findWaitingNodes = statement<{ nodeId: NodeId }>(
  'desired.waiting_nodes',
  'SELECT DISTINCT node_id AS "nodeId" FROM node_change WHERE node_id = ANY ($1::uuid[])',
);

/** Those of these nodes for which a change waits. */
export async function listWaitingNodes(db: Runner, nodeIds: readonly NodeId[]): Promise<NodeId[]> {
  return (await run(db, findWaitingNodes, [nodeIds])).map((row) => row.nodeId);
}
