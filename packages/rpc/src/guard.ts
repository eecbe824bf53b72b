// Who may call what, decided before a handler runs. Pure: a table of allowed peers for each method, the rule for
// Caddy's certificate header, the rule for deadlines. server.ts feeds it and acts.
import { X509Certificate } from 'node:crypto';
import type { ServiceDefinition } from '@grpc/grpc-js';
import { AppError } from '@penstock/domain/errors';
import { readPeer, type CertificateProblem, type Peer, type ServiceName } from './identity.js';
import { leadsToRoot, type LoadedTls } from './trust.js';

/** `anyone` is for the enrollment edge only; an empty list means that this edge does not serve the method. */
export type AllowedPeer = 'node' | 'anyone' | ServiceName;
export type AllowTable = Readonly<Record<string, readonly AllowedPeer[]>>;
export type ClientCertificates = 'required' | 'none';

/** Base64 DER of the client certificate that Caddy verified. Honoured from service/caddy only. */
export const CERTIFICATE_HEADER = 'x-penstock-client-certificate';
export const FORWARDED_HEADER = 'x-forwarded-for';
/** A unary call must say until when its caller waits, at most this. */
export const UNARY_DEADLINE_MS_MAX = 30_000;
const CARRIED_CHARACTERS_MAX = 8192;

/** Throws when a served method has no list, a list is for nothing served, or a list does not fit the edge. */
export function checkAllowTable(
  definitions: readonly ServiceDefinition[],
  allow: AllowTable,
  clientCertificates: ClientCertificates,
): void {
  const paths = definitions.flatMap((definition) => Object.values(definition).map((method) => method.path));
  for (const path of paths) {
    if (!Object.hasOwn(allow, path)) throw new Error(`${path} has no list of allowed peers`);
  }
  for (const [path, peers] of Object.entries(allow)) {
    if (!paths.includes(path)) throw new Error(`${path} is allowed but not served`);
    const unfit = peers.some((peer) => (peer === 'anyone') === (clientCertificates === 'required'));
    if (unfit)
      throw new Error(
        `${path}: the list of allowed peers does not fit an edge with certificates ${clientCertificates}`,
      );
  }
}

/** Throws forbidden unless the peer is on the method's list. */
export function requireAllowed(peer: Peer | null, allowed: readonly AllowedPeer[] | undefined): void {
  const kind: AllowedPeer = peer === null ? 'anyone' : peer.kind === 'node' ? 'node' : peer.name;
  if (allowed?.includes(kind) === true || allowed?.includes('anyone') === true) return;
  throw new AppError('forbidden', 'this peer may not call this method');
}

/** Throws invalid_input when a unary call has no deadline or one too far away. */
export function requireDeadline(deadlineMs: number, nowMs: number): void {
  // One second of grace: the header counts from when the client sent it.
  if (deadlineMs - nowMs > UNARY_DEADLINE_MS_MAX + 1000) {
    throw new AppError('invalid_input', `the call needs a deadline of at most ${UNARY_DEADLINE_MS_MAX} ms`);
  }
}

/**
 * The peer that a call is made for: the connection's own, or, when that is Caddy, the one whose certificate Caddy
 * carries. Throws forbidden for a header from anybody else, certificate_invalid for a certificate that is not ours.
 */
export function effectivePeer(
  connection: Peer | null,
  header: string | undefined,
  trust: LoadedTls,
  trustDomain: string,
  nowMs: number,
): Peer | null {
  if (header === undefined) return connection;
  if (connection?.kind !== 'service' || connection.name !== 'caddy') {
    throw new AppError('forbidden', 'only the edge may carry a client certificate');
  }
  const peer = readCarried(header, trust, trustDomain, nowMs);
  if (typeof peer === 'string') {
    throw new AppError('certificate_invalid', `the carried client certificate is refused: ${peer}`);
  }
  return peer;
}

function readCarried(
  header: string,
  trust: LoadedTls,
  trustDomain: string,
  nowMs: number,
): Peer | CertificateProblem {
  if (header.length > CARRIED_CHARACTERS_MAX || !/^[A-Za-z0-9+/]+={0,2}$/.test(header)) return 'malformed';
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(Buffer.from(header, 'base64'));
  } catch {
    return 'malformed';
  }
  if (!leadsToRoot(certificate, trust, nowMs)) return 'chain';
  return readPeer(certificate, { trustDomain, usage: 'client', nowMs });
}
