// Enrolment, renewal, re-attestation and revocation of nodes. Invariants: a join token leads to one certificate for
// ever; a node's newest certificate alone can be renewed; the same key asked again gets the same certificate, since a
// lost answer must not brick a node; a revoked node gets nothing. Called by identity.rpc.ts.
import { createPublicKey, verify, X509Certificate, type KeyObject } from 'node:crypto';
import type { Client, Pool } from '@penstock/db/pool';
import { withTransaction } from '@penstock/db/transaction';
import type { Clock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import type { NodeId } from '@penstock/domain/ids';
import { publicKeyHash, publicKeyOfCsr } from '@penstock/rpc/certificates';
import { SERIAL_BYTES, type NodePeer } from '@penstock/rpc/identity';
import { joinTokenHash, parseJoinToken } from '@penstock/rpc/join-token';
import { requireGoodStanding } from '@penstock/rpc/revocation';
import type { Ca } from './ca.js';
import * as store from './identity.store.js';
import type { StoredCertificate, StoredJoinToken } from './identity.store.js';

export interface IdentityContext {
  pool: Pool;
  ca: Ca;
  clock: Clock;
  /** How long after its certificate ran out a node gets another without being asked about; REATTEST_AUTOMATIC_MS when absent. */
  reattestAutomaticMs?: number;
}

export interface Enrolled {
  nodeId: NodeId;
  chain: Buffer[];
  /** False when an earlier answer was given again. */
  fresh: boolean;
}

/** A lost answer can be asked for again this long. */
export const SAME_KEY_MS = 5 * 60_000;
/** A certificate that expired longer ago needs a new join token. */
export const REATTEST_MS = 30 * 24 * 3_600_000;
/**
 * A node that was cut off for a week comes back by itself, since it holds a week's usage. After that somebody has to say
 * that it is still the machine it was.
 */
export const REATTEST_AUTOMATIC_MS = 7 * 24 * 3_600_000;
/** An admin's approval is good for this long. */
export const REATTEST_APPROVAL_MS = 24 * 3_600_000;
const CERTIFICATE_BYTES_MAX = 8192;
const PROOF_BYTES_MAX = 80;

/** Throws token_invalid, token_used, token_expired or invalid_input (the request). */
export async function enroll(
  context: IdentityContext,
  joinToken: string,
  csr: Uint8Array,
): Promise<Enrolled> {
  const { pool, ca, clock } = context;
  const hash = joinTokenHash(parseJoinToken(joinToken).secret);
  const publicKey = await publicKeyOfCsr(csr);
  const token = await store.findJoinToken(pool, hash);
  if (token === undefined) throw new AppError('token_invalid', 'the join token is not known');
  const earlier = await store.findCertificateOfToken(pool, token.joinTokenId);
  if (earlier !== undefined) return again(context, earlier, publicKey);
  requireUsable(token, clock.now());
  // Signed before the transaction, so that none is open meanwhile; a signature that loses the race is thrown away.
  const issued = await ca.issueNode(token.nodeId, publicKey);
  const inserted = await withTransaction(pool, async (client) => {
    if ((await store.lockNode(client, token.nodeId)) === 'revoked') throw revokedNode();
    return store.insertEnrolled(client, token, issued, new Date(clock.now()));
  });
  if (inserted) {
    return {
      nodeId: token.nodeId,
      chain: ca.chainOf(issued.der, new X509Certificate(issued.der)),
      fresh: true,
    };
  }
  const winner = await store.findCertificateOfToken(pool, token.joinTokenId);
  if (winner !== undefined) return again(context, winner, publicKey);
  // Nobody used it: it was revoked or expired between look-up and use.
  const now = await store.findJoinToken(pool, hash);
  if (now !== undefined) requireUsable(now, clock.now());
  throw new AppError('token_invalid', 'the join token is not known');
}

function requireUsable(token: StoredJoinToken, nowMs: number): void {
  if (token.revokedAt !== null) throw new AppError('token_invalid', 'the join token was revoked');
  if (token.nodeState === 'revoked') throw revokedNode();
  if (token.expiresAt.getTime() <= nowMs) throw new AppError('token_expired', 'the join token has expired');
}

function revokedNode(): AppError {
  return new AppError('token_invalid', 'the node of this join token was revoked');
}

function again({ ca, clock }: IdentityContext, earlier: StoredCertificate, publicKey: KeyObject): Enrolled {
  const sameKey = earlier.publicKeyHash.equals(publicKeyHash(publicKey));
  const recent = clock.now() - earlier.issuedAt.getTime() <= SAME_KEY_MS;
  if (!sameKey || !recent || earlier.revokedAt !== null) {
    throw new AppError('token_used', 'the join token was used already');
  }
  return {
    nodeId: earlier.nodeId,
    chain: ca.chainOf(earlier.der, new X509Certificate(earlier.der)),
    fresh: false,
  };
}

/** Throws certificate_revoked, certificate_superseded, certificate_invalid or invalid_input. */
export async function renew(context: IdentityContext, peer: NodePeer, csr: Uint8Array): Promise<Buffer[]> {
  const chain = await follow(context, peer.serial, peer.nodeId, csr, (own) => requireGoodStanding(peer, own));
  if (chain === null) throw new AppError('internal', 'a renewal waits for nobody');
  return chain;
}

/**
 * The way back for a node that slept past its certificate: it proves the old key over the new request. Allowed when the
 * certificate expired less than 30 days ago, neither it nor the node is revoked, and nothing newer was issued; by itself
 * for a week, then an admin approves the new key. null: nobody has yet, ask again with the same key.
 */
export async function reattest(
  context: IdentityContext,
  certificate: Uint8Array,
  csr: Uint8Array,
  proof: Uint8Array,
  address: string,
): Promise<{ nodeId: NodeId; chain: Buffer[] | null }> {
  const serial = serialOf(certificate);
  const known = await store.findCertificate(context.pool, serial);
  if (known === undefined) throw new AppError('certificate_invalid', 'the certificate is not known');
  // The key is taken from the certificate that we stored, so a forged copy is of no use.
  const oldKey = createPublicKey(
    new X509Certificate(known.der).publicKey.export({ type: 'spki', format: 'pem' }),
  );
  if (proof.length > PROOF_BYTES_MAX || !verify('sha256', csr, oldKey, proof)) {
    throw new AppError('certificate_invalid', 'the proof by the old key is wrong', { field: 'proof' });
  }
  const requireOwn = (own: StoredCertificate | undefined): void => {
    if (own === undefined) throw new AppError('certificate_invalid', 'the certificate is not known');
    if (own.revokedAt !== null) throw new AppError('certificate_revoked', 'the certificate is revoked');
    const expiredMs = context.clock.now() - own.notAfter.getTime();
    if (expiredMs < 0) throw new AppError('failed_precondition', 'the certificate is still valid: renew it');
    if (expiredMs > REATTEST_MS) {
      throw new AppError(
        'certificate_invalid',
        'the certificate expired too long ago: a new join token is needed',
      );
    }
  };
  const now = new Date(context.clock.now());
  const isApproved: Approval = async (client, own, publicKeyHash) => {
    const automaticMs = context.reattestAutomaticMs ?? REATTEST_AUTOMATIC_MS;
    if (now.getTime() - own.notAfter.getTime() < automaticMs) return true;
    const approvedAfter = new Date(now.getTime() - REATTEST_APPROVAL_MS);
    const ask = { nodeId: own.nodeId, publicKeyHash, expiredAt: own.notAfter, address, now, approvedAfter };
    return store.isReattestApproved(client, ask);
  };
  const chain = await follow(context, serial, known.nodeId, csr, requireOwn, isApproved);
  return { nodeId: known.nodeId, chain };
}

/** Whether the certificate may be followed by one for this key now; what it writes is kept when not. */
type Approval = (client: Client, own: StoredCertificate, publicKeyHash: Buffer) => Promise<boolean>;

/** The next certificate of a node after the one with `serial`, for a new key; null: not approved yet. */
async function follow(
  context: IdentityContext,
  serial: Buffer,
  nodeId: NodeId,
  csr: Uint8Array,
  requireOwn: (own: StoredCertificate | undefined) => void,
  isApproved?: Approval,
): Promise<Buffer[] | null> {
  const { pool, ca, clock } = context;
  const publicKey = await publicKeyOfCsr(csr);
  const keyHash = publicKeyHash(publicKey);
  const issued = await ca.issueNode(nodeId, publicKey);
  const der = await withTransaction(pool, async (client: Client) => {
    const state = await store.lockNode(client, nodeId);
    const own = await store.findCertificate(client, serial);
    requireOwn(own);
    if (state === undefined || state === 'revoked')
      throw new AppError('certificate_revoked', 'the node is revoked');
    const newest = await store.findNewestCertificate(client, nodeId);
    if (newest !== undefined && !newest.serial.equals(serial)) {
      // The answer got lost and is asked for again.
      if (newest.publicKeyHash.equals(keyHash) && newest.revokedAt === null) return newest.der;
      throw new AppError('certificate_superseded', 'a newer certificate of this node exists');
    }
    if (own?.publicKeyHash.equals(keyHash) === true) {
      throw new AppError('invalid_input', 'a new certificate needs a new key', { field: 'csr' });
    }
    if (isApproved !== undefined && own !== undefined && !(await isApproved(client, own, keyHash)))
      return null;
    await store.insertRenewed(client, nodeId, issued, new Date(clock.now()));
    await store.deleteReattestRequest(client, nodeId);
    return issued.der;
  });
  return der === null ? null : ca.chainOf(der, new X509Certificate(der));
}

function serialOf(certificate: Uint8Array): Buffer {
  const refused = new AppError('certificate_invalid', 'the certificate cannot be read', {
    field: 'certificate',
  });
  if (certificate.length === 0 || certificate.length > CERTIFICATE_BYTES_MAX) throw refused;
  try {
    const serial = Buffer.from(new X509Certificate(certificate).serialNumber, 'hex');
    if (serial.length === SERIAL_BYTES) return serial;
  } catch {
    throw refused;
  }
  throw refused;
}

/** Revokes every certificate of the node and the node itself, for ever. Returns how many; safe to say again. */
export async function revokeNode(context: IdentityContext, nodeId: NodeId, reason: string): Promise<number> {
  return withTransaction(context.pool, async (client) => {
    if ((await store.lockNode(client, nodeId)) === undefined) {
      throw new AppError('not_found', 'there is no such node', { field: 'node_id' });
    }
    return store.revokeAll(client, nodeId, reason, new Date(context.clock.now()));
  });
}
