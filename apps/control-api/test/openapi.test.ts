// The OpenAPI document: valid by the meta-schema of OpenAPI 3.1, the same as the router, and complete: every route says
// what it takes, answers, refuses and needs, with an example that is true.
import { validate } from '@hyperjump/json-schema/openapi-3-1';
import { expect, test } from 'vitest';
import { controllers } from '../src/app.module.js';
import { bodyExamples, codesOf, openApiDocument } from '../src/http/openapi.js';
import { codeMeanings, tagMeanings } from '../src/http/openapi-texts.js';
import { routesOf, takesIdempotencyKey, type Route } from '../src/http/routes.js';

interface Operation {
  operationId: string;
  summary: string;
  tags: string[];
  'x-permission': string;
  security: object[];
  parameters: { name: string; in: string; schema: object; description?: string }[];
  requestBody?: { content: Record<string, { schema: { $ref: string }; example?: unknown }> };
  responses: Record<string, Response>;
}
interface Response {
  description: string;
  headers: Record<string, { $ref: string }>;
  content?: Record<string, { schema: { $ref?: string }; example?: unknown }>;
}

const routes = routesOf(controllers);
const document = openApiDocument(routes, 'https://penstock.example.org') as {
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, object>; headers: Record<string, object> };
};
const operations = routes.map((route): [string, Route, Operation] => {
  const operation = document.paths[route.path.replace(/:(\w+)/g, '{$1}')]?.[route.method.toLowerCase()];
  if (operation === undefined) throw new Error(`${route.handler} is not described`);
  return [`${route.method} ${route.path}`, route, operation];
});

test('the document is valid by the meta-schema of OpenAPI 3.1, its schemas by their dialect', async () => {
  const output = await validate('https://spec.openapis.org/oas/3.1/schema-base', document as never, 'BASIC');
  expect(output).toMatchObject({ valid: true });
});

test('every reference in it leads somewhere', () => {
  const known = new Set(
    Object.entries(document.components).flatMap(([kind, members]) =>
      Object.keys(members).map((name) => `#/components/${kind}/${name}`),
    ),
  );
  const used = [...JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)].map(([, ref]) => ref ?? '');
  expect(used.filter((ref) => !known.has(ref))).toEqual([]);
});

test('every operation has a name of its own, a tag that is explained, and says who may call it', () => {
  const names = operations.map(([, , operation]) => operation.operationId);
  expect(new Set(names).size).toBe(names.length);
  for (const [name, route, operation] of operations) {
    expect(tagMeanings[operation.tags[0] ?? ''], `${name}: ${operation.tags[0]}`).toBeDefined();
    expect(operation['x-permission'], name).toBe(route.declaration.access);
    expect(operation.security.length > 0, name).toBe(route.declaration.access !== 'public');
    expect(operation.summary.length, name).toBeGreaterThan(3);
  }
});

test('every code that a route may answer is explained', () => {
  const codes = new Set(routes.flatMap(codesOf));
  expect([...codes].filter((code) => codeMeanings[code] === undefined)).toEqual([]);
});

test('mutations take Idempotency-Key, changes of what has a version If-Match', () => {
  for (const [name, route, operation] of operations) {
    const headers = operation.parameters.filter((each) => each.in === 'header').map((each) => each.name);
    const expected = [
      ...(takesIdempotencyKey(route) ? ['Idempotency-Key'] : []),
      ...(route.ifMatch ? ['If-Match'] : []),
    ];
    expect(headers, name).toEqual(expected);
  }
});

test.each(operations.filter(([, route]) => route.body !== undefined))(
  '%s: its body has an example, and the route’s own schema takes it',
  (_name, route, operation) => {
    const body = route.body;
    if (body === undefined) throw new Error('no body');
    expect(bodyExamples(body).length, 'give the schema .meta({ examples: […] })').toBeGreaterThan(0);
    for (const example of bodyExamples(body)) {
      const parsed = body.safeParse(example);
      expect(parsed.error?.message).toBeUndefined();
    }
    expect(operation.requestBody?.content['application/json']?.example).toEqual(bodyExamples(body)[0]);
  },
);

test.each(operations.filter(([, route]) => route.declaration.reply !== undefined))(
  '%s: the example of its answer fits the schema of its answer',
  (name, route, operation) => {
    const [content] = Object.values(operation.responses[String(route.status)]?.content ?? {});
    expect(content?.example, name).toBeDefined();
    const parsed = route.declaration.reply?.safeParse(content?.example);
    expect(parsed?.error?.message, JSON.stringify(content?.example)).toBeUndefined();
  },
);
