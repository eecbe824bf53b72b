// Credentials that a node gets: derived from the subscription's secret for that node alone, so what a stolen node
// knows dies with it. HMAC-SHA-256(secret, purpose ‖ node id ‖ …).
import { createHmac } from 'node:crypto';
import type { DeviceId, NodeId } from './ids.js';

function derive(secret: Uint8Array, ...parts: string[]): Buffer {
  return createHmac('sha256', secret).update(parts.join('\0')).digest();
}

/**
 * VLESS id of a subscription on a node. Xray ignores bytes 6 and 7 of the id, so they are zero here and two
 * customers can never differ only there.
 */
export function vlessId(secret: Uint8Array, nodeId: NodeId): string {
  const bytes = derive(secret, 'vless', nodeId).subarray(0, 16);
  bytes[6] = 0;
  bytes[7] = 0;
  const hex = bytes.toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** WireGuard pre-shared key of a device on a node, standard base64. */
export function presharedKey(secret: Uint8Array, nodeId: NodeId, deviceId: DeviceId): string {
  return derive(secret, 'wireguard-psk', nodeId, deviceId).toString('base64');
}
