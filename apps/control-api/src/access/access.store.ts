// What a customer's connection is made of: the sealed secrets, the nodes that serve the plan, the devices' addresses.
// The one place besides the scheduler that selects sealed secrets.
import type { DeviceId, NodeId, SubscriptionId } from '@penstock/domain/ids';
import type { Engine } from '@penstock/domain/terms';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';

const selectSecret = statement<{ secret: Buffer; engines: Engine[]; name: string }>(
  'access.secret',
  `SELECT secret, engines, name FROM subscription
    WHERE tenant_id = $1 AND subscription_id = $2 AND deleted_at IS NULL`,
);

/** Sealed; null when there is no such subscription. */
export async function findSecret(
  { actor, client }: Acting,
  id: SubscriptionId,
): Promise<{ secret: Buffer; engines: Engine[]; name: string } | null> {
  return (await run(client, selectSecret, [actor.tenantId, id]))[0] ?? null;
}

export interface ServingInbound {
  nodeId: NodeId;
  nodeName: string;
  address: string;
  tag: string;
  engine: Engine;
  port: number;
  settings: Record<string, unknown>;
}

// The same nodes that the scheduler assigns: active ones of the plan's groups, shared or the tenant's own, and those in
// drain that serve it already. An engine of which the node's agent says that this machine does not run it (it is down and
// has no version) serves nobody, whatever was registered.
const selectInbounds = statement<ServingInbound>(
  'access.inbounds',
  `SELECT n.node_id AS "nodeId", n.name AS "nodeName", n.address, i.tag, i.engine, i.port, i.settings
     FROM node n JOIN inbound i ON i.node_id = n.node_id
     LEFT JOIN node_status h ON h.node_id = n.node_id
    WHERE NOT EXISTS (SELECT FROM jsonb_array_elements(h.engines) e
                       WHERE e ->> 'engine' = i.engine AND e ->> 'running' = 'false' AND e ->> 'version' = '')
      AND (n.state = 'active' OR n.state = 'drain' AND EXISTS (
             SELECT FROM assignment a WHERE a.tenant_id = $1 AND a.node_id = n.node_id AND a.subscription_id = $2
                AND a.ended_at IS NULL))
      AND (n.owner_tenant_id IS NULL OR n.owner_tenant_id = $1)
      AND EXISTS (SELECT FROM subscription s
                    JOIN plan_node_group g ON g.tenant_id = s.tenant_id AND g.plan_id = s.plan_id
                    JOIN node_group_node m ON m.node_group_id = g.node_group_id
                   WHERE s.tenant_id = $1 AND s.subscription_id = $2 AND m.node_id = n.node_id
                     AND i.engine = ANY (s.engines))
    ORDER BY n.name, n.node_id, i.tag`,
);

export function listServingInbounds(
  { actor, client }: Acting,
  id: SubscriptionId,
): Promise<ServingInbound[]> {
  return run(client, selectInbounds, [actor.tenantId, id]);
}

export interface DeviceSecret {
  deviceId: DeviceId;
  name: string;
  /** Sealed; null when the key is the customer's own. */
  privateKey: Buffer | null;
}

const selectDevices = statement<DeviceSecret>(
  'access.devices',
  `SELECT device_id AS "deviceId", name, private_key AS "privateKey" FROM device
    WHERE tenant_id = $1 AND subscription_id = $2 AND removed_at IS NULL ORDER BY device_id`,
);

export function listDeviceSecrets({ actor, client }: Acting, id: SubscriptionId): Promise<DeviceSecret[]> {
  return run(client, selectDevices, [actor.tenantId, id]);
}

export interface DeviceAddress {
  nodeId: NodeId;
  deviceId: DeviceId;
  /** With its full prefix. */
  address: string;
}

const selectAddresses = statement<DeviceAddress>(
  'access.addresses',
  `SELECT node_id AS "nodeId", device_id AS "deviceId",
          host(address) || CASE family(address) WHEN 4 THEN '/32' ELSE '/128' END AS address
     FROM node_address WHERE device_id = ANY ($1::uuid[]) AND released_at IS NULL ORDER BY address`,
);

/** `deviceIds`: devices that the actor has just read. */
export function listAddresses({ client }: Acting, deviceIds: DeviceId[]): Promise<DeviceAddress[]> {
  return run(client, selectAddresses, [deviceIds]);
}
