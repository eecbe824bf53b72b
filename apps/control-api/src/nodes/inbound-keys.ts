// What an inbound needs beyond what was asked for: its key pair and REALITY's short id, made here. Public parts go
// into the settings that anybody may read, private ones into the secret, which is sealed before it is stored.
import { randomBytes } from 'node:crypto';
import { newWireguardPrivateKey, wireguardPublicKey } from '@penstock/domain/wireguard-keys';
import type { NewInbound } from './nodes.schema.js';

const SHORT_ID_BYTES = 8;

export interface InboundKeys {
  settings: Record<string, unknown>;
  /** JSON of the private part; null when there is none. */
  secret: string | null;
}

/** Both engines use X25519; REALITY writes it as base64url without padding. */
export function inboundKeys(inbound: NewInbound): InboundKeys {
  if (inbound.engine === 'wireguard') {
    const privateKey = newWireguardPrivateKey();
    return {
      settings: { subnets: inbound.subnets, publicKey: wireguardPublicKey(privateKey) },
      secret: JSON.stringify({ privateKey }),
    };
  }
  const { protocol, security } = inbound;
  if (inbound.security === 'none') return { settings: { protocol, security }, secret: null };
  const privateKey = newWireguardPrivateKey();
  return {
    settings: {
      ...{ protocol, security, serverNames: inbound.serverNames, target: inbound.target },
      shortIds: [randomBytes(SHORT_ID_BYTES).toString('hex')],
      publicKey: base64url(wireguardPublicKey(privateKey)),
    },
    secret: JSON.stringify({ privateKey: base64url(privateKey) }),
  };
}

function base64url(standard: string): string {
  return Buffer.from(standard, 'base64').toString('base64url');
}
