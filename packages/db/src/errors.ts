// PostgreSQL's errors as ours, in this one place.
import { AppError } from '@penstock/domain/errors';

const connectionCodes = new Set(['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ENOTFOUND', 'ETIMEDOUT', 'ENOENT']);

/** SQLSTATE of an error, or '' when it has none. */
export function sqlState(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : '';
}

/** True when the server may or may not have committed, or was not reached at all. */
export function isConnectionError(error: unknown): boolean {
  const code = sqlState(error);
  return (
    connectionCodes.has(code) ||
    code.startsWith('08') ||
    code.startsWith('57P') ||
    (error instanceof Error &&
      /Connection terminated|timeout exceeded when trying to connect|Client has encountered/.test(
        error.message,
      ))
  );
}

/** An AppError as it is; a known database error as AppError with the cause kept; anything else unchanged. */
export function translateDatabaseError(error: unknown): unknown {
  if (error instanceof AppError) return error;
  const detail = { cause: error };
  switch (sqlState(error)) {
    case '23505':
      return new AppError('conflict', 'this already exists', detail);
    case '23503':
      return new AppError('failed_precondition', 'something this refers to does not exist', detail);
    case '23514':
    case '23502':
    case '22P02':
    case '22001':
      return new AppError('invalid_input', 'a value is not acceptable', detail);
    case '22003':
      return new AppError('invalid_input', 'a number is out of range', detail);
    case '40001':
    case '40P01':
    case '55P03':
    case '53300':
    case '57014':
      return new AppError('unavailable', 'the database is busy, try again', {
        ...detail,
        retryAfterMs: 1_000,
      });
    default:
      return isConnectionError(error)
        ? new AppError('unavailable', 'the database is not reachable', { ...detail, retryAfterMs: 1_000 })
        : error;
  }
}
