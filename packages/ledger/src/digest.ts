// Digests, links and signatures of frames and slices. Slice digest = BLAKE3(previous ‖ header ‖ tenant ‖ counts ‖
// payload); frame digest = BLAKE3(previous ‖ header ‖ slice digests). A tenant can verify its chain with the headers,
// seeing only digests of others. The node signs the frame digest.
import { createPublicKey, sign, verify, type KeyObject } from 'node:crypto';
import { Blake3Hasher } from '@napi-rs/blake-hash';
import type { SliceView } from './frame.js';

// One for all: making a hasher costs 38 µs, resetting this one 0.3. Nothing here awaits between reset and digest.
const hasher = new Blake3Hasher();

/** BLAKE3-256 of the parts, one after the other (native build, 3 GB/s for large inputs, 6 µs for small ones). */
export function blake3Digest(...parts: Uint8Array[]): Buffer {
  hasher.reset();
  for (const part of parts) hasher.update(part);
  return hasher.digestBuffer();
}

export function sliceDigest(headerBytes: Buffer, slice: SliceView): Buffer {
  const counts = Buffer.alloc(8);
  counts.writeUInt32BE(slice.opened, 0);
  counts.writeUInt32BE(slice.rows, 4);
  return blake3Digest(slice.prevDigest, headerBytes, slice.tenantId, counts, slice.payload);
}

/** `prevDigest` is the header's own; it is named so that the link is visible. */
export function frameDigest(
  prevDigest: Buffer,
  headerBytes: Buffer,
  sliceDigests: readonly Buffer[],
): Buffer {
  return blake3Digest(prevDigest, headerBytes, ...sliceDigests);
}

/** ECDSA P-256 over SHA-256 of the digest, 64 bytes (IEEE P1363). */
export function signDigest(digest: Buffer, privateKey: KeyObject): Buffer {
  return sign('sha256', digest, { key: privateKey, dsaEncoding: 'ieee-p1363' });
}

/** ~150 µs; one a frame. `publicKey` is the node certificate's. */
export function verifyDigest(digest: Buffer, signature: Buffer, publicKey: KeyObject): boolean {
  return verify('sha256', digest, { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature);
}

export function publicKeyFromSpki(der: Buffer): KeyObject {
  return createPublicKey({ key: der, format: 'der', type: 'spki' });
}
