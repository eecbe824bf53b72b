// The only place where an error becomes an HTTP answer: problem+json with our code. Whatever is not an AppError is
// `internal`: logged once with its cause and its request id, shown as nothing.
import { Catch, HttpException, type ArgumentsHost, type ExceptionFilter } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { AppError, type ErrorCode } from '@penstock/domain/errors';
import { Context } from '../context.js';
import { StoredAnswer } from '../idempotency/stored-answer.js';

export const PROBLEM_TYPE = 'application/problem+json; charset=utf-8';

/** What the framework itself refuses, by status; anything else of it is internal. */
const codeOfStatus: Record<number, [ErrorCode, string]> = {
  400: ['invalid_input', 'the request is not well-formed'],
  401: ['unauthenticated', 'sign in first'],
  404: ['not_found', 'there is nothing here'],
  405: ['not_found', 'there is nothing here'],
  413: ['payload_too_large', 'the body is larger than 1 MiB'],
  414: ['not_found', 'there is nothing here'],
  415: ['unsupported_media_type', 'send application/json'],
};

@Catch()
export class ProblemFilter implements ExceptionFilter {
  constructor(private readonly context: Context) {}

  catch(error: unknown, host: ArgumentsHost): void {
    const request = host.switchToHttp().getRequest<FastifyRequest>();
    const reply = host.switchToHttp().getResponse<FastifyReply>();
    if (error instanceof StoredAnswer) {
      error.send(reply);
      return;
    }
    const problem = asAppError(error);
    if (problem.code === 'internal') {
      this.context.log.error(
        { requestId: request.id, route: request.routeOptions.url, error },
        'request failed',
      );
    } else if (problem.code === 'unavailable') {
      this.context.log.warn(
        { requestId: request.id, route: request.routeOptions.url, error },
        'request not served',
      );
    }
    sendProblem(reply, problem, request.id);
  }
}

/** Which code an answer carried, for the one log line and the count of its request. */
const sent = new WeakMap<object, ErrorCode>();

export function problemCodeOf(reply: FastifyReply): ErrorCode | undefined {
  return sent.get(reply);
}

/** `conflict` → "Conflict": stable text for people, one a code. */
function titleOf(code: ErrorCode): string {
  return code.charAt(0).toUpperCase() + code.slice(1).replaceAll('_', ' ');
}

export function sendProblem(reply: FastifyReply, problem: AppError, requestId: string): void {
  sent.set(reply, problem.code);
  if (problem.httpStatus === 401) void reply.header('www-authenticate', 'Bearer');
  if (problem.retryAfterMs !== undefined) {
    void reply.header('retry-after', String(Math.max(1, Math.ceil(problem.retryAfterMs / 1000))));
  }
  void reply
    .status(problem.httpStatus)
    .header('content-type', PROBLEM_TYPE)
    .send(problemText(problem, requestId));
}

export function problemText(problem: AppError, requestId: string): string {
  return JSON.stringify({
    type: `urn:penstock:problem:${problem.code}`,
    title: titleOf(problem.code),
    status: problem.httpStatus,
    code: problem.code,
    detail: problem.message,
    field: problem.field,
    request_id: requestId,
  });
}

/** What the caller is told of an error. */
export function asAppError(error: unknown): AppError {
  if (error instanceof AppError) {
    return error.code === 'internal' ? new AppError('internal', 'something failed on our side') : error;
  }
  const status =
    error instanceof HttpException ? error.getStatus() : (error as { statusCode?: unknown }).statusCode;
  const known = typeof status === 'number' ? codeOfStatus[status] : undefined;
  return known === undefined
    ? new AppError('internal', 'something failed on our side')
    : new AppError(...known);
}
