// An example for every answer, made from its schema where the schema brings none: ids by the noun that the field names,
// so that a reader sees which answer's id goes into which path.
import { exampleIds } from './example-ids.js';

export type Json = Record<string, unknown>;

const OTHER_ID = '01890a5d-ac96-774b-bcce-b302099a80ff';
const DEPTH_MAX = 12;

/** Fields whose text has a form that the schema cannot say. */
const texts: Readonly<Record<string, string>> = {
  name: 'Frankfurt',
  displayName: 'Alex Example',
  email: 'alex@example.org',
  address: 'fra-1.example.net',
  timeZone: 'Europe/Berlin',
  detail: 'name: must not be empty',
  title: 'Invalid input',
  type: 'urn:penstock:problem:invalid_input',
  field: 'name',
  agentVersion: '0.1.0',
};

/** The id that a field called `planId` or `planIds` stands for. */
export function exampleIdOf(field: string): string {
  const noun = field.replace(/Ids?$/, '');
  return Object.hasOwn(exampleIds, noun) ? exampleIds[noun as keyof typeof exampleIds] : OTHER_ID;
}

/** A value that fits `schema`; `components` resolves its references. */
export function exampleOf(schema: Json, components: Readonly<Record<string, Json>>): unknown {
  return sample(schema, '', components, 0);
}

function sample(
  schema: Json,
  field: string,
  components: Readonly<Record<string, Json>>,
  depth: number,
): unknown {
  if (depth > DEPTH_MAX) return null;
  const inner = (next: Json, name = field): unknown => sample(next, name, components, depth + 1);
  if (typeof schema['$ref'] === 'string') {
    const target = components[schema['$ref'].replace('#/components/schemas/', '')];
    return target === undefined ? null : inner(target);
  }
  const given = [schema['examples'], schema['enum']].find(Array.isArray) as unknown[] | undefined;
  if (given !== undefined) return given[0];
  for (const key of ['const', 'default']) if (key in schema) return schema[key];
  const choices = (schema['anyOf'] ?? schema['oneOf']) as Json[] | undefined;
  if (choices !== undefined) return inner(choices.find((choice) => choice['type'] !== 'null') ?? {});
  const merged = schema['allOf'] as Json[] | undefined;
  if (merged !== undefined) return Object.assign({}, ...merged.map((part) => inner(part)));
  const type = Array.isArray(schema['type']) ? (schema['type'] as string[])[0] : schema['type'];
  switch (type) {
    case 'object':
      return Object.fromEntries(
        Object.entries((schema['properties'] ?? {}) as Record<string, Json>).map(([name, property]) => [
          name,
          inner(property, name),
        ]),
      );
    case 'array':
      return [inner((schema['items'] ?? {}) as Json)];
    case 'string':
      return text(schema, field);
    case 'integer':
    case 'number':
      return Math.max(1, Number(schema['minimum'] ?? 1));
    case 'boolean':
      return true;
    default:
      return null;
  }
}

function text(schema: Json, field: string): string {
  switch (schema['format']) {
    case 'uuid':
    case 'guid':
      return exampleIdOf(field);
    case 'date-time':
      return '2026-01-31T12:00:00.000Z';
    case 'email':
      return 'alex@example.org';
    case 'uri':
      return 'https://example.org/';
  }
  const pattern = typeof schema['pattern'] === 'string' ? schema['pattern'] : undefined;
  const guess = texts[field] ?? (/Id$/.test(field) ? exampleIdOf(field) : 'text');
  return pattern === undefined ? guess : fitting(pattern, guess);
}

/** A text that the expression takes: the guess, a number, or the prefix and run of letters that a token's form is. */
function fitting(pattern: string, guess: string): string {
  const [, prefix = '', run = ''] = /^\^((?:[A-Za-z0-9]|\\\.)*)\[[^\]]+\]\{(\d+)/.exec(pattern) ?? [];
  const token = prefix.replaceAll('\\', '') + 'x'.repeat(Number(run));
  const known = [guess, '1073741824', token, '2026-01', '2026-01-31', 'a'.repeat(64)];
  return known.find((each) => new RegExp(pattern, 'u').test(each)) ?? guess;
}
