// The one error type of the product and its closed list of codes. A code decides the HTTP status and the
// gRPC status; the public message is for people and names the field; the cause stays in the log.
// Used by every process; translated at the edges only (http/problem.filter.ts, rpc/src/errors.ts).

/** code → [HTTP status, gRPC status number]. gRPC numbers: https://grpc.io/docs/guides/status-codes/ */
export const errorCodes = {
  invalid_input: [400, 3],
  unauthenticated: [401, 16],
  forbidden: [403, 7],
  not_found: [404, 5],
  conflict: [409, 6],
  payload_too_large: [413, 8],
  unsupported_media_type: [415, 3],
  failed_precondition: [412, 9],
  pending: [409, 9],
  quota_exceeded: [422, 9],
  limit_reached: [422, 9],
  idempotency_mismatch: [422, 9],
  rate_limited: [429, 8],
  internal: [500, 13],
  unavailable: [503, 14],
  // identity
  totp_required: [401, 16],
  address_not_allowed: [403, 7],
  token_invalid: [401, 16],
  token_used: [409, 6],
  token_expired: [401, 16],
  certificate_invalid: [401, 16],
  certificate_revoked: [401, 7],
  certificate_superseded: [401, 9],
  node_mismatch: [403, 7],
  fenced: [409, 10],
  // accounting
  frame_malformed: [400, 3],
  frame_too_large: [413, 8],
  frame_out_of_order: [409, 11],
  frame_fork: [409, 9],
  digest_mismatch: [400, 3],
  sum_mismatch: [400, 3],
  signature_invalid: [400, 3],
  stream_frozen: [409, 9],
  not_assigned: [403, 7],
} as const satisfies Record<string, readonly [http: number, grpc: number]>;

export type ErrorCode = keyof typeof errorCodes;

export interface ErrorDetail {
  /** Name of the offending field in the caller's own words (`plan.limitBytes`). */
  field?: string;
  /** For rate_limited and unavailable: milliseconds after which a retry makes sense. */
  retryAfterMs?: number;
  cause?: unknown;
}

/** Thrown, never returned. `message` is public; everything private belongs into `cause`. */
export class AppError extends Error {
  readonly code: ErrorCode;
  readonly field: string | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, publicMessage: string, detail: ErrorDetail = {}) {
    super(publicMessage, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.name = 'AppError';
    this.code = code;
    this.field = detail.field;
    this.retryAfterMs = detail.retryAfterMs;
  }

  get httpStatus(): number {
    return errorCodes[this.code][0];
  }

  get grpcStatus(): number {
    return errorCodes[this.code][1];
  }
}

/** True for a string that is one of our codes; used where a code comes over a wire. */
export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(errorCodes, value);
}
