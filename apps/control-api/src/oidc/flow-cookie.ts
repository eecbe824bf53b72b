// What a browser keeps for us between the start of a sign-in at a provider and its end: sealed, ten minutes at most,
// readable by no script, sent to nobody else. Pure but for the key.
import { AppError } from '@penstock/domain/errors';
import { openSecret, sealSecret } from '@penstock/service/secret-box';

export const purposes = ['sign_in', 'link'] as const;
export type Purpose = (typeof purposes)[number];

const FLOW_SECONDS = 600;
const COOKIE_CHARACTERS_MAX = 4096;
const PLACE = { table: 'oidc_flow', tenant: '', row: 'cookie' };

export interface Flow {
  identityProviderId: string;
  purpose: Purpose;
  /** The session that wishes for a link; null for a sign-in. */
  familyId: string | null;
  state: string;
  nonce: string;
  codeVerifier: string;
  /** Random; what this browser alone has. */
  browser: string;
  expiresAtMs: number;
}

export function newFlowExpiry(nowMs: number): number {
  return nowMs + FLOW_SECONDS * 1000;
}

function nameOf(secure: boolean): string {
  return secure ? '__Host-penstock-oidc' : 'penstock-oidc';
}

/** Value of Set-Cookie; `flow` null takes the cookie away. `secure`: we are called by https. */
export function flowCookie(key: Buffer, secure: boolean, flow: Flow | null): string {
  const value =
    flow === null ? '' : sealSecret(key, Buffer.from(JSON.stringify(flow)), PLACE).toString('base64url');
  const age = flow === null ? 0 : FLOW_SECONDS;
  const attributes = `Path=/; HttpOnly; SameSite=Lax; Max-Age=${age}${secure ? '; Secure' : ''}`;
  return `${nameOf(secure)}=${value}; ${attributes}`;
}

/** The flow that this browser began. Throws token_invalid when there is none, token_expired when it is too old. */
export function readFlow(key: Buffer, secure: boolean, header: string | undefined, nowMs: number): Flow {
  const invalid = (cause?: unknown): AppError =>
    new AppError('token_invalid', 'this browser began no sign-in here, or too long ago', { cause });
  const prefix = `${nameOf(secure)}=`;
  const found = (header ?? '').split(';').map((part) => part.trim());
  const value = found.find((part) => part.startsWith(prefix))?.slice(prefix.length) ?? '';
  if (value === '' || value.length > COOKIE_CHARACTERS_MAX) throw invalid();
  let flow: Flow;
  try {
    flow = JSON.parse(openSecret(key, Buffer.from(value, 'base64url'), PLACE).toString()) as Flow;
  } catch (cause) {
    throw invalid(cause);
  }
  if (flow.expiresAtMs <= nowMs)
    throw new AppError('token_expired', 'this sign-in took too long; begin again');
  return flow;
}
