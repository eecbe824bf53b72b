// The one way to compare secrets: both sides are hashed, the hashes are compared in constant time, so neither the
// length nor the first byte that differs can be timed. The lint rule `penstock/no-plain-secret-comparison` sends here.
import { createHash, timingSafeEqual } from 'node:crypto';

export function sameSecret(a: string | Uint8Array, b: string | Uint8Array): boolean {
  return timingSafeEqual(digest(a), digest(b));
}

function digest(secret: string | Uint8Array): Buffer {
  return createHash('sha256').update(secret).digest();
}
