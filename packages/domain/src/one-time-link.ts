// The secret of a one-time link: 32 random bytes behind a prefix. It stands in the link's fragment, which no browser
// sends to a server; the database keeps the SHA-256 of the whole text. Used by control-api (password/) and, for an
// owner who is locked out, by `penstock owner recover` on the host.
import { randomBytes } from 'node:crypto';

const PREFIX = 'prl1.';
export const RESET_TOKEN = /^prl1\.[A-Za-z0-9_-]{43}$/;
export const RESET_LINK_HOURS = 24;

export function newResetToken(): string {
  return PREFIX + randomBytes(32).toString('base64url');
}

/** What a person opens. `publicUrl`: without a path. */
export function resetLink(publicUrl: string, token: string): string {
  return `${publicUrl.replace(/\/+$/, '')}/reset#${token}`;
}
