// V18: no schema of an answer has a place for a private key, a token or a hash, except where one is made and shown once.
import { describe, expect, test } from 'vitest';
import { controllers } from '../../apps/control-api/src/app.module.js';
import { openApiDocument } from '../../apps/control-api/src/http/openapi.js';
import { routesOf, type Route } from '../../apps/control-api/src/http/routes.js';

type Schema = Record<string, unknown>;
const SECRET =
  /(secret|token|password|hash|privatekey|private_key|recovery|seed|psk|presharedkey|cookie|apikey|^key$|^code$|^codes$)/i;
/** Words that only sound like one. */
const harmless = new Set([
  ...[
    'hasPrivateKey',
    'hasPassword',
    'keyHash',
    'joinTokenId',
    'recoveryCodesLeft',
    'recoveryCodes',
    'passwordSet',
  ],
  ...['prevHash', 'hash', 'wrongSeq', 'key', 'code', 'minPasswordLength', 'hasSecret'],
]);
/** Answers of reads that are what the route is for: who may read them is a permission of its own. */
const given = ['subscription.secret.read'];

const routes = routesOf(controllers);
const document = openApiDocument(routes, 'https://penstock.example.org') as unknown as {
  components: { schemas: Record<string, Schema> };
  paths: Record<
    string,
    Record<string, { responses: Record<string, { content?: Record<string, { schema: Schema }> }> }>
  >;
};

/** Names of all fields that a schema can hold. */
function fieldsOf(schema: Schema, seen = new Set<string>()): string[] {
  if (typeof schema['$ref'] === 'string') {
    const name = schema['$ref'].split('/').at(-1) ?? '';
    if (seen.has(name)) return [];
    seen.add(name);
    return fieldsOf(document.components.schemas[name] ?? {}, seen);
  }
  const own = Object.entries((schema['properties'] ?? {}) as Record<string, Schema>);
  const parts = ['anyOf', 'oneOf', 'allOf'].flatMap((key) => (schema[key] ?? []) as Schema[]);
  const items = schema['items'] === undefined ? [] : [schema['items'] as Schema];
  return [
    ...own.flatMap(([name, property]) => [name, ...fieldsOf(property, seen)]),
    ...[...parts, ...items].flatMap((part) => fieldsOf(part, seen)),
  ];
}

function answerFields(route: Route): string[] {
  const path = document.paths[route.path.replace(/:(\w+)/g, '{$1}')]?.[route.method.toLowerCase()];
  const content = Object.values(path?.responses[String(route.status)]?.content ?? {});
  return content.flatMap(({ schema }) => fieldsOf(schema));
}

const guarded = routes.filter(({ declaration: { access } }) => access !== 'public');

describe('V18 secrets are written and not read', () => {
  test.each(guarded.map((route) => [`${route.method} ${route.path}`, route] as const))(
    '%s answers no secret unless it says that it shows one once',
    (_name, route) => {
      const { access, secret } = route.declaration;
      if (secret === true || given.includes(access)) return;
      // A new access token for the same session, or the like, is what the signing-in routes are for.
      if (route.path.startsWith('/api/v1/auth/')) return;
      const found = answerFields(route).filter((name) => SECRET.test(name) && !harmless.has(name));
      expect(found, 'mark the route `secret: true`, or take the field out of the answer').toEqual([]);
    },
  );

  test('no read shows a secret: what shows one is a mutation', () => {
    const reads = guarded.filter((route) => route.method === 'GET' && route.declaration.secret === true);
    expect(reads.map((route) => route.path)).toEqual([]);
  });
});
