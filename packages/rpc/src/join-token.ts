// The text of a join token: made by control-api, carried by a person, read by the node-agent and the scheduler. It
// holds the secret, the fingerprint of the trust root (so that the first connection is already authenticated) and
// where to connect. credential_route.hash = SHA-256 of the secret bytes.
import { createHash, randomBytes } from 'node:crypto';
import { AppError } from '@penstock/domain/errors';

export interface JoinToken {
  /** 32 bytes. */
  secret: Buffer;
  /** SHA-256 of the trust root's DER, hex. */
  rootFingerprint: string;
  /** host:port of the three edges. */
  enroll: string;
  enforcement: string;
  usage: string;
  /** TLS server name, where it differs from the host. */
  serverName?: string;
}

const PREFIX = 'pst1.';
const SECRET_BYTES = 32;
export const JOIN_TOKEN_CHARACTERS_MAX = 2048;
const ADDRESS = /^[^\s:/]+:\d{1,5}$/;
const SERVER_NAME = /^[a-zA-Z0-9.-]{1,253}$/;

export function newJoinTokenSecret(): Buffer {
  return randomBytes(SECRET_BYTES);
}

/** What stands in the database for a token. */
export function joinTokenHash(secret: Uint8Array): Buffer {
  return createHash('sha256').update(secret).digest();
}

export function formatJoinToken(token: JoinToken): string {
  const body = {
    k: token.secret.toString('base64url'),
    ca: token.rootFingerprint,
    enroll: token.enroll,
    enforcement: token.enforcement,
    usage: token.usage,
    ...(token.serverName === undefined ? {} : { server: token.serverName }),
  };
  return PREFIX + Buffer.from(JSON.stringify(body)).toString('base64url');
}

/** Throws token_invalid; never quotes the text, which is a secret. */
export function parseJoinToken(text: string): JoinToken {
  const invalid = (why: string): AppError =>
    new AppError('token_invalid', `the join token is not valid: ${why}`);
  if (text.length > JOIN_TOKEN_CHARACTERS_MAX || !text.startsWith(PREFIX)) throw invalid('not a join token');
  let body: Record<string, unknown>;
  try {
    body = JSON.parse(Buffer.from(text.slice(PREFIX.length), 'base64url').toString('utf8')) as Record<
      string,
      unknown
    >;
  } catch {
    throw invalid('it is cut or damaged');
  }
  if (typeof body !== 'object' || body === null) throw invalid('it is cut or damaged');
  const textOf = (key: string, pattern: RegExp): string => {
    const value = body[key];
    if (typeof value !== 'string' || !pattern.test(value)) throw invalid(`its part ${key} is wrong`);
    return value;
  };
  const secret = Buffer.from(textOf('k', /^[A-Za-z0-9_-]{43}$/), 'base64url');
  return {
    secret,
    rootFingerprint: textOf('ca', /^[0-9a-f]{64}$/),
    enroll: textOf('enroll', ADDRESS),
    enforcement: textOf('enforcement', ADDRESS),
    usage: textOf('usage', ADDRESS),
    ...(body['server'] === undefined ? {} : { serverName: textOf('server', SERVER_NAME) }),
  };
}
