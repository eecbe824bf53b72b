// A token has one text. Base64url with spare bits set, and the other of the two signatures that ECDSA allows for one
// message (s and n − s), would verify, too; we write the smaller s and take nothing else, so whatever was changed in a
// token of ours is refused, be it of no consequence.

/** Order of P-256 (FIPS 186-4, D.1.2.3). */
const ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
const HALF = ORDER / 2n;
/** r and s, 32 bytes each. */
const SIGNATURE_BYTES = 64;

function secondHalf(signature: Buffer): bigint {
  return BigInt(`0x${signature.subarray(32).toString('hex')}`);
}

/** The token with the smaller of its two signatures. */
export function withLowSignature(token: string): string {
  const end = token.lastIndexOf('.') + 1;
  const signature = Buffer.from(token.slice(end), 'base64url');
  const s = secondHalf(signature);
  if (s <= HALF) return token;
  const low = Buffer.from((ORDER - s).toString(16).padStart(64, '0'), 'hex');
  return token.slice(0, end) + Buffer.concat([signature.subarray(0, 32), low]).toString('base64url');
}

/** True for three parts, each as we encode it, and a signature of the right length with the smaller s. */
export function isCanonical(token: string): boolean {
  const parts = token.split('.');
  if (parts.length !== 3) return false;
  if (parts.some((part) => Buffer.from(part, 'base64url').toString('base64url') !== part)) return false;
  const signature = Buffer.from(parts[2] ?? '', 'base64url');
  return signature.length === SIGNATURE_BYTES && secondHalf(signature) <= HALF;
}
