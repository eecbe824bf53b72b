// Secrets that must be readable again, encrypted at rest: AES-256-GCM, key outside the database, bound to table,
// tenant and row, so that a ciphertext moved elsewhere does not open. Format: version ‖ nonce 12 ‖ ciphertext ‖ tag 16.
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { AppError } from '@penstock/domain/errors';

const VERSION = 1;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

export interface SecretPlace {
  table: string;
  /** Empty for platform tables. */
  tenant: string;
  row: string;
}

function associatedData(place: SecretPlace): Buffer {
  return Buffer.from(JSON.stringify([place.table, place.tenant, place.row]));
}

/** `key`: 32 bytes. A new random nonce each time: the same plaintext never gives the same ciphertext. */
export function sealSecret(key: Buffer, plain: Uint8Array, place: SecretPlace): Buffer {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  cipher.setAAD(associatedData(place));
  const body = Buffer.concat([cipher.update(plain), cipher.final()]);
  return Buffer.concat([Buffer.of(VERSION), nonce, body, cipher.getAuthTag()]);
}

/** Throws AppError internal when key, place or bytes are not those it was sealed with. */
export function openSecret(key: Buffer, sealed: Uint8Array, place: SecretPlace): Buffer {
  const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength);
  try {
    if (bytes.length < 1 + NONCE_BYTES + TAG_BYTES || bytes[0] !== VERSION)
      throw new Error('unknown sealed format');
    const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(1, 1 + NONCE_BYTES));
    decipher.setAAD(associatedData(place));
    decipher.setAuthTag(bytes.subarray(bytes.length - TAG_BYTES));
    return Buffer.concat([
      decipher.update(bytes.subarray(1 + NONCE_BYTES, bytes.length - TAG_BYTES)),
      decipher.final(),
    ]);
  } catch (cause) {
    throw new AppError('internal', 'a stored secret does not open', { cause });
  }
}
