// How a customer's own program is told to connect: a vless:// URI and a WireGuard .conf. Pure text from parts; what a
// client sends must be what the scheduler gave the node (scheduler: enforcement/access.ts).
import { isIPv6 } from 'node:net';

export const VISION = 'xtls-rprx-vision';
const KEEPALIVE_SECONDS = 25;

export interface VlessInbound {
  port: number;
  settings: Record<string, unknown>;
}

/** `label` is what the client shows. REALITY parameters are taken from the inbound's public settings. */
export function vlessUri(
  host: string,
  inbound: VlessInbound,
  vlessId: string,
  flow: '' | typeof VISION,
  label: string,
): string {
  const { settings } = inbound;
  const query = new URLSearchParams({
    encryption: 'none',
    type: 'tcp',
    security: String(settings['security']),
  });
  if (flow !== '') query.set('flow', flow);
  if (settings['security'] === 'reality') {
    query.set('pbk', String(settings['publicKey']));
    query.set('sid', first(settings['shortIds']));
    query.set('sni', first(settings['serverNames']));
    query.set('fp', 'chrome');
  }
  return `vless://${vlessId}@${hostPart(host)}:${inbound.port}?${query.toString()}#${encodeURIComponent(label)}`;
}

export interface WireguardParts {
  /** null: the key is the customer's own, the line is his to add. */
  privateKey: string | null;
  /** With prefix, "10.66.0.2/32". */
  addresses: readonly string[];
  serverPublicKey: string;
  presharedKey: string;
  host: string;
  port: number;
}

/** All traffic goes through the tunnel, IPv6 too, so that nothing leaks beside it. */
export function wireguardConf(parts: WireguardParts): string {
  return [
    '[Interface]',
    ...(parts.privateKey === null ? ['# PrivateKey = (your own)'] : [`PrivateKey = ${parts.privateKey}`]),
    `Address = ${parts.addresses.join(', ')}`,
    '',
    '[Peer]',
    `PublicKey = ${parts.serverPublicKey}`,
    `PresharedKey = ${parts.presharedKey}`,
    `Endpoint = ${hostPart(parts.host)}:${parts.port}`,
    'AllowedIPs = 0.0.0.0/0, ::/0',
    `PersistentKeepalive = ${KEEPALIVE_SECONDS}`,
    '',
  ].join('\n');
}

function hostPart(host: string): string {
  return isIPv6(host) ? `[${host}]` : host;
}

function first(list: unknown): string {
  return Array.isArray(list) && typeof list[0] === 'string' ? list[0] : '';
}
