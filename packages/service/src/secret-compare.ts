// The one way to compare secrets: both sides are hashed, the hashes are compared in constant time, so neither the
// length nor the first byte that differs can be timed. The lint rule `penstock/no-plain-secret-comparison` sends here.
import { hash, timingSafeEqual } from 'node:crypto';

export function sameSecret(a: string | Uint8Array, b: string | Uint8Array): boolean {
  return timingSafeEqual(hash('sha256', a, 'buffer'), hash('sha256', b, 'buffer'));
}
