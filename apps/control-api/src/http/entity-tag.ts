// Versions on the wire: `ETag: "7"` with an answer, `If-Match: "7"` with a change that must not overwrite another's.
import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { AppError } from '@penstock/domain/errors';

export function setEntityTag(reply: FastifyReply, version: number): void {
  void reply.header('etag', `"${version}"`);
}

/** Without If-Match a change is taken as it comes. Throws failed_precondition (412) when another was first. */
export function requireVersion(ifMatch: string | undefined, version: number): void {
  if (ifMatch === undefined || ifMatch.trim() === '*') return;
  const wanted = ifMatch.split(',').map((tag) => tag.trim());
  if (wanted.includes(`"${version}"`)) return;
  throw new AppError('failed_precondition', 'this was changed by somebody else meanwhile; read it again', {
    field: 'If-Match',
  });
}

/** What the decorator below runs; a route that has it takes If-Match (routes.ts). */
export const ifMatchOf = (_data: unknown, context: ExecutionContext): string | undefined =>
  context.switchToHttp().getRequest<FastifyRequest>().headers['if-match'];

/** The If-Match header of a change, undefined when there is none. */
export const IfMatch = createParamDecorator(ifMatchOf);
