// What a service writes its methods with: plain async functions that throw AppError. A handler gets a CallContext that
// the server's guard made (server.ts); one that was reached without it is refused. Streams are async iterables with
// back-pressure both ways; a cancelled call aborts `signal` and ends the iteration.
import type {
  handleBidiStreamingCall,
  handleServerStreamingCall,
  handleUnaryCall,
  Metadata,
  ServerDuplexStream,
  ServerWritableStream,
} from '@grpc/grpc-js';
import { AppError } from '@penstock/domain/errors';
import { toStatus } from './errors.js';
import type { Peer } from './identity.js';
import { endQuietly, writeMessage } from './stream.js';

export interface CallContext {
  /** Throws unauthenticated on an edge without client certificates. */
  readonly peer: Peer;
  /** Address of the caller; behind Caddy the one that Caddy saw. For limits and logs, never for rights. */
  readonly address: string;
  /** Milliseconds since 1970; Infinity for streams without one. */
  readonly deadlineMs: number;
  readonly requestId: string;
  /** W3C trace context, when the caller sent one. */
  readonly traceparent: string | undefined;
  /** Full method path. */
  readonly method: string;
  /** Aborts when the call is over for whatever reason; its reason is an AppError when the server ended it. */
  readonly signal: AbortSignal;
  /** Counts and logs a failure once and says what to tell the caller. Used by the wrappers below. */
  fail(error: unknown): AppError;
}

export interface BidiStream<Req, Res> extends AsyncIterable<Req> {
  /** Resolves when the message was taken over and the other side keeps up; throws AppError when the call is over. */
  write(message: Res): Promise<void>;
  readonly signal: AbortSignal;
}

export interface ResponseStream<Res> {
  write(message: Res): Promise<void>;
  readonly signal: AbortSignal;
}

// gRPC gives handlers no place for a context; the metadata object is the one thing that guard and handler share.
const contexts = new WeakMap<Metadata, CallContext>();

/** For the server's guard only. */
export function attachContext(metadata: Metadata, context: CallContext): void {
  contexts.set(metadata, context);
}

export function contextOf(call: { metadata: Metadata }): CallContext {
  const context = contexts.get(call.metadata);
  if (context === undefined) throw new AppError('unauthenticated', 'the call did not pass the guard');
  return context;
}

/** Peer of a call of a handler that does not use the wrappers; throws unauthenticated. */
export function peerOf(call: { metadata: Metadata }): Peer {
  return contextOf(call).peer;
}

/** One request, one response. */
export function unary<Req, Res>(
  fn: (request: Req, context: CallContext) => Promise<Res>,
): handleUnaryCall<Req, Res> {
  return (call, callback) => {
    const context = contextOf(call);
    started(() => fn(call.request, context)).then(
      (response) => callback(null, response),
      (error: unknown) => callback(toStatus(context.fail(error))),
    );
  };
}

/** Streams both ways. The call ends when `fn` returns (OK) or throws (its error). */
export function bidi<Req, Res>(
  fn: (stream: BidiStream<Req, Res>, context: CallContext) => Promise<void>,
): handleBidiStreamingCall<Req, Res> {
  return (call) => {
    const context = contextOf(call);
    const stream: BidiStream<Req, Res> = {
      write: (message) => writeMessage(call, message, context.signal),
      signal: context.signal,
      [Symbol.asyncIterator]: () => endQuietly(call, context.signal),
    };
    finish(
      call,
      context,
      started(() => fn(stream, context)),
    );
  };
}

/** One request, a stream of responses. */
export function serverStream<Req, Res>(
  fn: (request: Req, stream: ResponseStream<Res>, context: CallContext) => Promise<void>,
): handleServerStreamingCall<Req, Res> {
  return (call) => {
    const context = contextOf(call);
    const stream = {
      write: (message: Res) => writeMessage(call, message, context.signal),
      signal: context.signal,
    };
    finish(
      call,
      context,
      started(() => fn(call.request, stream, context)),
    );
  };
}

/** A handler that throws before its first await fails like one that throws after it. */
async function started<T>(fn: () => Promise<T>): Promise<T> {
  return await fn();
}

function finish<Req, Res>(
  call: ServerDuplexStream<Req, Res> | ServerWritableStream<Req, Res>,
  context: CallContext,
  done: Promise<void>,
): void {
  done.then(
    () => {
      if (!context.signal.aborted) call.end();
    },
    (error: unknown) => {
      // A handler that stops because the call is over is no failure.
      if (context.signal.aborted) return;
      const status = toStatus(context.fail(error));
      call.emit('error', Object.assign(new Error(status.details), status));
    },
  );
}
