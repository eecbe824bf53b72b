// Who acts, in which tenant, over which request. Made by the access guard from the token and the database, never
// from a body or a header; every transaction and so every query of a store carries it.
import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import type { FastifyRequest } from 'fastify';
import { AppError } from '@penstock/domain/errors';
import type { AccountId, KeyId, TenantId } from '@penstock/domain/ids';
import type { Role } from '@penstock/domain/terms';
import type { Permission } from '../permissions.js';
import { clientAddress } from './client-address.js';

/** Where a request came from, as the audit log keeps it. */
export interface Origin {
  requestId: string;
  ip: string | null;
  userAgent: string | null;
  /** Trace that the request belongs to (W3C traceparent). */
  traceId?: string | null;
}

export interface Actor extends Origin {
  /** null: the product itself (first start, the local node). */
  accountId: AccountId | null;
  tenantId: TenantId;
  role: Role;
  /** True when the tenant is the operator's own. */
  platform: boolean;
  /** Family of the session that the token belongs to. */
  familyId: string | null;
  /** The session was opened by the tenant's own identity provider: what the account is elsewhere counts for nothing. */
  confined?: boolean;
  /** The API key or machine token that acts for its maker; null for a person with a session. */
  keyId: KeyId | null;
  /** What the key may do, within what its maker's role may; null: all of the role. */
  scopes: readonly Permission[] | null;
}

export interface ActingRequest extends FastifyRequest {
  actor?: Actor;
  origin?: Origin;
}

const USER_AGENT_MAX = 200;
const TRACEPARENT = /^[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}/;

export function originOf(request: ActingRequest): Origin {
  if (request.origin !== undefined) return request.origin;
  const agent = request.headers['user-agent'];
  return (request.origin = {
    requestId: request.id,
    ip: clientAddress(request.ip),
    userAgent: agent === undefined ? null : agent.slice(0, USER_AGENT_MAX),
    traceId: traceOf(request.headers['traceparent']),
  });
}

function traceOf(header: string | string[] | undefined): string | null {
  return typeof header === 'string' ? (TRACEPARENT.exec(header)?.[1] ?? null) : null;
}

/** The actor of a guarded route. */
export const ActorOf = createParamDecorator((_data: unknown, context: ExecutionContext): Actor => {
  const actor = context.switchToHttp().getRequest<ActingRequest>().actor;
  if (actor === undefined) throw new AppError('unauthenticated', 'sign in first');
  return actor;
});

/** Address, agent and id of the request of a public route. */
export const OriginOf = createParamDecorator((_data: unknown, context: ExecutionContext): Origin =>
  originOf(context.switchToHttp().getRequest<FastifyRequest>()),
);
