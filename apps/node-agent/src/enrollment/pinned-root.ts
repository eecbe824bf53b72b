// The first contact of a node that knows only a fingerprint: looks at the chain that the enrollment edge shows and
// takes the root whose SHA-256 the join token names. Nothing is sent over this connection; the real one is made
// afterwards, trusting that root alone, so a chain that was only copied fails there.
import { createHash } from 'node:crypto';
import { isIP } from 'node:net';
import { connect, type DetailedPeerCertificate } from 'node:tls';
import { X509Certificate } from 'node:crypto';
import { AppError } from '@penstock/domain/errors';
import { pemOf } from '@penstock/rpc/trust';

const CONNECT_TIMEOUT_MS = 10_000;
const CHAIN_MAX = 8;

/** PEM of the root. Throws unavailable (nobody there) or certificate_invalid (somebody else is). */
export function fetchPinnedRoot(
  address: string,
  serverName: string | undefined,
  fingerprint: string,
  signal: AbortSignal,
): Promise<string> {
  const at = address.lastIndexOf(':');
  const host = address.slice(0, at).replace(/^\[|\]$/g, '');
  const unreachable = (cause?: unknown): AppError =>
    new AppError('unavailable', `the enrollment edge ${address} does not answer`, { cause });
  return new Promise((resolve, reject) => {
    const socket = connect({
      host,
      port: Number(address.slice(at + 1)),
      servername: serverName ?? (isIP(host) === 0 ? host : 'localhost'),
      minVersion: 'TLSv1.3',
      ALPNProtocols: ['h2'],
      // Whom to trust is what is being found out; see above.
      rejectUnauthorized: false,
      timeout: CONNECT_TIMEOUT_MS,
    });
    const abort = (): void => void socket.destroy(unreachable(signal.reason));
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    socket.once('timeout', () => socket.destroy(unreachable()));
    socket.once('error', (error) => reject(error instanceof AppError ? error : unreachable(error)));
    socket.once('close', () => {
      signal.removeEventListener('abort', abort);
      reject(unreachable());
    });
    socket.once('secureConnect', () => {
      const root = findInChain(socket.getPeerCertificate(true), fingerprint);
      if (root === undefined) {
        const why = 'its certificates do not lead to the root that the join token names';
        reject(new AppError('certificate_invalid', `the enrollment edge ${address} is not ours: ${why}`));
      } else {
        resolve(pemOf([root]));
      }
      socket.destroy();
    });
  });
}

function findInChain(leaf: DetailedPeerCertificate, fingerprint: string): X509Certificate | undefined {
  let link: DetailedPeerCertificate | undefined = leaf;
  for (let depth = 0; depth < CHAIN_MAX && (link?.raw as Buffer | undefined) !== undefined; depth += 1) {
    if (createHash('sha256').update(link.raw).digest('hex') === fingerprint)
      return new X509Certificate(link.raw);
    const parent: DetailedPeerCertificate | undefined = link.issuerCertificate;
    if (parent === link) return undefined;
    link = parent;
  }
  return undefined;
}
