// Refresh tokens: 32 opaque bytes, stored hashed. A child is derived from its parent under a key of ours, so the same
// parent always gives the same child: an answer that was lost can be given again, and fifty parallel requests make one
// child. Nobody without the key can go from parent to child, and the database holds neither.
import { createHash, createHmac, hkdfSync, randomBytes } from 'node:crypto';

const PREFIX = 'psr1.';
export const REFRESH_TOKEN = /^psr1\.[A-Za-z0-9_-]{43}$/;

/** The first token of a family. */
export function newRefreshToken(): string {
  return PREFIX + randomBytes(32).toString('base64url');
}

/** The token that follows `parent`. */
export function childRefreshToken(dataKey: Buffer, parent: string): string {
  const key = Buffer.from(hkdfSync('sha256', dataKey, '', 'penstock refresh tokens', 32));
  return PREFIX + createHmac('sha256', key).update(parent).digest('base64url');
}

/** What the database keeps of a bearer secret. */
export function secretHash(secret: string | Uint8Array): Buffer {
  return createHash('sha256').update(secret).digest();
}
