// The OpenAPI 3.1 document, made from the same routes and zod schemas that serve the requests: permission, headers,
// examples, answer and error codes of each route included. Pure; made once at the start. The client package and the
// reference page are made from it.
import { z } from 'zod';
import { errorCodes, type ErrorCode } from '@penstock/domain/errors';
import { keyMayHold } from '../permissions.js';
import { problem } from './fields.js';
import {
  componentsOf,
  jsonSchema,
  operationOf,
  pageItem,
  tagOf,
  type Components,
} from './openapi-components.js';
import { exampleIdOf, exampleOf, type Json } from './openapi-examples.js';
import { codeMeanings, headerTexts, introduction, tagMeanings } from './openapi-texts.js';
import { takesIdempotencyKey, type Route } from './routes.js';

const PROBLEM = 'application/problem+json';
const REQUEST_ID = '7c9e6679-7425-40de-944b-e07fc1f90ae7';
export const IDEMPOTENCY_KEY_MAX = 255;

type ObjectSchema = z.ZodObject<Record<string, z.ZodType>>;

/** Codes that a route may answer: its own, and those that come with what it declares. */
export function codesOf(route: Route): ErrorCode[] {
  const { access, errors = [], sensitive } = route.declaration;
  const known = (...codes: string[]): ErrorCode[] =>
    codes.filter((code): code is ErrorCode => Object.hasOwn(errorCodes, code));
  return [
    ...new Set<ErrorCode>([
      // Headers and query are input of every route.
      'invalid_input',
      ...(route.body === undefined ? [] : known('payload_too_large', 'unsupported_media_type')),
      ...(access === 'public' ? [] : known('unauthenticated', 'forbidden')),
      ...(sensitive === true ? known('address_not_allowed') : []),
      ...(route.ifMatch ? known('failed_precondition') : []),
      ...(takesIdempotencyKey(route) ? known('idempotency_mismatch', 'pending') : []),
      ...errors,
      ...known('rate_limited', 'internal', 'unavailable'),
    ]),
  ];
}

/** Paths whose object has a version: one of their routes takes If-Match. */
function versioned(routes: readonly Route[]): Set<string> {
  return new Set(routes.filter((route) => route.ifMatch).map((route) => route.path));
}

const headerRef = (...names: string[]): Json =>
  Object.fromEntries(names.map((name) => [name, { $ref: `#/components/headers/${name}` }]));

class Maker {
  readonly #components: Components;
  readonly #versioned: Set<string>;

  constructor(private readonly routes: readonly Route[]) {
    this.#components = componentsOf(routes, { Problem: problem });
    this.#versioned = versioned(routes);
  }

  document(serverUrl: string): Json {
    const paths: Record<string, Json> = {};
    for (const route of this.routes) {
      const path = route.path.replace(/:(\w+)/g, '{$1}');
      (paths[path] ??= {})[route.method.toLowerCase()] = this.#operation(route);
    }
    const tags = [...new Set(this.routes.map(tagOf))];
    return {
      openapi: '3.1.0',
      info: {
        title: 'Penstock',
        version: '1',
        description: introduction,
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      servers: [{ url: serverUrl }],
      tags: tags.map((name) => ({ name, description: tagMeanings[name] ?? name })),
      paths,
      components: {
        securitySchemes: {
          session: {
            ...{ type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
            description: 'Access token of a signed-in person, good for 15 minutes.',
          },
          key: {
            ...{ type: 'http', scheme: 'bearer', bearerFormat: 'pak1.…' },
            description: 'API key, or a machine token: no more than its scopes and its maker’s role allow.',
          },
        },
        headers: headers(),
        schemas: this.#components.schemas,
      },
    };
  }

  #operation(route: Route): Json {
    const { access, summary, sensitive, secret } = route.declaration;
    const { group, name } = operationOf(route);
    const isPage = pageItem(route.declaration.reply) !== undefined;
    return {
      operationId: `${group}_${name}`,
      tags: [tagOf(route)],
      summary,
      'x-permission': access,
      ...(sensitive === true ? { 'x-sensitive': true } : {}),
      ...(secret === true ? { 'x-secret-answer': true } : {}),
      ...(isPage ? { 'x-pagination': { cursor: 'cursor', items: 'items', next: 'nextCursor' } } : {}),
      security: securityOf(route),
      parameters: parametersOf(route),
      ...(route.body === undefined ? {} : { requestBody: this.#body(route, route.body) }),
      responses: this.#responses(route),
    };
  }

  #body(route: Route, body: z.ZodType): Json {
    const content: Json = { schema: this.#components.refOf(body) };
    const examples = bodyExamples(body);
    if (examples.length > 0) content['example'] = examples[0];
    // A body whose fields may all be left out may be left out itself.
    const required = !body.safeParse(undefined).success;
    return { required, content: { 'application/json': content } };
  }

  #responses(route: Route): Json {
    const { reply, contentType = 'application/json' } = route.declaration;
    const isVersioned = this.#versioned.has(route.path) && ['GET', 'PATCH', 'PUT'].includes(route.method);
    const good: Json = {
      description: reply === undefined && contentType === 'application/json' ? 'Done; no content' : 'Done',
      headers: headerRef('X-Request-ID', ...rateHeaders, ...(isVersioned ? ['ETag'] : [])),
    };
    if (reply !== undefined) {
      const schema = this.#components.refOf(reply);
      const example = replyExample(reply) ?? exampleOf(schema, this.#components.schemas);
      good['content'] = { [contentType]: { schema, example } };
    } else if (contentType !== 'application/json')
      good['content'] = { [contentType]: { schema: { type: 'string' } } };
    const responses: Json = { [route.status]: good };
    const byStatus = Map.groupBy(codesOf(route), (code) => errorCodes[code][0]);
    for (const [status, codes] of [...byStatus].sort(([a], [b]) => a - b)) {
      responses[status] = refusal(status, codes);
    }
    return responses;
  }
}

/** Limits of requests, on every answer (limits/). */
const rateHeaders = [
  'RateLimit-Policy',
  'RateLimit-Limit',
  'RateLimit-Remaining',
  'RateLimit-Reset',
] as const;

function headers(): Json {
  const texts: Record<string, string> = {
    ...headerTexts,
    'RateLimit-Policy': 'The limit that is nearest: requests, and `w`: the seconds in which they come back.',
    'RateLimit-Limit': 'Requests at once.',
    'RateLimit-Remaining': 'Requests that are left now.',
    'RateLimit-Reset': 'Seconds until all are back.',
  };
  return Object.fromEntries(
    Object.entries(texts).map(([name, description]) => [name, { description, schema: { type: 'string' } }]),
  );
}

function refusal(status: number, codes: ErrorCode[]): Json {
  const examples = codes.map((code) => [
    code,
    {
      value: {
        type: `urn:penstock:problem:${code}`,
        title: code.charAt(0).toUpperCase() + code.slice(1).replaceAll('_', ' '),
        ...{ status, code, detail: codeMeanings[code] ?? code },
        ...(code === 'invalid_input' ? { field: 'name' } : {}),
        request_id: REQUEST_ID,
      },
    },
  ]);
  const waits = status === 429 || status === 503 || codes.includes('pending');
  return {
    description: codes.map((code) => `\`${code}\`: ${codeMeanings[code] ?? code}`).join('\n\n'),
    headers: headerRef(
      ...['X-Request-ID', ...(status === 401 ? ['WWW-Authenticate'] : []), ...(waits ? ['Retry-After'] : [])],
    ),
    content: {
      [PROBLEM]: {
        schema: { $ref: '#/components/schemas/Problem' },
        examples: Object.fromEntries(examples) as Json,
      },
    },
    'x-codes': codes,
  };
}

function securityOf({ declaration: { access } }: Route): Json[] {
  if (access === 'public') return [];
  return access !== 'self' && keyMayHold(access) ? [{ session: [] }, { key: [] }] : [{ session: [] }];
}

/** Examples that a body schema brings (`.meta({ examples })`). */
export function bodyExamples(body: z.ZodType): unknown[] {
  return (z.globalRegistry.get(body)?.['examples'] as unknown[] | undefined) ?? [];
}

function replyExample(reply: z.ZodType): unknown {
  return bodyExamples(reply)[0];
}

function parametersOf(route: Route): Json[] {
  const parameters: Json[] = route.params.map(({ name, schema: zod }) => {
    const schema = jsonSchema(zod);
    const example = schema['format'] === 'uuid' ? exampleIdOf(name) : exampleOf(schema, {});
    return { name, in: 'path', required: true, schema, example };
  });
  if (route.query !== undefined) {
    const object = jsonSchema(route.query) as { properties?: Record<string, Json>; required?: string[] };
    const shape = route.query instanceof z.ZodObject ? (route.query as ObjectSchema).shape : {};
    for (const [name, schema] of Object.entries(object.properties ?? {})) {
      const description = queryTexts[name] ?? (shape[name]?.description as string | undefined);
      const required = object.required?.includes(name) ?? false;
      parameters.push({ name, in: 'query', required, schema, ...(description && { description }) });
    }
  }
  if (takesIdempotencyKey(route)) {
    parameters.push({
      ...{ name: 'Idempotency-Key', in: 'header', required: false, example: REQUEST_ID },
      description: 'Chosen by the caller: the same request sent again with it has one effect and one answer.',
      schema: { type: 'string', minLength: 1, maxLength: IDEMPOTENCY_KEY_MAX, pattern: '^[\\x21-\\x7e]+$' },
    });
  }
  if (route.ifMatch) {
    parameters.push({
      ...{ name: 'If-Match', in: 'header', required: false, schema: { type: 'string' }, example: '"7"' },
      description: 'ETag of the object as it was read; refused with 412 when it was changed since.',
    });
  }
  return parameters;
}

const queryTexts: Readonly<Record<string, string>> = {
  limit: 'Rows of a page, 1 to 200.',
  cursor: '`nextCursor` of the page before.',
};

export function openApiDocument(routes: readonly Route[], serverUrl: string): Json {
  return new Maker(routes).document(serverUrl);
}
