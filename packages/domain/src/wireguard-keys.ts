// WireGuard keys (X25519) as text: standard base64 with padding, 44 characters, the form of wg and of our tables.
// Only DER is used: exporting an X25519 key as jwk right after making it can hang the event loop for ever
// (seen twice in 10^5 keys on Node 20); DER was clean over 150,000.
import { createPrivateKey, createPublicKey, randomBytes } from 'node:crypto';
import { AppError } from './errors.js';

const PKCS8_X25519 = Buffer.from('302e020100300506032b656e04220420', 'hex');
const KEY_TEXT = /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/;

/** True for 32 bytes in canonical standard base64. */
export function isWireguardKey(text: unknown): text is string {
  return typeof text === 'string' && KEY_TEXT.test(text);
}

/** The 32 bytes of a key; throws invalid_input naming `field`, never quoting the text (it may be a secret). */
export function wireguardKeyBytes(text: unknown, field: string): Buffer {
  if (!isWireguardKey(text)) {
    throw new AppError('invalid_input', `${field} must be 32 bytes in base64 (44 characters)`, { field });
  }
  return Buffer.from(text, 'base64');
}

/** A new private key, clamped as wg does it. */
export function newWireguardPrivateKey(): string {
  const bytes = randomBytes(32);
  bytes[0] = (bytes[0] ?? 0) & 248;
  bytes[31] = ((bytes[31] ?? 0) & 127) | 64;
  return bytes.toString('base64');
}

/** The public key of a private key. */
export function wireguardPublicKey(privateKey: string): string {
  const raw = wireguardKeyBytes(privateKey, 'privateKey');
  const key = createPrivateKey({ key: Buffer.concat([PKCS8_X25519, raw]), format: 'der', type: 'pkcs8' });
  return createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32).toString('base64');
}
