// The secret of an invitation: 32 random bytes behind a prefix, in the link's fragment, which no browser sends to a
// server. The database keeps the SHA-256 of the whole text.
import { randomBytes } from 'node:crypto';

const PREFIX = 'pin1.';
export const INVITATION_TOKEN = /^pin1\.[A-Za-z0-9_-]{43}$/;
export const INVITATION_HOURS = 72;

export function newInvitationToken(): string {
  return PREFIX + randomBytes(32).toString('base64url');
}

/** What a person opens. `publicUrl`: without a path. */
export function invitationLink(publicUrl: string, token: string): string {
  return `${publicUrl.replace(/\/+$/, '')}/invite#${token}`;
}
