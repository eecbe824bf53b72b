// The named schemas of the document: what several routes answer or take has one name, by the noun that it is. Pure.
import { z } from 'zod';
import type { Json } from './openapi-examples.js';
import type { Route } from './routes.js';

const PREFIX = '#/components/schemas/';
/** Said by their format; the expressions behind them are a screen long. */
const FORMATS = ['date-time', 'uuid', 'guid', 'email', 'date'];

export interface Components {
  /** Name → JSON schema. */
  schemas: Record<string, Json>;
  /** The reference to a schema that a route answers or takes. */
  refOf(schema: z.ZodType): Json;
}

/** `NodeGroupsController` → `Node groups`. */
export function tagOf(route: Route): string {
  const words = wordsOf(route.handler.split('Controller.')[0] ?? '');
  const spelt = words
    .replace(/\b(api|totp|jwks|oidc)\b/g, (word) => word.toUpperCase())
    .replace('open API', 'OpenAPI');
  return spelt.charAt(0).toUpperCase() + spelt.slice(1);
}

/** `nodeGroups.addNode`: the tag's name and the handler's, as the client calls them. */
export function operationOf(route: Route): { group: string; name: string } {
  const [controller = '', name = ''] = route.handler.split('Controller.');
  return { group: controller.charAt(0).toLowerCase() + controller.slice(1), name };
}

function wordsOf(pascal: string): string {
  return pascal.replace(/(?<=[a-z0-9])[A-Z]/g, (letter) => ` ${letter}`).toLowerCase();
}

function nounOf(route: Route): string {
  const plural = route.handler.split('Controller.')[0] ?? '';
  if (plural.endsWith('ies')) return `${plural.slice(0, -3)}y`;
  return plural.endsWith('s') && !plural.endsWith('ss') ? plural.slice(0, -1) : plural;
}

const pascal = (name: string): string => name.charAt(0).toUpperCase() + name.slice(1);

/** A list's row schema; undefined for what is no page. */
export function pageItem(reply: z.ZodType | undefined): z.ZodType | undefined {
  if (!(reply instanceof z.ZodObject) || !('nextCursor' in reply.shape)) return undefined;
  const { items } = reply.shape as Record<string, unknown>;
  return items instanceof z.ZodArray ? (items.element as z.ZodType) : undefined;
}

/** JSON schema of something that has no name of its own: a query, a path parameter. */
export function jsonSchema(schema: z.ZodType): Json {
  const made: Json = { ...z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any', override: plain }) };
  // The dialect is said once, by the version of the document.
  delete made['$schema'];
  return made;
}

function plain({ jsonSchema: made }: { jsonSchema: object }): void {
  const schema = made as Json;
  if (FORMATS.includes(String(schema['format']))) delete schema['pattern'];
  if (schema['format'] === 'guid') schema['format'] = 'uuid';
  // zod's bound of every integer; ours are said where they are ours.
  if (schema['maximum'] === Number.MAX_SAFE_INTEGER) delete schema['maximum'];
  if (schema['minimum'] === Number.MIN_SAFE_INTEGER) delete schema['minimum'];
}

export function componentsOf(routes: readonly Route[], also: Record<string, z.ZodType>): Components {
  const names = new Map<z.ZodType, string>();
  const taken = new Set<string>();
  const give = (schema: z.ZodType | undefined, ...wanted: string[]): void => {
    if (schema === undefined || names.has(schema)) return;
    const own = z.globalRegistry.get(schema)?.id;
    const name = [...(own === undefined ? [] : [own]), ...wanted].find((each) => !taken.has(each));
    if (name === undefined) throw new Error(`no name is left for a schema: ${wanted.join(', ')}`);
    names.set(schema, name);
    taken.add(name);
  };
  for (const [name, schema] of Object.entries(also)) give(schema, name);
  // First what is a noun by itself, then what only one route speaks of.
  for (const route of routes) {
    const noun = nounOf(route);
    const { reply } = route.declaration;
    const item = pageItem(reply);
    const own = `${noun}${pascal(operationOf(route).name)}`;
    if (item !== undefined) {
      give(item, noun, `${own}Item`);
      give(reply, `${names.get(item) ?? own}Page`, `${own}Page`);
    } else if (
      route.method === 'GET' &&
      route.path.endsWith(`:${noun.charAt(0).toLowerCase()}${noun.slice(1)}Id`)
    ) {
      give(reply, noun, `${own}Reply`);
    }
  }
  for (const route of routes) {
    const noun = nounOf(route);
    const own = `${noun}${pascal(operationOf(route).name)}`;
    if (
      route.method === 'POST' &&
      !/:\w+\/[^/]+$/.test(route.path) &&
      ['create', 'register'].includes(operationOf(route).name)
    ) {
      give(route.declaration.reply, noun, `${own}Reply`);
      give(route.body, `New${noun}`, `${own}Body`);
    }
    if (route.method === 'PATCH') give(route.body, `${noun}Change`, `${own}Body`);
    give(route.declaration.reply, `${own}Reply`);
    give(route.body, `${own}Body`);
  }
  const registry = z.registry<{ id: string }>();
  for (const [schema, id] of names) registry.add(schema, { id });
  const { schemas: made } = z.toJSONSchema(registry, {
    ...{ io: 'input', unrepresentable: 'any', override: plain },
    uri: (name) => `${PREFIX}${name}`,
  });
  return { schemas: cleaned(made), refOf: (schema) => ({ $ref: `${PREFIX}${names.get(schema) ?? ''}` }) };
}

function cleaned(made: Record<string, object>): Record<string, Json> {
  // Schemas with an id of their own that no route speaks of stand apart; here they are named like all others.
  const text = JSON.stringify(made).replaceAll(`${PREFIX}__shared#/$defs/`, PREFIX);
  const { __shared: shared, ...own } = JSON.parse(text) as Record<string, Json>;
  const all = { ...own, ...((shared?.['$defs'] ?? {}) as Record<string, Json>) };
  for (const schema of Object.values(all)) {
    for (const key of ['$schema', '$id', 'id']) delete schema[key];
  }
  return Object.fromEntries(Object.entries(all).sort(([a], [b]) => a.localeCompare(b)));
}
