// An authenticator app: RFC 6238 from the text of the RFC, by itself, so that the product's library is checked by
// something else than itself; and setting one up as a person would.
import { createHmac } from 'node:crypto';
import { expect } from 'vitest';
import type { World } from './world.js';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
const STEP_MS = 30_000;

function base32(text: string): Buffer {
  let bits = '';
  for (const character of text) bits += ALPHABET.indexOf(character).toString(2).padStart(5, '0');
  return Buffer.from((bits.match(/.{8}/g) ?? []).map((byte) => Number.parseInt(byte, 2)));
}

/** The six digits that the app shows at this moment. */
export function codeAt(secret: string, atMs: number): string {
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(atMs / STEP_MS)));
  const mac = createHmac('sha1', base32(secret)).update(counter).digest();
  const offset = (mac[19] ?? 0) & 0x0f;
  return String((mac.readUInt32BE(offset) & 0x7fffffff) % 1_000_000).padStart(6, '0');
}

/** A code that is none of those around this moment. */
export function wrongCode(secret: string, atMs: number): string {
  const near = [-2, -1, 0, 1, 2].map((step) => codeAt(secret, atMs + step * STEP_MS));
  return (
    ['000000', '111111', '222222', '333333', '444444', '555555'].find((code) => !near.includes(code)) ?? ''
  );
}

export interface AuthenticatorApp {
  secret: string;
  recoveryCodes: string[];
  code: () => string;
}

/** Sets an app up for the person of this access token; his other sessions end. */
export async function setUpApp(world: World, token: string, password: string): Promise<AuthenticatorApp> {
  const begun = await world.ask('POST', '/api/v1/me/totp', { as: token, body: { password } });
  expect(begun.status, begun.text).toBe(201);
  const secret = String(begun.body['secret']);
  const code = (): string => codeAt(secret, world.context.clock.now());
  const confirmed = await world.ask('POST', '/api/v1/me/totp/confirm', { as: token, body: { code: code() } });
  expect(confirmed.status, confirmed.text).toBe(200);
  return { secret, code, recoveryCodes: confirmed.body['recoveryCodes'] as unknown as string[] };
}
