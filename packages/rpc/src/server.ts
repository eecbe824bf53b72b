// The gRPC server of every process of ours: TLS 1.3 only, one identity a connection, a list of allowed peers a method,
// bounds on everything a peer can hold. TLS is terminated in connections.ts and handed to grpc-js as open connections,
// because grpc-js itself offers neither the TLS version nor the connection of a call.
import {
  Metadata,
  Server,
  ServerCredentials,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { isIP } from 'node:net';
import { AppError } from '@penstock/domain/errors';
import { systemClock, type Clock } from '@penstock/domain/clock';
import { newId, parseId, type Id, type NodeId } from '@penstock/domain/ids';
import { MESSAGE_BYTES_MAX } from '@penstock/domain/terms';
import type { Logger } from '@penstock/service/logger';
import type { Metrics } from '@penstock/service/metrics';
import { Connections, type Connection } from './connections.js';
import { toAppError, toStatus } from './errors.js';
import {
  CERTIFICATE_HEADER,
  FORWARDED_HEADER,
  checkAllowTable,
  effectivePeer,
  requireAllowed,
  requireDeadline,
  type AllowTable,
  type ClientCertificates,
} from './guard.js';
import { attachContext, type CallContext } from './handlers.js';
import type { NodePeer, Peer } from './identity.js';
import type { LivePeers } from './revocation.js';
import { rpcMetrics, type RpcMetrics } from './rpc-metrics.js';
import { TlsReader, type TlsSource } from './trust.js';

export interface ServerOptions {
  tls: TlsSource;
  trustDomain: string;
  /** Every method of every service has a list here, or the server does not start. */
  allow: AllowTable;
  services: readonly (readonly [ServiceDefinition, UntypedServiceImplementation])[];
  log: Logger;
  metrics: Metrics;
  /** `none`: the enrollment edge, where only methods for `anyone` can be served. */
  clientCertificates: ClientCertificates;
  /** Asked before every call of a node, for revocation; throws AppError to refuse. */
  admit?: (peer: NodePeer, method: string) => Promise<void>;
  maxMessageBytes?: number;
  clock?: Clock;
}

export interface RpcServer extends LivePeers {
  /** Resolves to the real port. */
  listen(host: string, port: number): Promise<number>;
  /** Ends all calls and connections of a node, at the latest after CLOSE_GRACE_MS. */
  closePeer(nodeId: NodeId, error?: AppError): void;
  /** Nodes that have a call open now. */
  liveNodes(): NodeId[];
  /** Ends streams at once with `unavailable`, lets unary calls finish for `graceMs`, then closes everything. */
  close(graceMs: number): Promise<void>;
}

/** Calls that one node may have open: it needs three. */
const CALLS_PER_NODE_MAX = 32;
const STREAMS_PER_CONNECTION_MAX = 20_000;
const KEEPALIVE_MS = 20_000;
const KEEPALIVE_TIMEOUT_MS = 10_000;
const MESSAGE_OVERHEAD_BYTES = 64 * 1024;
/** A refused peer gets this long to read the status before its connection is cut. */
const CLOSE_GRACE_MS = 1000;
/** How long a stream can outlive its certificate. */
const EXPIRY_SWEEP_MS = 1000;

interface LiveCall {
  peer: Peer | null;
  connection: Connection;
  unary: boolean;
  abort(error: AppError): void;
}

/** Throws at once when the table of allowed peers, an implementation or the TLS material is not complete. */
export function createServer(options: ServerOptions): RpcServer {
  return new GuardedServer(options);
}

class GuardedServer implements RpcServer {
  private readonly clock: Clock;
  private readonly metrics: RpcMetrics;
  private readonly tls: TlsReader;
  private readonly connections: Connections;
  private readonly grpc: Server;
  private readonly calls = new Set<LiveCall>();
  private readonly callsOfNode = new Map<NodeId, Set<LiveCall>>();
  private readonly expirySweep: NodeJS.Timeout;

  constructor(private readonly options: ServerOptions) {
    this.clock = options.clock ?? systemClock;
    this.metrics = rpcMetrics(options.metrics);
    checkAllowTable(
      options.services.map(([definition]) => definition),
      options.allow,
      options.clientCertificates,
    );
    this.tls = new TlsReader(options.tls, options.log, this.clock);
    this.grpc = new Server({
      'grpc.max_receive_message_length':
        options.maxMessageBytes ?? MESSAGE_BYTES_MAX + MESSAGE_OVERHEAD_BYTES,
      'grpc.max_send_message_length': options.maxMessageBytes ?? MESSAGE_BYTES_MAX + MESSAGE_OVERHEAD_BYTES,
      // Caddy's one connection carries many nodes; what a single node may open is checked in `admitCall`.
      'grpc.max_concurrent_streams': STREAMS_PER_CONNECTION_MAX,
      'grpc.keepalive_time_ms': KEEPALIVE_MS,
      'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
      'grpc.enable_channelz': 0,
      interceptors: [
        (method, call) => this.intercept(method.path, !method.requestStream && !method.responseStream, call),
      ],
    });
    for (const [definition, implementation] of options.services) {
      for (const [name, method] of Object.entries(definition)) {
        if (typeof implementation[name] !== 'function')
          throw new Error(`${method.path} has no implementation`);
      }
      this.grpc.addService(definition, implementation);
    }
    const injector = this.grpc.createConnectionInjector(ServerCredentials.createInsecure());
    this.connections = new Connections({
      tls: this.tls,
      trustDomain: options.trustDomain,
      clientCertificates: options.clientCertificates,
      log: options.log,
      metrics: this.metrics,
      clock: this.clock,
      accept: (connection) => injector.injectConnection(connection.socket),
    });
    this.expirySweep = setInterval(() => this.closeExpired(), EXPIRY_SWEEP_MS);
    this.expirySweep.unref();
  }

  listen(host: string, port: number): Promise<number> {
    return this.connections.listen(host, port);
  }

  liveNodes(): NodeId[] {
    return [...this.callsOfNode.keys()];
  }

  liveSerials(): Buffer[] {
    const serials = new Map<string, Buffer>();
    const add = (peer: Peer | null): void => {
      if (peer?.kind === 'node') serials.set(peer.serial.toString('hex'), peer.serial);
    };
    for (const call of this.calls) add(call.peer);
    for (const connection of this.connections.open.values()) add(connection.peer);
    return [...serials.values()];
  }

  closeSerials(serials: readonly Buffer[]): void {
    const wanted = new Set(serials.map((serial) => serial.toString('hex')));
    this.closeWhere((peer) => wanted.has(peer.serial.toString('hex')), revoked());
  }

  closePeer(nodeId: NodeId, error: AppError = revoked()): void {
    this.closeWhere((peer) => peer.nodeId === nodeId, error);
  }

  async close(graceMs: number): Promise<void> {
    clearInterval(this.expirySweep);
    this.connections.stopAccepting();
    const stopping = new AppError('unavailable', 'the server is stopping', { retryAfterMs: CLOSE_GRACE_MS });
    for (const call of this.calls) if (!call.unary) call.abort(stopping);
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => {
        this.connections.destroyAll();
        this.grpc.forceShutdown();
        resolve();
      }, graceMs);
      this.grpc.tryShutdown(() => {
        clearTimeout(timer);
        resolve();
      });
    });
    this.connections.destroyAll();
  }

  /** Calls get their status at once, connections are cut a moment later whatever the peer does. */
  private closeWhere(match: (peer: NodePeer) => boolean, error: AppError): void {
    for (const call of this.calls) if (call.peer?.kind === 'node' && match(call.peer)) call.abort(error);
    const doomed = [...this.connections.open.values()].filter(
      ({ peer }) => peer?.kind === 'node' && match(peer),
    );
    if (doomed.length === 0) return;
    setTimeout(() => {
      for (const { socket } of doomed) socket.destroy();
    }, CLOSE_GRACE_MS);
  }

  private closeExpired(): void {
    const now = this.clock.now();
    this.closeWhere(({ notAfter }) => notAfter.getTime() <= now, expired());
  }

  private intercept(
    method: string,
    isUnary: boolean,
    call: ServerInterceptingCallInterface,
  ): ServerInterceptingCall {
    const controller = new AbortController();
    let live: LiveCall | undefined;
    // A status with no headers before it is one frame that is head and end at once; a proxy that splits it in two
    // loses the status (seen with Caddy in a third of the calls). So there are always headers first.
    const withHeaders = (): void => call.sendMetadata(new Metadata());
    const refuse = (error: AppError): void => {
      withHeaders();
      call.sendStatus(toStatus(error));
      controller.abort(error);
    };
    const start = (metadata: Metadata, pass: (metadata: Metadata) => void): void => {
      const requestId = requestIdOf(metadata);
      const fail = (error: unknown, peer?: Peer | null): AppError =>
        this.report(error, method, requestId, peer);
      this.admitCall(method, isUnary, call, metadata, {
        pass: (peer, connection, address) => {
          if (controller.signal.aborted) return;
          live = { peer, connection, unary: isUnary, abort: refuse };
          this.remember(live);
          const context: CallContext = {
            get peer(): Peer {
              if (peer === null) throw new AppError('unauthenticated', 'this edge knows no peers');
              return peer;
            },
            address,
            deadlineMs: Number(call.getDeadline()),
            requestId,
            traceparent: metadata.get('traceparent')[0]?.toString(),
            method,
            signal: controller.signal,
            fail: (error) => fail(error, peer),
          };
          attachContext(metadata, context);
          pass(metadata);
        },
        refuse: (error, peer) => refuse(fail(error, peer)),
      });
    };
    return new ServerInterceptingCall(call, {
      start: (next) =>
        next({
          onReceiveMetadata: start,
          onCancel: () => {
            if (live !== undefined) this.forget(live);
            controller.abort(new AppError('unavailable', 'the call is over'));
          },
        }),
      // After a status nothing may follow: grpc-js would write to a stream that has ended.
      sendMessage: (message, next) => {
        if (!controller.signal.aborted) next(message);
      },
      sendStatus: (status, next) => {
        withHeaders();
        next(status);
      },
    });
  }

  private admitCall(
    method: string,
    isUnary: boolean,
    call: ServerInterceptingCallInterface,
    metadata: Metadata,
    then: {
      pass(peer: Peer | null, connection: Connection, address: string): void;
      refuse(error: unknown, peer?: Peer | null): void;
    },
  ): void {
    const connection = this.connections.open.get(call.getPeer());
    if (connection === undefined) return then.refuse(new AppError('unavailable', 'the connection is gone'));
    let peer: Peer | null = connection.peer;
    try {
      const now = this.clock.now();
      const carried = textOf(metadata, CERTIFICATE_HEADER);
      peer = effectivePeer(connection.peer, carried, this.tls.current(), this.options.trustDomain, now);
      if (peer?.kind === 'node' && peer.notAfter.getTime() <= now) throw expired();
      requireAllowed(peer, this.options.allow[method]);
      // The deadline was made by grpc-js from the machine's clock, so that clock it is compared with.
      if (isUnary) requireDeadline(Number(call.getDeadline()), systemClock.now());
      if (peer?.kind === 'node') this.requireRoom(peer);
    } catch (error) {
      return then.refuse(error, peer);
    }
    const address = addressOf(connection, metadata);
    if (peer?.kind !== 'node' || this.options.admit === undefined)
      return then.pass(peer, connection, address);
    this.options.admit(peer, method).then(
      () => then.pass(peer, connection, address),
      (error: unknown) => then.refuse(error, peer),
    );
  }

  private remember(call: LiveCall): void {
    this.calls.add(call);
    if (call.peer?.kind !== 'node') return;
    const ofNode = this.callsOfNode.get(call.peer.nodeId) ?? new Set();
    this.callsOfNode.set(call.peer.nodeId, ofNode.add(call));
  }

  private forget(call: LiveCall): void {
    this.calls.delete(call);
    if (call.peer?.kind !== 'node') return;
    const ofNode = this.callsOfNode.get(call.peer.nodeId);
    ofNode?.delete(call);
    if (ofNode?.size === 0) this.callsOfNode.delete(call.peer.nodeId);
  }

  private requireRoom(peer: NodePeer): void {
    if ((this.callsOfNode.get(peer.nodeId)?.size ?? 0) >= CALLS_PER_NODE_MAX) {
      throw new AppError('rate_limited', 'this node has too many calls open', {
        retryAfterMs: CLOSE_GRACE_MS,
      });
    }
  }

  private report(error: unknown, method: string, requestId: string, peer: Peer | null | undefined): AppError {
    const failure = toAppError(error);
    this.metrics.failures.inc({ code: failure.code });
    const nodeId = peer?.kind === 'node' ? peer.nodeId : undefined;
    if (failure.code === 'internal') {
      this.options.log.error({ error: failure.cause ?? failure, method, requestId, nodeId }, 'call failed');
    } else {
      this.options.log.info(
        { code: failure.code, reason: failure.message, method, requestId, nodeId },
        'call refused',
      );
    }
    return failure;
  }
}

function revoked(): AppError {
  return new AppError('certificate_revoked', 'the certificate is revoked');
}

function expired(): AppError {
  return new AppError('certificate_invalid', 'the certificate has expired');
}

function textOf(metadata: Metadata, key: string): string | undefined {
  const values = metadata.get(key);
  if (values.length === 0) return undefined;
  // Said twice is said by two: never choose.
  if (values.length > 1 || typeof values[0] !== 'string')
    throw new AppError('invalid_input', `${key} is given twice`);
  return values[0];
}

function requestIdOf(metadata: Metadata): string {
  const given = metadata.get('x-request-id')[0];
  try {
    return parseId<Id<'request'>>(given, 'x-request-id');
  } catch {
    return newId<Id<'request'>>();
  }
}

/** Caddy appends the address it saw; whatever stands before it was said by the client. */
function addressOf(connection: Connection, metadata: Metadata): string {
  if (connection.peer?.kind !== 'service' || connection.peer.name !== 'caddy') return connection.address;
  const forwarded = String(metadata.get(FORWARDED_HEADER).at(-1) ?? '')
    .split(',')
    .at(-1)
    ?.trim();
  return forwarded !== undefined && isIP(forwarded) !== 0 ? forwarded : connection.address;
}
