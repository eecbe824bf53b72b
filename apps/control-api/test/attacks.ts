// The attack matrix as data, made from the router: for each route the requests that aim at somebody else's objects, in
// the path, in the body and in the query, each place own or foreign. Bodies are the examples of the routes' own schemas
// with the example ids replaced by a scene's; a new noun needs no edit here, only an example and an object in the scene.
import { exampleIds } from '../src/http/example-ids.js';
import { jsonSchema } from '../src/http/openapi-components.js';
import { bodyExamples } from '../src/http/openapi.js';
import { exampleOf } from '../src/http/openapi-examples.js';
import type { Route } from '../src/http/routes.js';
import type { Scene } from './scene.js';
import { ABSENT, type World } from './world.js';

/** `planId` → an id. */
export type Ids = Readonly<Record<string, string>>;

/** A place of a request that names an object: `path.planId`, `body.nodeId`, `query.planId`. */
type Place = `${'path' | 'body' | 'query'}.${string}`;

export interface Attack {
  method: string;
  path: string;
  body: object | undefined;
  /** Places that name the other's object. */
  aimed: Place[];
}

/** All ids of a scene by the names of path parameters. */
export function idsOf({ admin, ...ids }: Scene): Ids {
  return {
    ...ids,
    ...{ tenantId: admin.tenantId, accountId: admin.accountId, sessionId: admin.familyId },
    // What an audit row is about.
    entityId: ids.subscriptionId,
  };
}

/** Ids of the same names that are nobody's. */
export function absentIds(ids: Ids): Ids {
  return Object.fromEntries(Object.keys(ids).map((name) => [name, ABSENT]));
}

const isId = (schema: ReturnType<typeof jsonSchema>): boolean =>
  schema['format'] === 'uuid' ||
  (schema['anyOf'] as { format?: string }[] | undefined)?.some((one) => one.format === 'uuid') === true;

/** Names of a route's path parameters that are ids. */
function pathIds(route: Route): string[] {
  return route.params.filter(({ schema }) => isId(jsonSchema(schema))).map(({ name }) => name);
}

/** Names of the ids that the example of a route's body holds. */
function bodyIds(route: Route): string[] {
  const text = JSON.stringify(exampleBody(route) ?? null);
  return Object.entries(exampleIds)
    .filter(([, id]) => text.includes(id))
    .map(([noun]) => `${noun}Id`);
}

function queryIds(route: Route): string[] {
  if (route.query === undefined) return [];
  const { properties = {} } = jsonSchema(route.query) as {
    properties?: Record<string, ReturnType<typeof jsonSchema>>;
  };
  return Object.entries(properties)
    .filter(([name, schema]) => name !== 'cursor' && isId(schema))
    .map(([name]) => name);
}

/** The example of a route's body. Throws, naming the route, when its schema brings none. */
export function exampleBody(route: Route): object | undefined {
  if (route.body === undefined) return undefined;
  const [example] = bodyExamples(route.body);
  if (example === undefined) throw new Error(`${route.handler}: give its body .meta({ examples: […] })`);
  return example as object;
}

function idFor(route: Route, ids: Ids, name: string): string {
  // Two nouns may call their id alike: `machine-tokens.keyId` before `keyId`.
  const folder = /([a-z-]+)\/:[a-zA-Z]+/.exec(route.path)?.[1] ?? '';
  const id = ids[`${folder}.${name}`] ?? ids[name];
  if (id === undefined)
    throw new Error(`${route.method} ${route.path}: the scene has no ${name} (test/scene.ts)`);
  return id;
}

/** Every request of `route` in which at least one place names the other's object and the rest one's own. */
export function attacks(route: Route, own: Ids, other: Ids): Attack[] {
  const places: Place[] = [
    ...pathIds(route).map((name): Place => `path.${name}`),
    ...bodyIds(route).map((name): Place => `body.${name}`),
    ...queryIds(route).map((name): Place => `query.${name}`),
  ];
  // All foreign, and each one alone foreign among own ones.
  const sets = places.length === 1 ? [places] : [places, ...places.map((place) => [place])];
  return places.length === 0 ? [] : sets.map((aimed) => request(route, own, other, aimed));
}

/** The request of `route` whose `aimed` places name objects of `other`. */
export function request(route: Route, own: Ids, other: Ids, aimed: Place[] = []): Attack {
  const pick = (place: Place, name: string): string =>
    idFor(route, aimed.includes(place) ? other : own, name);
  const path = route.path.replace(/:(\w+)/g, (_match, name: string) => {
    if (pathIds(route).includes(name)) return pick(`path.${name}`, name);
    const schema = route.params.find((param) => param.name === name)?.schema;
    return schema === undefined ? name : encodeURIComponent(String(exampleOf(jsonSchema(schema), {})));
  });
  let text = JSON.stringify(exampleBody(route) ?? null);
  for (const name of bodyIds(route)) {
    const noun = name.slice(0, -2) as keyof typeof exampleIds;
    text = text.replaceAll(exampleIds[noun], pick(`body.${name}`, name));
  }
  const body = JSON.parse(text) as object | null;
  const query = new URLSearchParams(requiredQuery(route));
  for (const place of aimed) {
    const name = place.slice('query.'.length);
    if (place.startsWith('query.')) query.set(name, idFor(route, other, name));
  }
  return {
    ...{ method: route.method, path: query.size > 0 ? `${path}?${query}` : path },
    ...{ body: body ?? undefined, aimed },
  };
}

/** What a route's query must hold, from its schema. */
function requiredQuery(route: Route): Record<string, string> {
  if (route.query === undefined) return {};
  const schema = jsonSchema(route.query) as { properties?: Record<string, object>; required?: string[] };
  const [example] = bodyExamples(route.query) as Record<string, unknown>[];
  const value = (name: string): unknown =>
    example?.[name] ?? exampleOf((schema.properties?.[name] ?? {}) as Record<string, unknown>, {});
  return Object.fromEntries((schema.required ?? []).map((name) => [name, String(value(name))]));
}

interface Column {
  table: string;
  column: string;
}

/** Which column of a table says whose a row is: the first that it has. */
const owners = [
  'tenant_id',
  'owner_tenant_id',
  'account_id',
  'subscription_id',
  'node_id',
  'node_group_id',
  'device_id',
];

/**
 * Every row in the database that is somebody's, as one text: equal before and after when nothing of his was changed.
 * Tables come from the catalog, so that a new one is watched by itself.
 */
export async function fingerprint(world: World, ids: Ids): Promise<string> {
  const tables = await watched(world);
  const values: Record<string, string | undefined> = {
    ...{ tenant_id: ids['tenantId'], owner_tenant_id: ids['tenantId'], account_id: ids['accountId'] },
    ...{ node_id: ids['nodeId'], node_group_id: ids['nodeGroupId'], device_id: ids['deviceId'] },
    subscription_id: ids['subscriptionId'],
  };
  const parts = tables.map(
    ({ table, column }) =>
      `SELECT '${table}' AS name, md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) AS hash
         FROM "${table}" t WHERE "${column}"::text = '${values[column] ?? ABSENT}'`,
  );
  const rows = await world.sql<{ name: string; hash: string }>(parts.join(' UNION ALL '));
  return rows
    .map(({ name, hash }) => `${name} ${hash}`)
    .sort()
    .join('\n');
}

const known = new WeakMap<World, Promise<Column[]>>();

function watched(world: World): Promise<Column[]> {
  let found = known.get(world);
  if (found === undefined) {
    found = world
      .sql<{ table: string; columns: string[] }>(
        `SELECT c.relname AS table, array_agg(a.attname::text) AS columns
           FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
          GROUP BY c.relname`,
      )
      .then((rows) =>
        rows.flatMap(({ table, columns }) => {
          const column = owners.find((owner) => columns.includes(owner));
          return column === undefined ? [] : [{ table, column }];
        }),
      );
    known.set(world, found);
  }
  return found;
}
