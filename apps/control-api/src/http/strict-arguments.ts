// A route that declares no body takes none, and one that declares no query takes none: what nobody reads is not let
// through in silence. The last guard, so that a stranger learns nothing of it.
import { Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import type { FastifyRequest } from 'fastify';
import { AppError } from '@penstock/domain/errors';
import { RouteTable, type Route } from './routes.js';

@Injectable()
export class StrictArguments implements CanActivate {
  readonly #routes: ReadonlyMap<string, Route>;

  constructor({ routes }: RouteTable) {
    this.#routes = new Map(routes.map((route) => [`${route.method} ${route.path}`, route]));
  }

  canActivate(execution: ExecutionContext): boolean {
    const request = execution.switchToHttp().getRequest<FastifyRequest>();
    const route = this.#routes.get(`${request.method} ${request.routeOptions.url ?? ''}`);
    if (route === undefined) return true;
    if (route.body === undefined) refuseFields(request.body, 'the body');
    if (route.query === undefined) refuseFields(request.query, 'the query');
    return true;
  }
}

function refuseFields(given: unknown, where: string): void {
  if (given === undefined || given === null) return;
  const [field] = typeof given === 'object' && !Array.isArray(given) ? Object.keys(given) : [undefined];
  if (field !== undefined)
    throw new AppError('invalid_input', `${field}: unknown field`, { field: field.slice(0, 100) });
  if (typeof given !== 'object' || Array.isArray(given))
    throw new AppError('invalid_input', `${where} must be empty`);
}
