// Back-pressure over Node streams, shared by server and client: a write resolves when the other side keeps up, an
// iteration ends without an error when the call is aborted.
import type { Readable, Writable } from 'node:stream';
import { AppError } from '@penstock/domain/errors';

/** Why a call is over: the AppError it was aborted with, or `unavailable`. */
export function abortReason(signal: AbortSignal): AppError {
  return signal.reason instanceof AppError ? signal.reason : new AppError('unavailable', 'the call is over');
}

/** Writes one message and waits while the buffer is full. Throws AppError when the call is over. */
export async function writeMessage<T>(stream: Writable, message: T, signal: AbortSignal): Promise<void> {
  if (signal.aborted || stream.writableEnded || stream.destroyed) throw abortReason(signal);
  if (stream.write(message)) return;
  await new Promise<void>((resolve, reject) => {
    const settle = (error?: AppError): void => {
      stream.removeListener('drain', onDrain);
      stream.removeListener('close', onOver);
      signal.removeEventListener('abort', onOver);
      if (error === undefined) resolve();
      else reject(error);
    };
    const onDrain = (): void => settle();
    const onOver = (): void => settle(abortReason(signal));
    stream.once('drain', onDrain);
    stream.once('close', onOver);
    signal.addEventListener('abort', onOver, { once: true });
  });
}

/** Messages until the other side ends; also ends, without an error, when the call is aborted. */
export async function* endQuietly<T>(
  stream: Readable,
  signal: AbortSignal,
): AsyncGenerator<T, void, undefined> {
  try {
    for await (const message of stream.iterator({ destroyOnReturn: false })) {
      if (signal.aborted) return;
      yield message as T;
    }
  } catch (error) {
    // An aborted call destroys the stream, which the iterator reports as a premature close.
    if (!signal.aborted && !stream.destroyed) throw error;
  }
}
