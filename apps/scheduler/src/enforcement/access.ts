// What a node is told, as the bytes that travel and are hashed. Pure. Invariant: equal state gives equal bytes in every
// process (devices in order of id, JSON in the order PostgreSQL gives), because two sides compare digests of them.
import { Access, NodeConfig } from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import { presharedKey, vlessId } from '@penstock/domain/credentials';
import type { DeviceId, NodeId, SubscriptionId, TenantId } from '@penstock/domain/ids';
import type { Engine } from '@penstock/domain/terms';

/** What a node can serve, from its inbounds. */
export interface NodeProfile {
  nodeId: NodeId;
  xray: boolean;
  /** Some Xray inbound is secured by REALITY: Vision is used there. */
  vision: boolean;
  wireguard: boolean;
}

export interface DesiredDevice {
  deviceId: DeviceId;
  /** Standard base64. */
  publicKey: string;
  /** Host address with its full prefix, "10.66.0.2/32". */
  address: string;
}

export interface InboundRow {
  tag: string;
  engine: Engine;
  port: number;
  settings: Record<string, unknown>;
}

/** Ids as 16 bytes. */
export function bytesOfId(id: string): Buffer {
  return Buffer.from(id.replaceAll('-', ''), 'hex');
}

/** Key of a subscription in the desired state (state-digest.ts): 32 hex digits. */
export function keyOfId(id: string): string {
  return id.replaceAll('-', '');
}

/**
 * Encoded Access of one subscription on one node, with credentials derived for that node alone. null when no engine of
 * the node serves it (a WireGuard subscription without a device, say): it is not in the desired state then.
 */
export function encodeAccess(
  node: NodeProfile,
  tenantId: TenantId,
  subscriptionId: SubscriptionId,
  secret: Uint8Array,
  engines: readonly Engine[],
  devices: readonly DesiredDevice[],
): Buffer | null {
  const withXray = node.xray && engines.includes('xray');
  const peers = node.wireguard && engines.includes('wireguard') ? devices : [];
  if (!withXray && peers.length === 0) return null;
  const message: Access = {
    tenantId: bytesOfId(tenantId),
    subscriptionId: bytesOfId(subscriptionId),
    xray: withXray
      ? { vlessId: vlessId(secret, node.nodeId), flow: node.vision ? 'xtls-rprx-vision' : '' }
      : undefined,
    wireguard: peers.map((device) => ({
      deviceId: bytesOfId(device.deviceId),
      publicKey: Buffer.from(device.publicKey, 'base64'),
      presharedKey: Buffer.from(presharedKey(secret, node.nodeId, device.deviceId), 'base64'),
      allowedIps: [device.address],
    })),
  };
  return Buffer.from(Access.encode(message).finish());
}

/** What the inbounds say of a node. */
export function profileOf(nodeId: NodeId, inbounds: readonly InboundRow[]): NodeProfile {
  const xray = inbounds.filter((inbound) => inbound.engine === 'xray');
  return {
    nodeId,
    xray: xray.length > 0,
    vision: xray.some((inbound) => inbound.settings['security'] === 'reality'),
    wireguard: inbounds.some((inbound) => inbound.engine === 'wireguard'),
  };
}

/** Encoded NodeConfig. `inbounds`: by tag, settings merged with what was sealed. */
export function encodeConfig(inbounds: readonly InboundRow[], windowMs: number): Buffer {
  const message: NodeConfig = {
    inbounds: inbounds.map(({ tag, engine, port, settings }) => ({
      tag,
      engine,
      port,
      settings: JSON.stringify(settings),
    })),
    windowMs,
  };
  return Buffer.from(NodeConfig.encode(message).finish());
}
