// Challenges of passkeys. One that is given out leaves no trace here: it carries its end and a keyed proof that we
// made it for this purpose, so that a million sign-ins begun and not ended cost nothing. It is good once: the one that
// was answered is noted in the database (passkeys.store.ts). Pure but for the random bytes.
import { createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { sameSecret } from '@penstock/service/secret-compare';

export const CHALLENGE_MS = 5 * 60_000;
const RANDOM_BYTES = 24;
const END_BYTES = 8;
const PROOF_BYTES = 32;

/** What a challenge is for: `sign-in`, or adding a passkey in one session. */
export type Purpose = 'sign-in' | `add ${string}`;

function proofOf(dataKey: Buffer, body: Buffer, purpose: Purpose): Buffer {
  const key = Buffer.from(hkdfSync('sha256', dataKey, '', 'passkey challenges', 32));
  return createHmac('sha256', key).update(body).update(purpose).digest();
}

export function newChallenge(dataKey: Buffer, purpose: Purpose, nowMs: number): Buffer {
  const end = Buffer.alloc(END_BYTES);
  end.writeBigUInt64BE(BigInt(nowMs + CHALLENGE_MS));
  const body = Buffer.concat([randomBytes(RANDOM_BYTES), end]);
  return Buffer.concat([body, proofOf(dataKey, body, purpose)]);
}

/** When the challenge ends; null when it is not ours, not for this purpose, or has ended. `text`: base64url. */
export function challengeEnd(dataKey: Buffer, text: string, purpose: Purpose, nowMs: number): Date | null {
  const bytes = Buffer.from(text, 'base64url');
  if (bytes.length !== RANDOM_BYTES + END_BYTES + PROOF_BYTES) return null;
  const body = bytes.subarray(0, RANDOM_BYTES + END_BYTES);
  if (!sameSecret(bytes.subarray(body.length), proofOf(dataKey, body, purpose))) return null;
  const endMs = Number(body.readBigUInt64BE(RANDOM_BYTES));
  return endMs > nowMs ? new Date(endMs) : null;
}
