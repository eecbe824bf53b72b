// AppError over gRPC: the status number is a coarse hint, the metadata `penstock-error` (ASCII JSON) carries the code,
// field and delay, so that the client throws the same AppError. Causes never travel. The only such table is
// domain/errors.ts.
import { Metadata, status, type ServiceError, type StatusObject } from '@grpc/grpc-js';
import { AppError, isErrorCode, type ErrorCode } from '@penstock/domain/errors';

export const ERROR_KEY = 'penstock-error';
const MESSAGE_CHARACTERS_MAX = 500;

/** What the other side is told: an AppError as it is, anything else as `internal` with no word about it. */
export function toAppError(error: unknown): AppError {
  return error instanceof AppError ? error : new AppError('internal', 'internal error', { cause: error });
}

/** Status for a server to send. */
export function toStatus(error: AppError): StatusObject {
  const metadata = new Metadata();
  const message = error.message.slice(0, MESSAGE_CHARACTERS_MAX);
  const body = { code: error.code, message, field: error.field, retryAfterMs: error.retryAfterMs };
  metadata.set(ERROR_KEY, asciiJson(body));
  return { code: error.grpcStatus, details: error.code, metadata };
}

/** Rebuilds what the server threw. A status without our metadata came from gRPC itself or from a proxy. */
export function fromServiceError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  if (!isServiceError(error)) return new AppError('internal', 'internal error', { cause: error });
  const carried = error.metadata?.get(ERROR_KEY)[0];
  if (typeof carried === 'string') {
    try {
      const body = JSON.parse(carried) as Record<string, unknown>;
      if (isErrorCode(body['code']) && typeof body['message'] === 'string') {
        return new AppError(body['code'], body['message'], {
          ...(typeof body['field'] === 'string' ? { field: body['field'] } : {}),
          ...(typeof body['retryAfterMs'] === 'number' ? { retryAfterMs: body['retryAfterMs'] } : {}),
        });
      }
    } catch {
      // Not ours after all.
    }
  }
  return new AppError(codeOfStatus(error.code), error.details || 'the call failed', { cause: error });
}

function codeOfStatus(code: number): ErrorCode {
  switch (code) {
    case status.INVALID_ARGUMENT:
      return 'invalid_input';
    case status.UNAUTHENTICATED:
      return 'unauthenticated';
    case status.PERMISSION_DENIED:
      return 'forbidden';
    case status.NOT_FOUND:
      return 'not_found';
    case status.RESOURCE_EXHAUSTED:
      return 'payload_too_large';
    case status.UNAVAILABLE:
    case status.DEADLINE_EXCEEDED:
    case status.CANCELLED:
      return 'unavailable';
    default:
      return 'internal';
  }
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && typeof (error as Partial<ServiceError>).code === 'number';
}

function asciiJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[\u007f-\uffff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
