// The TLS listener of a server: accepts, finishes the handshake, decides who the peer is and only then hands the
// connection on. Keeps every open connection with its peer, so that a call can be traced to it and a revoked node's
// can be ended. Invariant: in an edge with certificates, no byte above TLS is read from a peer without an identity.
import {
  createServer as createTcpServer,
  type AddressInfo,
  type Server as TcpServer,
  type Socket,
} from 'node:net';
import { constants, X509Certificate } from 'node:crypto';
import { createServer as createTlsServer, type Server as TlsServer, type TLSSocket } from 'node:tls';
import type { Clock } from '@penstock/domain/clock';
import type { Logger } from '@penstock/service/logger';
import type { ClientCertificates } from './guard.js';
import { readPeer, type CertificateProblem, type Peer } from './identity.js';
import type { RefusalReason, RpcMetrics } from './rpc-metrics.js';
import type { LoadedTls, TlsReader } from './trust.js';

export interface Connection {
  /** Address and port of the other side, as grpc-js names it in getPeer(). */
  readonly key: string;
  readonly address: string;
  /** null on an edge without client certificates, unless Caddy connects. */
  readonly peer: Peer | null;
  readonly socket: TLSSocket;
}

export interface ConnectionsOptions {
  tls: TlsReader;
  trustDomain: string;
  clientCertificates: ClientCertificates;
  log: Logger;
  metrics: RpcMetrics;
  clock: Clock;
  accept(connection: Connection): void;
}

/** Open connections of one listener. */
export const CONNECTIONS_MAX = 12_000;
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** Refused connections are counted each, logged at most this often. */
const REFUSAL_LOG_MS = 1000;

const problemOfTls: Record<string, CertificateProblem> = {
  CERT_HAS_EXPIRED: 'expired',
  CERT_NOT_YET_VALID: 'not_yet_valid',
  INVALID_PURPOSE: 'usage',
};

export class Connections {
  readonly open = new Map<string, Connection>();
  private readonly tcp: TcpServer;
  private readonly tls: TlsServer;
  private readonly sockets = new Set<Socket>();
  private tlsVersion: number;
  private refusalLoggedAt = -Infinity;

  constructor(private readonly options: ConnectionsOptions) {
    const loaded = options.tls.current();
    this.tlsVersion = loaded.version;
    this.tls = createTlsServer({
      ...contextOf(loaded),
      ALPNProtocols: ['h2'],
      requestCert: true,
      // Refused by hand below, so that the reason can be counted.
      rejectUnauthorized: false,
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    });
    this.tls.on('secureConnection', (socket) => this.identify(socket));
    this.tls.on('tlsClientError', (error, socket) => {
      this.refuse('handshake', socket, error);
      socket.destroy();
    });
    this.tcp = createTcpServer({ noDelay: true }, (socket) => this.admit(socket));
  }

  /** Resolves to the real port. */
  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.tcp.once('error', reject);
      this.tcp.listen(port, host, () => {
        this.tcp.removeListener('error', reject);
        this.tcp.on('error', (error) => this.options.log.error({ error }, 'the listener failed'));
        resolve((this.tcp.address() as AddressInfo).port);
      });
    });
  }

  /** Takes no new connection; open ones stay. */
  stopAccepting(): void {
    this.tcp.close();
  }

  destroyAll(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  private admit(socket: Socket): void {
    if (this.sockets.size >= CONNECTIONS_MAX) {
      this.refuse('too_many', socket);
      socket.destroy();
      return;
    }
    this.sockets.add(socket);
    socket.once('close', () => this.sockets.delete(socket));
    const loaded = this.options.tls.current();
    if (loaded.version !== this.tlsVersion) {
      this.tls.setSecureContext(contextOf(loaded));
      this.tlsVersion = loaded.version;
    }
    this.tls.emit('connection', socket);
  }

  private identify(socket: TLSSocket): void {
    socket.on('error', () => socket.destroy());
    const address = socket.remoteAddress;
    if (address === undefined || socket.alpnProtocol !== 'h2') {
      this.refuse('handshake', socket);
      socket.destroy();
      return;
    }
    const peer = this.peerOf(socket);
    if (typeof peer === 'string') {
      this.refuse(peer, socket);
      socket.destroy();
      return;
    }
    const connection: Connection = { key: `${address}:${socket.remotePort}`, address, peer, socket };
    this.open.set(connection.key, connection);
    socket.once('close', () => {
      if (this.open.get(connection.key) === connection) this.open.delete(connection.key);
    });
    this.options.accept(connection);
  }

  private peerOf(socket: TLSSocket): Peer | null | CertificateProblem {
    const certificate = leafOf(socket);
    const { trustDomain, clock, clientCertificates } = this.options;
    const verified = certificate !== undefined && socket.authorized;
    const peer = verified
      ? readPeer(certificate, { trustDomain, usage: 'client', nowMs: clock.now() })
      : certificate === undefined
        ? 'missing'
        : (problemOfTls[String(socket.authorizationError)] ?? 'chain');
    if (clientCertificates === 'required') return peer;
    return typeof peer !== 'string' && peer.kind === 'service' && peer.name === 'caddy' ? peer : null;
  }

  private refuse(reason: RefusalReason, socket: Socket, error?: Error): void {
    this.options.metrics.refusals.inc({ reason });
    const now = this.options.clock.monotonic();
    if (now - this.refusalLoggedAt < REFUSAL_LOG_MS) return;
    this.refusalLoggedAt = now;
    this.options.log.warn(
      { reason, peerAddr: socket.remoteAddress, cause: error?.message },
      'connection refused',
    );
  }
}

function leafOf(socket: TLSSocket): X509Certificate | undefined {
  const raw = socket.getPeerCertificate().raw as Buffer | undefined;
  return raw === undefined ? undefined : new X509Certificate(raw);
}

function contextOf(loaded: LoadedTls): object {
  return {
    cert: loaded.cert,
    key: loaded.key,
    ca: loaded.anchorsPem,
    minVersion: 'TLSv1.3',
    maxVersion: 'TLSv1.3',
    // A resumed session would skip the look at the certificate's chain.
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
}
