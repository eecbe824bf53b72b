// The text of an API key: 32 random bytes after a prefix that people and secret scanners recognise. Stored hashed.
import { randomBytes } from 'node:crypto';
import { secretHash } from './refresh-token.js';

const PREFIX = 'pak1.';
const API_KEY = /^pak1\.[A-Za-z0-9_-]{43}$/;
/** What a list shows, so that a person finds the key in his own files. */
const SHOWN_CHARACTERS = 10;

export function newApiKey(): { text: string; shown: string } {
  const text = PREFIX + randomBytes(32).toString('base64url');
  return { text, shown: text.slice(0, SHOWN_CHARACTERS) };
}

export function isApiKey(token: string): boolean {
  return API_KEY.test(token);
}

export function apiKeyHash(text: string): Buffer {
  return secretHash(text);
}
