// V44: a number is taken exactly or refused. Every numeric field of every body and query, found by the schemas, is asked
// with values that other programs round, wrap or read as something else.
import { afterAll, describe, expect, test } from 'vitest';
import { controllers } from '../../apps/control-api/src/app.module.js';
import { jsonSchema } from '../../apps/control-api/src/http/openapi-components.js';
import { routesOf, type Route } from '../../apps/control-api/src/http/routes.js';
import { idsOf, request } from '../../apps/control-api/test/attacks.js';
import { scene, type Scene } from '../../apps/control-api/test/scene.js';
import { createWorld } from '../../apps/control-api/test/world.js';

type Schema = Record<string, unknown> & { properties?: Record<string, Schema>; anyOf?: Schema[] };

const routes = routesOf(controllers).filter((route) => route.declaration.access !== 'public');

const isNumber = (schema: Schema): boolean =>
  schema['type'] === 'integer' || schema['type'] === 'number' || (schema.anyOf ?? []).some(isNumber);
/** Bytes travel as decimal strings. */
const isDecimal = (schema: Schema): boolean =>
  String(schema['pattern'] ?? '').includes('[0-9]{0,18}') || (schema.anyOf ?? []).some(isDecimal);

const fieldsOf = (schema: Route['body'], fits: (schema: Schema) => boolean): string[] =>
  schema === undefined
    ? []
    : Object.entries((jsonSchema(schema) as Schema).properties ?? {})
        .filter(([, property]) => fits(property))
        .map(([name]) => name);

/** As they stand in the JSON, since most of them are no number of JavaScript. */
const literals = [
  ...[
    '-1',
    '0',
    '-0',
    '0.5',
    '1.5',
    '1e400',
    '-1e400',
    '1e-400',
    'NaN',
    'Infinity',
    '-Infinity',
    '"1"',
    '"0x10"',
  ],
  ...['2147483647', '2147483648', '4294967296', '9007199254740991', '9007199254740992', '9007199254740993'],
  ...[
    '9223372036854775807',
    '9223372036854775808',
    '18446744073709551616',
    '1e20',
    '00',
    '01',
    '+1',
    '1.',
    '.5',
  ],
  ...['0x10', '1_000', 'null', 'true', '[]', '[1]', '{}', '""', '1.0000000000000001', '1n', '١'],
];
const decimals = [
  ...[
    '-1',
    '-0',
    '00',
    '01',
    '+1',
    '1.0',
    '1e3',
    '0x10',
    ' 1',
    '1 ',
    '',
    'NaN',
    'Infinity',
    '1_000',
    '1,000',
    '١',
  ],
  ...['9223372036854775808', '18446744073709551616', '9'.repeat(400)],
];

describe('V44 numbers', async () => {
  const world = await createWorld();
  const own: Scene = await scene(world, await world.person(await world.tenant(), 'owner'));
  afterAll(() => world.close());
  const ids = idsOf(own);

  const cases = routes.flatMap((route) =>
    fieldsOf(route.body, isNumber).map((field) => [`${route.method} ${route.path}`, field, route] as const),
  );
  const byteCases = routes.flatMap((route) =>
    fieldsOf(route.body, isDecimal).map((field) => [`${route.method} ${route.path}`, field, route] as const),
  );
  const queryCases = routes.flatMap((route) =>
    fieldsOf(
      route.query,
      (schema) => isNumber(schema) || String(schema['pattern'] ?? '').includes('[0-9]'),
    ).map((field) => [`${route.method} ${route.path}`, field, route] as const),
  );

  test('there are numbers to ask for', () => {
    expect(cases.length).toBeGreaterThan(5);
    expect(byteCases.length).toBeGreaterThan(1);
  });

  test.each(cases)('%s %s: 400, or the very number that was written [R3-13]', async (_name, field, route) => {
    const { method, path, body } = request(route, ids, ids);
    for (const literal of literals) {
      const rest = Object.fromEntries(Object.entries(body ?? {}).filter(([name]) => name !== field));
      const others = JSON.stringify(rest).slice(1, -1);
      const text = `{${others === '' ? '' : `${others},`}"${field}":${literal}}`;
      const answer = await world.ask(method, path, { as: own.admin, body: text });
      expect(answer.status, `${literal} ${answer.text.slice(0, 200)}`).toBeLessThan(500);
      if (answer.status < 300 && field in answer.body) {
        const kept = (answer.body as Record<string, unknown>)[field];
        expect(String(kept), literal).toBe(literal === '-0' ? '0' : literal);
      }
      if (
        /^(NaN|-?Infinity|".*|0x.*|1_000|1n|00|01|\+1|1\.|\.5|١|\[.*|\{\}|true|-?1e400|.*54740993|.*775808|0\.5)$/.test(
          literal,
        )
      )
        expect(answer.status, `${literal} ${answer.text.slice(0, 200)}`).toBeGreaterThanOrEqual(400);
    }
  });

  test.each(byteCases)(
    '%s %s: bytes are decimal strings up to 2^63-1, nothing else',
    async (_name, field, route) => {
      const { method, path, body } = request(route, ids, ids);
      for (const value of [...decimals, 1, 1.5, -1, true, [], {}, ['1']]) {
        const answer = await world.ask(method, path, { as: own.admin, body: { ...body, [field]: value } });
        if (answer.body['code'] === 'forbidden') return;
        expect(answer.body, JSON.stringify(value)).toMatchObject({ status: 400, code: 'invalid_input' });
      }
    },
  );

  test.each(queryCases)('%s ?%s: 400 for what is no plain number', async (_name, field, route) => {
    const { method, path } = request(route, ids, ids);
    // A position may be written with zeros in front: it is the same position.
    for (const value of [
      ...decimals.filter((one) => !/^0\d/.test(one)),
      '-5',
      '1e400',
      '0.5',
      'null',
      '[]',
    ]) {
      const glue = path.includes('?') ? '&' : '?';
      const answer = await world.ask(method, `${path}${glue}${field}=${encodeURIComponent(value)}`, {
        as: own.admin,
      });
      if (answer.body['code'] === 'forbidden') return;
      expect(answer.body, value).toMatchObject({ status: 400, code: 'invalid_input' });
    }
  });
});
