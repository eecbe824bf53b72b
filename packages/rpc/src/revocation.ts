// The revocation rule, without SQL: a node's certificate counts only while the database has it, for this node and this
// key, unrevoked. So a copy with another signature, or one that was never written down, is refused as well. Each
// service brings its own look-up (scheduler: identity.store.ts; collector: its own statement).
import { X509Certificate } from 'node:crypto';
import { AppError } from '@penstock/domain/errors';
import type { Logger } from '@penstock/service/logger';
import { publicKeyHash } from './certificates.js';
import type { NodePeer } from './identity.js';

/** What the certificate table says about a serial. */
export interface CertificateRecord {
  nodeId: string;
  /** SHA-256 of the SubjectPublicKeyInfo. */
  publicKeyHash: Buffer;
  revokedAt: Date | null;
}

/** NOTIFY channel; payload: the node's id. Sent in the transaction that revokes. */
export const REVOKED_CHANNEL = 'node_revoked';
/** How long a revoked node can keep a stream when the notification was lost. */
const SWEEP_MS = 2000;

/** Throws certificate_invalid or certificate_revoked. */
export function requireGoodStanding(peer: NodePeer, record: CertificateRecord | undefined): void {
  if (record === undefined) throw new AppError('certificate_invalid', 'the certificate is not known');
  const key = new X509Certificate(peer.certificate).publicKey;
  if (record.nodeId !== peer.nodeId || !record.publicKeyHash.equals(publicKeyHash(key))) {
    throw new AppError('certificate_invalid', 'the certificate is not the one that was issued');
  }
  if (record.revokedAt !== null) throw new AppError('certificate_revoked', 'the certificate is revoked');
}

export interface LivePeers {
  /** Serials of the certificates of all connected nodes. */
  liveSerials(): Buffer[];
  /** Ends every stream and connection of peers whose serial is given. */
  closeSerials(serials: readonly Buffer[]): void;
}

export interface RevocationWatch {
  /** Looks now; call it on REVOKED_CHANNEL. */
  poke(): Promise<void>;
  close(): void;
}

/**
 * Closes connections of revoked certificates: at once when poked, else within SWEEP_MS. `findRevoked` answers which
 * of these serials are revoked, in one statement.
 */
export function watchRevocations(
  servers: readonly LivePeers[],
  findRevoked: (serials: Buffer[]) => Promise<Buffer[]>,
  log: Pick<Logger, 'error'>,
): RevocationWatch {
  let running: Promise<void> | undefined;
  let again = false;
  const sweep = async (): Promise<void> => {
    do {
      again = false;
      const serials = servers.flatMap((server) => server.liveSerials());
      if (serials.length === 0) continue;
      const revoked = await findRevoked(serials);
      if (revoked.length > 0) for (const server of servers) server.closeSerials(revoked);
    } while (again);
  };
  const poke = (): Promise<void> => {
    if (running !== undefined) {
      again = true;
      return running;
    }
    running = sweep()
      .catch((error: unknown) => log.error({ error }, 'revoked certificates could not be looked up'))
      .finally(() => {
        running = undefined;
      });
    return running;
  };
  const timer = setInterval(() => void poke(), SWEEP_MS);
  timer.unref();
  return { poke, close: () => clearInterval(timer) };
}
