// gRPC clients of ours: TLS 1.3 only, trust in our root alone, and the server must be one of the named services by its
// URI SAN (host names prove nothing between our processes). A renewed certificate is used for the next connection.
// Errors come back as the AppError that the server threw.
import { createSecureContext, type PeerCertificate, type SecureContext } from 'node:tls';
import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import type { Readable } from 'node:stream';
import {
  ChannelCredentials,
  Metadata,
  type CallOptions,
  type Client,
  type ClientDuplexStream,
  type ClientOptions,
  type ClientReadableStream,
  type ClientUnaryCall,
  type ServiceError,
} from '@grpc/grpc-js';
import { AppError } from '@penstock/domain/errors';
import { systemClock, type Clock } from '@penstock/domain/clock';
import { newId } from '@penstock/domain/ids';
import { MESSAGE_BYTES_MAX } from '@penstock/domain/terms';
import type { Logger } from '@penstock/service/logger';
import { fromServiceError } from './errors.js';
import { readPeer, type ServiceName } from './identity.js';
import { writeMessage } from './stream.js';
import { TlsReader, type TlsSource } from './trust.js';

export interface ConnectOptions {
  tls: TlsSource;
  trustDomain: string;
  /** Services that may answer: the one meant, and `caddy` where it stands in front. */
  servers: readonly ServiceName[];
  log: Pick<Logger, 'warn'>;
  /** TLS server name, when it is not the address's host. */
  serverName?: string;
  clock?: Clock;
}

export interface CallSettings {
  /** Milliseconds from now; DEADLINE_MS when absent. At most 30,000 for a unary call. */
  deadlineMs?: number;
  signal?: AbortSignal;
  requestId?: string;
  traceparent?: string;
  /** Further metadata, ASCII. */
  headers?: Readonly<Record<string, string>>;
}

const DEADLINE_MS = 10_000;
const KEEPALIVE_MS = 20_000;
const KEEPALIVE_TIMEOUT_MS = 10_000;
const RECONNECT_FIRST_MS = 200;
const RECONNECT_MAX_MS = 10_000;
/** Node refuses an address as TLS server name; every certificate of a service carries this name. */
const NAME_FOR_ADDRESSES = 'localhost';

type ClientConstructor<C extends Client> = new (
  address: string,
  credentials: ChannelCredentials,
  options?: Partial<ClientOptions>,
) => C;

/** A client of `address` (host:port) that connects on its first call and again whenever needed. `close()` ends it. */
export function connect<C extends Client>(
  Constructor: ClientConstructor<C>,
  address: string,
  options: ConnectOptions,
): C {
  const host = address.slice(0, address.lastIndexOf(':'));
  const name =
    options.serverName ?? (isIP(host.replace(/^\[|\]$/g, '')) === 0 ? undefined : NAME_FOR_ADDRESSES);
  return new Constructor(address, createChannelCredentials(options), {
    'grpc.max_receive_message_length': MESSAGE_BYTES_MAX * 2,
    'grpc.max_send_message_length': MESSAGE_BYTES_MAX * 2,
    'grpc.keepalive_time_ms': KEEPALIVE_MS,
    'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
    'grpc.initial_reconnect_backoff_ms': RECONNECT_FIRST_MS,
    'grpc.max_reconnect_backoff_ms': RECONNECT_MAX_MS,
    'grpc.enable_http_proxy': 0,
    'grpc.enable_channelz': 0,
    'grpc.service_config_disable_resolution': 1,
    // The authority follows the name: Caddy refuses a host that is not the TLS server name.
    ...(name === undefined ? {} : { 'grpc.ssl_target_name_override': name, 'grpc.default_authority': name }),
  });
}

type Connector = ReturnType<ChannelCredentials['_createSecureConnector']>;

/** Credentials that look at their source again for each new connection. */
export function createChannelCredentials(options: ConnectOptions): ChannelCredentials {
  return new FollowingCredentials(options);
}

class FollowingCredentials extends ChannelCredentials {
  private readonly reader: TlsReader;
  private context: { version: number; secure: SecureContext } | undefined;

  constructor(private readonly options: ConnectOptions) {
    super();
    this.reader = new TlsReader(options.tls, options.log, options.clock);
  }

  override _isSecure(): boolean {
    return true;
  }

  override _equals(other: ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(
    ...args: Parameters<ChannelCredentials['_createSecureConnector']>
  ): Connector {
    const now = (): Connector => this.credentials()._createSecureConnector(...args);
    const first = now();
    return {
      connect: (socket) => now().connect(socket),
      waitForReady: () => Promise.resolve(),
      getCallCredentials: () => first.getCallCredentials(),
      destroy: () => first.destroy(),
    };
  }

  private credentials(): ChannelCredentials {
    const loaded = this.reader.current();
    if (this.context?.version !== loaded.version) {
      const secure = createSecureContext({
        ca: loaded.anchorsPem,
        ...(loaded.cert === undefined ? {} : { cert: loaded.cert }),
        ...(loaded.key === undefined ? {} : { key: loaded.key }),
        minVersion: 'TLSv1.3',
        maxVersion: 'TLSv1.3',
      });
      this.context = { version: loaded.version, secure };
    }
    return ChannelCredentials.createFromSecureContext(this.context.secure, {
      checkServerIdentity: (_host: string, certificate: PeerCertificate) =>
        serverProblem(certificate, this.options),
    });
  }
}

function serverProblem(certificate: PeerCertificate, options: ConnectOptions): Error | undefined {
  const nowMs = (options.clock ?? systemClock).now();
  const leaf = new X509Certificate(certificate.raw);
  const peer = readPeer(leaf, { trustDomain: options.trustDomain, usage: 'server', nowMs });
  if (typeof peer !== 'string' && peer.kind === 'service' && options.servers.includes(peer.name))
    return undefined;
  const found = typeof peer === 'string' ? peer : peer.kind === 'service' ? peer.name : 'a node';
  return new Error(`the server is not ${options.servers.join(' or ')} (${found})`);
}

type UnaryMethod<Req, Res> = (
  request: Req,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Res) => void,
) => ClientUnaryCall;

/** `callUnary(client, client.renew, request)`. Throws AppError. */
export function callUnary<Req, Res>(
  client: Client,
  method: UnaryMethod<Req, Res>,
  request: Req,
  settings: CallSettings = {},
): Promise<Res> {
  return new Promise((resolve, reject) => {
    const options = { deadline: new Date(systemClock.now() + (settings.deadlineMs ?? DEADLINE_MS)) };
    const call = method.call(client, request, metadataOf(settings), options, (error, response) => {
      settings.signal?.removeEventListener('abort', cancel);
      if (error === null) resolve(response);
      else reject(fromServiceError(error));
    });
    const cancel = (): void => call.cancel();
    if (settings.signal?.aborted === true) cancel();
    settings.signal?.addEventListener('abort', cancel, { once: true });
  });
}

export interface ClientBidi<Req, Res> extends AsyncIterable<Res> {
  /** Resolves when the message was taken over; throws AppError when the call is over. */
  write(message: Req): Promise<void>;
  /** No more messages from here. */
  end(): void;
  /** Ends the call at once. */
  cancel(): void;
  readonly signal: AbortSignal;
}

/**
 * Opens a stream: `openBidi(client, (m, o) => client.sync(m, o))`. Iterating ends when the server ends with OK and
 * throws the server's AppError otherwise. A stream has no deadline unless one is given.
 */
export function openBidi<Req, Res>(
  open: (metadata: Metadata, options: Partial<CallOptions>) => ClientDuplexStream<Req, Res>,
  settings: CallSettings = {},
): ClientBidi<Req, Res> {
  const call = open(metadataOf(settings), streamOptions(settings));
  const over = follow(call, settings.signal);
  return {
    write: (message) => writeMessage(call, message, over.signal),
    end: () => call.end(),
    cancel: () => call.cancel(),
    signal: over.signal,
    [Symbol.asyncIterator]: () => iterate<Res>(call, over),
  };
}

/** One request, many responses: `openServerStream((m, o) => client.baselines(request, m, o))`. */
export function openServerStream<Res>(
  open: (metadata: Metadata, options: Partial<CallOptions>) => ClientReadableStream<Res>,
  settings: CallSettings = {},
): AsyncIterable<Res> {
  const call = open(metadataOf(settings), streamOptions(settings));
  const over = follow(call, settings.signal);
  return {
    async *[Symbol.asyncIterator]() {
      try {
        yield* iterate<Res>(call, over);
      } finally {
        call.cancel();
      }
    },
  };
}

interface Over {
  signal: AbortSignal;
  /** How the call ended: undefined for OK. */
  result: Promise<AppError | undefined>;
}

function follow<Req, Res>(
  call: ClientDuplexStream<Req, Res> | ClientReadableStream<Res>,
  outer?: AbortSignal,
): Over {
  const controller = new AbortController();
  const cancel = (): void => call.cancel();
  if (outer?.aborted === true) cancel();
  outer?.addEventListener('abort', cancel, { once: true });
  const result = new Promise<AppError | undefined>((resolve) => {
    const settle = (error: AppError | undefined): void => {
      outer?.removeEventListener('abort', cancel);
      controller.abort(error ?? new AppError('unavailable', 'the call is over'));
      resolve(error);
    };
    call.on('error', (error: unknown) => settle(fromServiceError(error)));
    call.on('status', (status: { code: number }) => {
      if (status.code === 0) settle(undefined);
    });
  });
  return { signal: controller.signal, result };
}

async function* iterate<Res>(call: Readable, over: Over): AsyncGenerator<Res, void, undefined> {
  try {
    for await (const message of call.iterator({ destroyOnReturn: false })) yield message as Res;
  } catch (error) {
    // The iterator throws what the call was ended with; `over` has it as an AppError.
    throw (await over.result) ?? fromServiceError(error);
  }
  const error = await over.result;
  if (error !== undefined) throw error;
}

function metadataOf(settings: CallSettings): Metadata {
  const metadata = new Metadata();
  metadata.set('x-request-id', settings.requestId ?? newId());
  if (settings.traceparent !== undefined) metadata.set('traceparent', settings.traceparent);
  for (const [key, value] of Object.entries(settings.headers ?? {})) metadata.set(key, value);
  return metadata;
}

function streamOptions(settings: CallSettings): Partial<CallOptions> {
  return settings.deadlineMs === undefined
    ? {}
    : { deadline: new Date(systemClock.now() + settings.deadlineMs) };
}
