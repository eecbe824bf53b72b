// What an inbound needs beyond what was asked for: its key pair and REALITY's short id, made here. Public parts go
// into the settings that anybody may read, private ones into the secret, which is sealed before it is stored.
import { randomBytes } from 'node:crypto';
import { newWireguardPrivateKey, wireguardPublicKey } from '@penstock/domain/wireguard-keys';
import type { NewInbound } from './inbounds.schema.js';

const SHORT_ID_BYTES = 8;

export interface InboundKeys {
  settings: Record<string, unknown>;
  /** JSON of the private part; null when there is none. */
  secret: string | null;
}

/** Both engines use X25519; REALITY writes it as base64url without padding. */
export function inboundKeys(inbound: NewInbound): InboundKeys {
  const settings = askedSettings(inbound);
  if (inbound.engine === 'xray' && inbound.security === 'none') return { settings, secret: null };
  const privateKey = newWireguardPrivateKey();
  if (inbound.engine === 'wireguard') {
    return {
      settings: { ...settings, publicKey: wireguardPublicKey(privateKey) },
      secret: JSON.stringify({ privateKey }),
    };
  }
  return {
    settings: {
      ...settings,
      shortIds: [randomBytes(SHORT_ID_BYTES).toString('hex')],
      publicKey: base64url(wireguardPublicKey(privateKey)),
    },
    secret: JSON.stringify({ privateKey: base64url(privateKey) }),
  };
}

/** The settings that were asked for, without what we add. */
export function askedSettings(inbound: NewInbound): Record<string, unknown> {
  if (inbound.engine === 'wireguard') return { subnets: inbound.subnets };
  const { protocol, security } = inbound;
  if (inbound.security === 'none') return { protocol, security };
  return { protocol, security, serverNames: inbound.serverNames, target: inbound.target };
}

function base64url(standard: string): string {
  return Buffer.from(standard, 'base64').toString('base64url');
}
