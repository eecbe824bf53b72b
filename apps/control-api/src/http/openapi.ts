// The OpenAPI 3.1 document, made from the same routes and zod schemas that serve the requests: permission, answer and
// error codes of each route included. Pure; made once at the start.
import { z } from 'zod';
import { errorCodes, type ErrorCode } from '@penstock/domain/errors';
import { problem } from './fields.js';
import type { Route } from './routes.js';

type Json = Record<string, unknown>;

const PROBLEM = 'application/problem+json';

function jsonSchema(schema: z.ZodType, io: 'input' | 'output'): Json {
  const made: Json = { ...z.toJSONSchema(schema, { io, unrepresentable: 'any' }) };
  // The dialect is said once, by the version of the document.
  delete made['$schema'];
  return made;
}

/** Codes that a route may answer: its own, and those that come with what it declares. */
function codesOf(route: Route): ErrorCode[] {
  const { access, errors = [] } = route.declaration;
  const takesInput = route.body !== undefined || route.query !== undefined || route.params.length > 0;
  return [
    ...new Set<ErrorCode>([
      ...(takesInput ? (['invalid_input'] as const) : []),
      ...(route.body === undefined ? [] : (['payload_too_large', 'unsupported_media_type'] as const)),
      ...(access === 'public' ? [] : (['unauthenticated', 'forbidden'] as const)),
      ...errors,
      ...(['internal', 'unavailable'] as const),
    ]),
  ];
}

function responsesOf(route: Route): Json {
  const { reply, contentType = 'application/json' } = route.declaration;
  const good: Json = { description: 'Done' };
  if (reply !== undefined) good['content'] = { [contentType]: { schema: jsonSchema(reply, 'input') } };
  else if (contentType !== 'application/json')
    good['content'] = { [contentType]: { schema: { type: 'string' } } };
  const responses: Json = { [route.status]: good };
  const byStatus = Map.groupBy(codesOf(route), (code) => errorCodes[code][0]);
  for (const [status, codes] of [...byStatus].sort(([a], [b]) => a - b)) {
    responses[status] = {
      description: codes.join(', '),
      content: { [PROBLEM]: { schema: { $ref: '#/components/schemas/Problem' } } },
      'x-codes': codes,
    };
  }
  return responses;
}

function parametersOf(route: Route): Json[] {
  const parameters: Json[] = route.params.map(({ name, schema }) => {
    return { name, in: 'path', required: true, schema: jsonSchema(schema, 'input') };
  });
  if (route.query !== undefined) {
    const { properties = {}, required = [] } = jsonSchema(route.query, 'input') as {
      properties?: Record<string, Json>;
      required?: string[];
    };
    for (const [name, schema] of Object.entries(properties)) {
      parameters.push({ name, in: 'query', required: required.includes(name), schema });
    }
  }
  return parameters;
}

export function openApiDocument(routes: readonly Route[], serverUrl: string): Json {
  const paths: Record<string, Json> = {};
  for (const route of routes) {
    const { access, summary } = route.declaration;
    const path = route.path.replace(/:(\w+)/g, '{$1}');
    (paths[path] ??= {})[route.method.toLowerCase()] = {
      operationId: route.handler.replace('Controller.', '_'),
      summary,
      'x-permission': access,
      security: access === 'public' ? [] : [{ bearer: [] }],
      parameters: parametersOf(route),
      ...(route.body === undefined
        ? {}
        : {
            requestBody: {
              required: true,
              content: { 'application/json': { schema: jsonSchema(route.body, 'input') } },
            },
          }),
      responses: responsesOf(route),
    };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Penstock',
      version: '1',
      description: 'Bytes are decimal strings; times are RFC 3339 in UTC.',
    },
    servers: [{ url: serverUrl }],
    paths,
    components: {
      securitySchemes: { bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } },
      schemas: { Problem: jsonSchema(problem, 'input') },
    },
  };
}
