// The limits that every request meets: before it is looked at, of its address; once it is known who asks, of the
// account or key and of the tenant. Every answer says how the tightest of them stands (RateLimit-* headers).
import { Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import type { AppError } from '@penstock/domain/errors';
import { originOf, type ActingRequest, type Actor } from '../http/actor.js';
import { Limiter, refusal, type Verdict } from './limiter.js';
import { networkOf, siteOf } from './networks.js';
import { TenantLimits } from './tenant-limit.store.js';

/** A request with the tightest of its limits so far. */
interface Limited extends ActingRequest {
  verdict?: Verdict;
}

@Injectable()
export class RequestLimits implements CanActivate {
  constructor(
    private readonly limiter: Limiter,
    private readonly tenants: TenantLimits,
  ) {}

  /** Before anything else: the refusal or null at once while a lease lasts, else a promise that rejects with it. */
  ofAddress(request: Limited, reply: FastifyReply): AppError | null | Promise<void> {
    const { ip } = originOf(request);
    const site = siteOf(ip);
    const { limiter } = this;
    const one = limiter.take('address', networkOf(ip), limiter.limit('address'));
    if (site === null && !(one instanceof Promise)) return show(request, reply, one);
    const two = site === null ? undefined : limiter.take('network', site, limiter.limit('network'));
    return (async () => {
      for (const verdict of [await one, await two])
        if (verdict !== undefined) thrown(show(request, reply, verdict));
    })();
  }

  /** The guard after the one that says who asks. */
  canActivate(execution: ExecutionContext): boolean | Promise<boolean> {
    const http = execution.switchToHttp();
    const request = http.getRequest<Limited>();
    const { actor } = request;
    if (actor === undefined) return true;
    const reply = http.getResponse<FastifyReply>();
    const verdict = this.#ofActor(actor);
    if (verdict instanceof Promise)
      return verdict.then((taken) => {
        thrown(show(request, reply, taken));
        return this.#ofTenant(actor, request, reply);
      });
    thrown(show(request, reply, verdict));
    return this.#ofTenant(actor, request, reply);
  }

  /** A promise only while something has to be asked for. */
  #ofTenant(actor: Actor, request: Limited, reply: FastifyReply): boolean | Promise<boolean> {
    const limit = this.tenants.of(actor);
    if (limit === null) return true;
    return (async () => {
      const own = await limit;
      if (own !== null) thrown(show(request, reply, await this.limiter.take('tenant', actor.tenantId, own)));
      return true;
    })();
  }

  #ofActor({ keyId, accountId, tenantId }: Actor): Verdict | Promise<Verdict> {
    const { limiter } = this;
    if (keyId !== null) return limiter.take('api_key', keyId, limiter.limit('api_key'));
    return limiter.take('account', accountId ?? tenantId, limiter.limit('account'));
  }
}

/** Tells the verdict when it is the tightest; the refusal when it is one. */
function show(request: Limited, reply: FastifyReply, verdict: Verdict): AppError | null {
  const before = request.verdict;
  if (before === undefined || !verdict.granted || share(verdict) < share(before)) {
    request.verdict = verdict;
    const { burst, refillMs } = verdict.limit;
    void reply.headers({
      'ratelimit-policy': `${burst};w=${Math.ceil((burst * refillMs) / 1000)}`,
      'ratelimit-limit': String(burst),
      'ratelimit-remaining': String(verdict.remaining),
      'ratelimit-reset': String(Math.ceil(verdict.fullInMs / 1000)),
    });
  }
  return refusal(verdict);
}

function thrown(error: AppError | null): void {
  if (error !== null) throw error;
}

function share({ remaining, limit }: Verdict): number {
  return remaining / limit.burst;
}
