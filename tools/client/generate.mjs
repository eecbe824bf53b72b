// packages/client/src/gen/api.ts: the typed methods of the API, made from the OpenAPI document of the built control-api.
// `node tools/client/generate.mjs` writes it; with --check it writes nothing and fails when the file is another.
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { format } from 'prettier';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const file = join(root, 'packages', 'client', 'src', 'gen', 'api.ts');
const built = (path) => import(join(root, 'apps', 'control-api', 'dist', path));

// Before any controller: their decorators write with it.
createRequire(join(root, 'apps', 'control-api', 'package.json'))('reflect-metadata');
const { controllers } = await built('app.module.js');
const { routesOf } = await built('http/routes.js');
const { openApiDocument } = await built('http/openapi.js');
const document = openApiDocument(routesOf(controllers), 'https://penstock.example.org');

const pascal = (name) => name.charAt(0).toUpperCase() + name.slice(1);
const quoted = (name) => (/^[A-Za-z_$][\w$]*$/.test(name) ? name : JSON.stringify(name));
const comment = (lines, indent = '') =>
  `${indent}/** ${lines.filter(Boolean).join(' ').replaceAll('*/', '*\\/')} */\n`;

/** The TypeScript type of a JSON schema. */
function typeOf(schema) {
  if (schema.$ref !== undefined) return schema.$ref.split('/').at(-1);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices !== undefined) return [...new Set(choices.map(typeOf))].join(' | ');
  if (schema.allOf !== undefined) return schema.allOf.map(typeOf).join(' & ');
  if ('const' in schema) return JSON.stringify(schema.const);
  if (schema.enum !== undefined) return schema.enum.map((value) => JSON.stringify(value)).join(' | ');
  if (Array.isArray(schema.type)) return schema.type.map((type) => typeOf({ ...schema, type })).join(' | ');
  switch (schema.type) {
    case 'string':
      return 'string';
    case 'integer':
    case 'number':
      return 'number';
    case 'boolean':
      return 'boolean';
    case 'null':
      return 'null';
    case 'array':
      return schema.items === undefined ? 'unknown[]' : `(${typeOf(schema.items)})[]`;
    case 'object':
      return objectOf(schema);
    default:
      return 'unknown';
  }
}

function objectOf({ properties = {}, required = [], additionalProperties }) {
  const names = Object.entries(properties);
  if (names.length === 0) {
    const value = typeof additionalProperties === 'object' ? typeOf(additionalProperties) : 'unknown';
    return `Record<string, ${value}>`;
  }
  const fields = names.map(
    ([name, schema]) =>
      `${schema.description === undefined ? '' : comment([schema.description])}${quoted(name)}${required.includes(name) ? '' : '?'}: ${typeOf(schema)}`,
  );
  return `{ ${fields.join(';\n')} }`;
}

/** What a query parameter takes: text, or what becomes the right text. */
function queryOf(parameters) {
  const fields = parameters.map(
    ({ name, schema, required, description }) =>
      `${description === undefined ? '' : comment([description])}${quoted(name)}${required ? '' : '?'}: ${
        schema.enum === undefined && schema.type === 'string' ? 'string | number' : typeOf(schema)
      } | undefined`,
  );
  return `{ ${fields.join(';\n')} }`;
}

function methodOf(path, method, operation) {
  const [, name] = operation.operationId.split('_');
  const of = (where) => operation.parameters.filter((each) => each.in === where);
  const headers = of('header').map((each) => each.name);
  // As they stand in the path, so that a caller writes them as the address reads.
  const params = of('path').sort((a, b) => path.indexOf(`{${a.name}}`) - path.indexOf(`{${b.name}}`));
  const query = of('query');
  const body = operation.requestBody;
  const good = Object.entries(operation.responses).find(([status]) => Number(status) < 300)?.[1];
  const [type, content] = Object.entries(good?.content ?? {})[0] ?? [];
  const isText = type !== undefined && type !== 'application/json';
  const reply = content === undefined ? 'void' : isText ? 'string' : typeOf(content.schema);
  const options = headers.includes('If-Match')
    ? 'ChangeOptions'
    : method === 'get'
      ? 'RequestOptions'
      : 'MutationOptions';
  const bodyType = body === undefined ? undefined : typeOf(body.content['application/json'].schema);
  const optionalQuery = query.every((each) => !each.required);
  const args = [
    ...params.map((each) => `${each.name}: string`),
    ...(bodyType === undefined ? [] : [body.required ? `body: ${bodyType}` : `body?: ${bodyType}`]),
    ...(query.length === 0 ? [] : [`query${optionalQuery ? '?' : ''}: ${queryOf(query)}`]),
    `options?: ${options}`,
  ];
  const call = [
    `method: ${JSON.stringify(method.toUpperCase())}`,
    `path: ${JSON.stringify(path)}`,
    ...(params.length === 0 ? [] : [`params: { ${params.map((each) => each.name).join(', ')} }`]),
    ...(query.length === 0 ? [] : ['query']),
    ...(bodyType === undefined ? [] : ['body']),
    ...(headers.includes('Idempotency-Key') ? ['keyed: true'] : []),
    ...(isText ? ['text: true'] : []),
    'options',
  ];
  const needs = { public: 'Needs no sign-in.', self: 'Needs a signed-in person.' }[operation['x-permission']];
  const about = comment([`${operation.summary}.`, needs ?? `Needs \`${operation['x-permission']}\`.`]);
  const lines = [
    `${about}${name}(${args.join(', ')}): Promise<${reply}> { return this.transport.send({ ${call.join(', ')} }); }`,
  ];
  if (operation['x-pagination'] !== undefined) {
    const item = `${reply}['items'][number]`;
    const names = params.map((each) => each.name);
    const given = [...names, '{ limit: 200, ...query, cursor }', 'options'];
    const args = [
      ...params.map((each) => `${each.name}: string`),
      `query?: Omit<${queryOf(query)}, 'cursor'>`,
      'options?: RequestOptions',
    ];
    lines.push(
      `${comment([`${operation.summary}: every row, page by page.`])}${name}All(${args.join(', ')}): AsyncGenerator<${item}> {
        return this.transport.pages((cursor) => this.${name}(${given.join(', ')})); }`,
    );
  }
  return lines.join('\n\n');
}

const groups = new Map();
for (const [path, methods] of Object.entries(document.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    // An endless answer is read with an EventSource, not awaited.
    const streams = Object.values(operation.responses).some(
      (each) => 'text/event-stream' in (each.content ?? {}),
    );
    if (streams) continue;
    const [group] = operation.operationId.split('_');
    groups.set(group, [...(groups.get(group) ?? []), methodOf(path, method, operation)]);
  }
}
const schemas = Object.entries(document.components.schemas).map(
  ([name, schema]) => `export type ${name} = ${typeOf(schema)};`,
);
const classes = [...groups].map(
  ([group, methods]) =>
    `class ${pascal(group)}Api { constructor(private readonly transport: Transport) {}\n\n${methods.join('\n\n')} }`,
);
const source = `// Generated by tools/client from the OpenAPI document (npm run gen:client); do not edit.
import { Transport, type ChangeOptions, type MutationOptions, type RequestOptions, type TransportOptions } from '../transport.js';

${schemas.join('\n\n')}

${classes.join('\n\n')}

/** The whole API: one property a noun, one method an operation. */
export class Client {
  /** For paths that have no method here. */
  readonly transport: Transport;
${[...groups.keys()].map((group) => `readonly ${group}: ${pascal(group)}Api;`).join('\n')}

  constructor(options: TransportOptions) {
    const transport = new Transport(options);
    this.transport = transport;
${[...groups.keys()].map((group) => `this.${group} = new ${pascal(group)}Api(transport);`).join('\n')}
  }
}
`;
const text = await format(source, {
  parser: 'typescript',
  printWidth: 110,
  singleQuote: true,
  trailingComma: 'all',
});
if (process.argv.includes('--check')) {
  if (readFileSync(file, 'utf8') !== text) {
    process.stderr.write('packages/client is not what the API says (npm run gen:client).\n');
    process.exit(1);
  }
} else {
  writeFileSync(file, text);
}
// Controllers may hold timers.
process.exit(0);
