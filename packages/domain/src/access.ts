// What a node is told about one subscription: the unit of desired state. The scheduler makes it, the node-agent
// applies it, both hash it. A node gets credentials derived for it alone (credentials.ts), never the secret.
import type { SubscriptionId, TenantId, DeviceId } from './ids.js';

export interface XrayAccess {
  /** VLESS id of this subscription on this node. Bytes 6–7 are ignored by Xray (dataplane fact), so masked. */
  vlessId: string;
  flow: '' | 'xtls-rprx-vision';
}

export interface WireguardPeer {
  deviceId: DeviceId;
  /** Standard base64, 44 characters. */
  publicKey: string;
  presharedKey: string;
  /** Host addresses of the device inside the node's subnet, "10.66.0.2/32". */
  allowedIps: string[];
}

export interface Access {
  tenantId: TenantId;
  subscriptionId: SubscriptionId;
  xray?: XrayAccess;
  wireguard?: WireguardPeer[];
}
