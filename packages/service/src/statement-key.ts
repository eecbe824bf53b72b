// The Ed25519 key that signs statements, between its maker (control-api on rotation, the scheduler for the very first)
// and its user (the scheduler). The private half is sealed before it is stored and bound to its row.
import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { newId } from '@penstock/domain/ids';
import { openSecret, sealSecret, type SecretPlace } from './secret-box.js';

export interface NewStatementKey {
  keyId: string;
  /** SPKI DER. */
  publicKey: Buffer;
  /** PKCS #8 DER, sealed. */
  privateSealed: Buffer;
}

/** A fresh key pair; `dataKey`: 32 bytes. */
export function newStatementKey(dataKey: Buffer): NewStatementKey {
  const keyId: string = newId();
  const pair = generateKeyPairSync('ed25519');
  const plain = pair.privateKey.export({ format: 'der', type: 'pkcs8' });
  const privateSealed = sealSecret(dataKey, plain, placeOf(keyId));
  plain.fill(0);
  return { keyId, publicKey: pair.publicKey.export({ format: 'der', type: 'spki' }), privateSealed };
}

/** Throws AppError internal when it was not sealed with this data key for this row. */
export function openStatementKey(dataKey: Buffer, keyId: string, sealed: Buffer): KeyObject {
  const plain = openSecret(dataKey, sealed, placeOf(keyId));
  try {
    return createPrivateKey({ key: plain, format: 'der', type: 'pkcs8' });
  } finally {
    plain.fill(0);
  }
}

function placeOf(keyId: string): SecretPlace {
  return { table: 'statement_key', tenant: '', row: keyId };
}
