// The routes as data, read from the controllers before anything listens. A route without a declared permission is a
// fault of the program: the process does not start.
import { RequestMethod, type Type } from '@nestjs/common';
import {
  HTTP_CODE_METADATA,
  METHOD_METADATA,
  PATH_METADATA,
  ROUTE_ARGS_METADATA,
} from '@nestjs/common/constants';
import { RouteParamtypes } from '@nestjs/common/enums/route-paramtypes.enum';
import { z } from 'zod';
import { ifMatchOf } from './entity-tag.js';
import { declarationOf, type Declaration } from './require.decorator.js';

export interface Route {
  method: string;
  /** Template with `:name` for parameters, as Fastify reports it. */
  path: string;
  status: number;
  handler: string;
  declaration: Declaration;
  body?: z.ZodType;
  query?: z.ZodType;
  params: { name: string; schema: z.ZodType }[];
  /** Takes If-Match: an answer of the same path gives the version as ETag. */
  ifMatch: boolean;
}

/** A mutation that is made once however often it is sent with the same Idempotency-Key. */
export function takesIdempotencyKey({ method, declaration }: Pick<Route, 'method' | 'declaration'>): boolean {
  return method !== 'GET' && declaration.access !== 'public' && declaration.withoutKey === undefined;
}

/** What the start made of the controllers, for those who describe or count routes. */
export class RouteTable {
  constructor(readonly routes: readonly Route[]) {}
}

interface Argument {
  data?: unknown;
  schema?: unknown;
  factory?: unknown;
}

type Arguments = Pick<Route, 'body' | 'query' | 'params' | 'ifMatch'>;

/** All routes of these controllers. Throws for one that declares no permission. */
export function routesOf(controllers: readonly Type[]): Route[] {
  const routes: Route[] = [];
  for (const controller of controllers) {
    const base = String(Reflect.getMetadata(PATH_METADATA, controller) ?? '');
    for (const name of Object.getOwnPropertyNames(controller.prototype)) {
      const handler = (controller.prototype as Record<string, unknown>)[name];
      if (name === 'constructor' || typeof handler !== 'function') continue;
      if (!Reflect.hasMetadata(PATH_METADATA, handler)) continue;
      const declaration = declarationOf(handler);
      if (declaration === undefined) {
        throw new Error(`${controller.name}.${name} declares no permission: add @Require, @Self or @Public`);
      }
      const method = RequestMethod[Reflect.getMetadata(METHOD_METADATA, handler) as RequestMethod];
      const own = String(Reflect.getMetadata(PATH_METADATA, handler));
      const path = `/${base}/${own}`.replace(/\/+/g, '/').replace(/(.)\/$/, '$1');
      const status = Reflect.getMetadata(HTTP_CODE_METADATA, handler) as number | undefined;
      routes.push({
        method,
        path,
        status: status ?? (method === 'POST' ? 201 : 200),
        handler: `${controller.name}.${name}`,
        declaration,
        ...argumentsOf(controller, name),
      });
    }
  }
  return routes;
}

function argumentsOf(controller: Type, name: string): Arguments {
  const found: Arguments = { params: [], ifMatch: false };
  const all = (Reflect.getMetadata(ROUTE_ARGS_METADATA, controller, name) ?? {}) as Record<string, Argument>;
  for (const [key, { data, schema, factory }] of Object.entries(all)) {
    if (factory === ifMatchOf) found.ifMatch = true;
    const kind = Number(key.split(':')[0]);
    if (![RouteParamtypes.BODY, RouteParamtypes.QUERY, RouteParamtypes.PARAM].includes(kind)) continue;
    if (!(schema instanceof z.ZodType))
      throw new Error(`${controller.name}.${name} takes an argument without a schema`);
    if (kind === RouteParamtypes.BODY) found.body = schema;
    else if (kind === RouteParamtypes.QUERY) found.query = schema;
    else found.params.push({ name: String(data), schema });
  }
  return found;
}
