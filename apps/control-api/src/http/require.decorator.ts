// What a route declares about itself: who may call it, what it answers, how it refuses. The guard, the start check,
// the metrics and the OpenAPI document all read this one declaration.
import { SetMetadata, type CustomDecorator } from '@nestjs/common';
import type { ZodType } from 'zod';
import type { ErrorCode } from '@penstock/domain/errors';
import type { Permission } from '../permissions.js';

const KEY = Symbol('route declaration');

export interface Documentation {
  summary: string;
  /** Schema of the answer as it travels; left out: no content. */
  reply?: ZodType;
  /** Codes beyond those that every such route may answer. */
  errors?: readonly ErrorCode[];
  /** A `self` route that is open to a session of a tenant's own identity provider, too. */
  confined?: true;
  /** The answer is not JSON. */
  contentType?: string;
  /** Only from the addresses of the admin allow-list (http/allow-list.ts). */
  sensitive?: true;
  /** The answer shows a secret once: what is kept of it for a repeated Idempotency-Key is encrypted. */
  secret?: true;
  /** A mutation that takes no Idempotency-Key because repeating it is harmless by itself; says why. */
  withoutKey?: string;
}

export interface Declaration extends Documentation {
  /** `public`: nobody need be signed in. `self`: anybody who is, about himself. */
  access: Permission | 'public' | 'self';
}

/** The route needs this permission in the tenant of the token. */
export const Require = (permission: Permission, documentation: Documentation): CustomDecorator<symbol> =>
  SetMetadata(KEY, { ...documentation, access: permission } satisfies Declaration);

/** Anybody who is signed in, about himself only. */
export const Self = (documentation: Documentation): CustomDecorator<symbol> =>
  SetMetadata(KEY, { ...documentation, access: 'self' } satisfies Declaration);

/** Anybody at all. Each use is a decision: it carries its own limits. */
export const Public = (documentation: Documentation): CustomDecorator<symbol> =>
  SetMetadata(KEY, { ...documentation, access: 'public' } satisfies Declaration);

export function declarationOf(handler: object): Declaration | undefined {
  return Reflect.getMetadata(KEY, handler) as Declaration | undefined;
}
