// What codes are: six digits of RFC 6238 (SHA-1, 30 s, as every authenticator app understands), one step of clock
// difference either way, never the same or an older step twice; and recovery codes of 130 random bits. Pure.
import { randomBytes } from 'node:crypto';
import { Secret, TOTP } from 'otpauth';

const SECRET_BYTES = 20;
const STEP_SECONDS = 30;
const STEPS_EITHER_WAY = 1;
export const RECOVERY_CODES = 10;
/** Wrong codes in a row that cost nothing; with the next the wait begins. */
const FREE_FAILURES = 2;
const LOCK_MIN_MS = 30_000;
const LOCK_MAX_MS = 15 * 60_000;

export const CODE = /^\d{6}$/;
const ALPHABET = 'abcdefghijkmnpqrstuvwxyz23456789';
const GROUPS = 4;

export function newTotpSecret(): Buffer {
  return randomBytes(SECRET_BYTES);
}

function totp(secret: Uint8Array, issuer: string, label: string): TOTP {
  const buffer = new Uint8Array(secret).buffer;
  return new TOTP({ issuer, label, secret: new Secret({ buffer }), period: STEP_SECONDS });
}

/** What a person types or scans into an authenticator app. */
export function enrolment(
  secret: Uint8Array,
  issuer: string,
  label: string,
): { secret: string; uri: string } {
  const made = totp(secret, issuer, label);
  return { secret: made.secret.base32, uri: made.toString() };
}

/** The step that the code belongs to; null when it is none of the steps around `nowMs`, or not after `lastStep`. */
export function stepOf(secret: Uint8Array, code: string, nowMs: number, lastStep: bigint): bigint | null {
  const delta = totp(secret, '', '').validate({ token: code, timestamp: nowMs, window: STEPS_EITHER_WAY });
  if (delta === null) return null;
  const step = BigInt(Math.floor(nowMs / 1000 / STEP_SECONDS) + delta);
  return step > lastStep ? step : null;
}

/** How long no code is looked at after the `failures`-th wrong one in a row: 0, 0, 30 s, 60 s … 15 min. */
export function lockMs(failures: number): number {
  if (failures <= FREE_FAILURES) return 0;
  return Math.min(LOCK_MAX_MS, LOCK_MIN_MS * 2 ** Math.min(20, failures - FREE_FAILURES - 1));
}

/** Four groups of seven characters, five random bits each: 140 bits. */
export function newRecoveryCode(): string {
  const characters = Array.from(randomBytes(GROUPS * 7), (byte) => ALPHABET[byte % ALPHABET.length]);
  const groups = Array.from({ length: GROUPS }, (_, i) => characters.slice(i * 7, i * 7 + 7).join(''));
  return groups.join('-');
}

/** As it was made, however it was typed. */
export function normalRecoveryCode(typed: string): string {
  const characters = typed.toLowerCase().replace(/[^a-z0-9]/g, '');
  return (characters.match(/.{1,7}/g) ?? []).join('-');
}
