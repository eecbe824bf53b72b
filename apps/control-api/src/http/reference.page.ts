// The reference page: the OpenAPI document as one page of plain HTML, made once at the start. Nothing from elsewhere, no
// script at all: the browser's own search finds everything, and everything can be linked to.
import { createHash } from 'node:crypto';
import type { Json } from './openapi-examples.js';

interface Operation {
  operationId: string;
  tags: string[];
  summary: string;
  'x-permission': string;
  'x-sensitive'?: boolean;
  'x-secret-answer'?: boolean;
  security: object[];
  parameters: Parameter[];
  requestBody?: { content: Record<string, Content> };
  responses: Record<string, { description: string; content?: Record<string, Content>; 'x-codes'?: string[] }>;
}
interface Parameter {
  name: string;
  in: string;
  required: boolean;
  description?: string;
  schema: Json;
}
interface Content {
  schema: Json;
  example?: unknown;
}
interface Described {
  method: string;
  path: string;
  operation: Operation;
}

const style = `
:root { color-scheme: light dark; --ink: #14201f; --soft: #55655f; --paper: #f4f7f5; --card: #ffffff; --line: #d5dfda;
  --gate: #0b6b58; --code: #eef3f0; --get: #0b6b58; --post: #1d4fa3; --patch: #8a5a00; --delete: #a4201b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7efec; --soft: #9fb1aa; --paper: #0e1614; --card: #16211e;
  --line: #2d3d38; --gate: #3bbf9f; --code: #0f1917; --get: #3bbf9f; --post: #7fb0ff; --patch: #e0b050;
  --delete: #ff8a80; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 16px; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
a { color: var(--gate); text-decoration: none; }
a:hover { text-decoration: underline; }
:focus-visible { outline: 3px solid var(--gate); outline-offset: 2px; border-radius: 4px; }
.page { display: grid; grid-template-columns: 290px minmax(0, 1fr); max-width: 1320px; margin: 0 auto; }
nav { position: sticky; top: 0; align-self: start; height: 100vh; overflow-y: auto; padding: 28px 20px 40px 24px;
  border-right: 1px solid var(--line); font-size: 14px; }
nav strong { display: block; font-size: 17px; margin-bottom: 2px; }
nav details { border-top: 1px solid var(--line); }
nav summary { padding: 8px 0; font-weight: 600; cursor: pointer; }
nav ul { list-style: none; margin: 0 0 10px; padding: 0; }
nav li a { display: flex; gap: 8px; align-items: baseline; padding: 3px 0; color: inherit; }
nav .verb { width: 46px; flex: none; font-size: 10.5px; }
main { padding: 28px 40px 120px; min-width: 0; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 12px; }
h2 { font-size: 1.45rem; margin: 56px 0 2px; }
h3 { font-size: 1.06rem; line-height: 1.4; margin: 0; }
h3 a { color: inherit; }
.card > p:last-child { margin-bottom: 0; }
.card:target { border-color: var(--gate); }
h4 { font-size: .82rem; margin: 22px 0 6px; color: var(--soft); }
p { margin: 0 0 12px; max-width: 72ch; }
.soft { color: var(--soft); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 20px 24px; margin: 16px 0; }
.route { display: flex; flex-wrap: wrap; gap: 10px; align-items: center; margin: 6px 0 10px; overflow-wrap: anywhere; }
.verb { font: 700 12px/1 ui-monospace, SFMono-Regular, Menlo, monospace; letter-spacing: .02em; }
.get { color: var(--get); } .post { color: var(--post); } .patch, .put { color: var(--patch); } .delete { color: var(--delete); }
code, pre { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, monospace; }
code { background: var(--code); border-radius: 4px; padding: 1px 5px; overflow-wrap: anywhere; }
.route code { font-size: 14px; background: none; padding: 0; }
pre { background: var(--code); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; margin: 6px 0;
  overflow-x: auto; max-height: 420px; }
.chips { display: flex; flex-wrap: wrap; gap: 6px; margin: 0 0 4px; padding: 0; list-style: none; font-size: 13px; }
.chips li { border: 1px solid var(--line); border-radius: 99px; padding: 1px 10px; color: var(--soft); }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
td, th { text-align: left; vertical-align: top; padding: 7px 14px 7px 0; border-top: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); font-size: 12.5px; border-top: 0; }
td:first-child { white-space: nowrap; width: 26%; }
td:nth-child(2):not(:last-child) { width: 16%; }
.errors td:first-child { width: 60px; }
td p { margin: 0 0 4px; }
.need { color: var(--delete); font-size: 12px; }
details.answer > summary, details.errors > summary { cursor: pointer; padding: 4px 0; }
@media (max-width: 860px) { .page { display: block; } nav { position: static; height: auto; border-right: 0;
  border-bottom: 1px solid var(--line); padding: 20px; } main { padding: 20px 16px 80px; } .card { padding: 16px; }
  td:first-child { white-space: normal; } }
@media print { nav { display: none; } .page { display: block; } details > * { display: block; } }
`;

const hash = createHash('sha256').update(style).digest('base64');

/** One style sheet by its hash; no script, no image, no connection, no frame. */
export const referencePagePolicy = `default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;

const entities: Readonly<Record<string, string>> = {
  ...{ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' },
};

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => entities[character] ?? '');
}

/** The two marks that our texts use: **strong** and `code`; paragraphs at blank lines. */
function prose(text: string): string {
  return text
    .split(/\n{2,}/)
    .map((paragraph) => `<p>${inline(paragraph)}</p>`)
    .join('');
}

function inline(text: string): string {
  return escapeHtml(text)
    .replace(/`([^`]+)`/g, '<code>$1</code>')
    .replace(/\*\*([^*]+)\*\*/g, '<strong>$1</strong>');
}

/** Makes the page of an OpenAPI document of ours. Pure. */
export function referencePage(document: Json): string {
  const info = document['info'] as { title: string; description: string };
  const tags = document['tags'] as { name: string; description: string }[];
  const { schemas } = document['components'] as { schemas: Record<string, Json> };
  const all = Object.entries(document['paths'] as Record<string, Record<string, Operation>>).flatMap(
    ([path, methods]) =>
      Object.entries(methods).map(([method, operation]): Described => ({ method, path, operation })),
  );
  const groups = tags
    .map((tag) => ({ ...tag, routes: all.filter(({ operation }) => operation.tags.includes(tag.name)) }))
    .sort((a, b) => a.name.localeCompare(b.name));
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(info.title)} API</title><style>${style}</style></head><body><div class="page">
<nav aria-label="Contents"><strong>${escapeHtml(info.title)} API</strong>
<p class="soft"><a href="openapi.json">OpenAPI 3.1</a></p>
<p><a href="#conventions">Conventions</a></p>
${groups
  .map(
    ({ name, routes }) =>
      `<details><summary>${escapeHtml(name)}</summary><ul>${routes
        .map(
          ({ method, operation }) =>
            `<li><a href="#${operation.operationId}">${verb(method)}<span>${escapeHtml(operation.summary)}</span></a></li>`,
        )
        .join('')}</ul></details>`,
  )
  .join('')}
<details><summary>Schemas</summary><ul>${Object.keys(schemas)
    .map((name) => `<li><a href="#schema-${name}">${escapeHtml(name)}</a></li>`)
    .join('')}</ul></details></nav>
<main><h1 id="conventions">${escapeHtml(info.title)} API</h1>${prose(info.description)}
<section class="card" aria-label="Signing in"><h3>Who asks</h3><p>Send <code>Authorization: Bearer …</code> with the access token of a
session, or with an API key. What a route needs stands beside it.</p></section>
${groups
  .map(
    ({ name, description, routes }) =>
      `<h2 id="tag-${slug(name)}">${escapeHtml(name)}</h2><p class="soft">${inline(description)}</p>${routes.map(section).join('')}`,
  )
  .join('')}
<h2 id="schemas">Schemas</h2>
${Object.entries(schemas)
  .map(
    ([name, schema]) =>
      `<section class="card" id="schema-${name}"><h3>${escapeHtml(name)}</h3>${fields(schema)}</section>`,
  )
  .join('')}
</main></div></body></html>`;
}

const slug = (name: string): string => name.toLowerCase().replaceAll(' ', '-');
const verb = (method: string): string => `<span class="verb ${method}">${method.toUpperCase()}</span>`;

function section({ method, path, operation }: Described): string {
  const good = Object.entries(operation.responses).filter(([status]) => Number(status) < 400);
  const bad = Object.entries(operation.responses).filter(([status]) => Number(status) >= 400);
  return `<section class="card" id="${operation.operationId}"><h3><a href="#${operation.operationId}">${escapeHtml(operation.summary)}</a></h3>
<div class="route">${verb(method)} <code>${escapeHtml(path)}</code></div>
<ul class="chips">${chips(operation)
    .map((chip) => `<li>${inline(chip)}</li>`)
    .join('')}</ul>
${parameters(operation.parameters)}${body(operation)}
${good.map(([status, answer]) => answered(status, answer.content)).join('')}
<details class="errors"><summary class="soft">Refusals: ${bad.map(([status]) => status).join(', ')}</summary><table><tbody>${bad
    .map(([status, answer]) => `<tr><td>${status}</td><td>${prose(answer.description)}</td></tr>`)
    .join('')}</tbody></table></details></section>`;
}

function chips(operation: Operation): string[] {
  const access = operation['x-permission'];
  const needs =
    access === 'public'
      ? 'needs no sign-in'
      : access === 'self'
        ? 'a signed-in person'
        : `needs \`${access}\``;
  return [
    needs,
    ...(operation.security.length > 1 ? ['session or API key'] : []),
    ...(operation['x-sensitive'] === true ? ['from allowed addresses only'] : []),
    ...(operation['x-secret-answer'] === true ? ['shows a secret once'] : []),
  ];
}

function parameters(list: Parameter[]): string {
  if (list.length === 0) return '';
  const rows = list.map(
    ({ name, in: where, required, description = '', schema }) =>
      `<tr><td><code>${escapeHtml(name)}</code></td><td>${where}${required ? ' <span class="need">required</span>' : ''}</td>` +
      `<td>${typeOf(schema)}</td><td>${inline(description)}</td></tr>`,
  );
  return `<h4>Parameters</h4><table><tbody>${rows.join('')}</tbody></table>`;
}

function body(operation: Operation): string {
  const content = operation.requestBody?.content['application/json'];
  if (content === undefined) return '';
  return `<h4>Body: ${typeOf(content.schema)}</h4>${json(content.example)}`;
}

function answered(status: string, content: Record<string, Content> | undefined): string {
  const [type, one] = Object.entries(content ?? {})[0] ?? [];
  if (one === undefined) return `<h4>Answer: ${status}, no content</h4>`;
  const shape = type === 'application/json' ? typeOf(one.schema) : escapeHtml(type ?? '');
  const example = one.example === undefined ? '' : json(one.example);
  return `<h4>Answer: ${status}, ${shape}</h4>${example}`;
}

function json(value: unknown): string {
  return value === undefined ? '' : `<pre tabindex="0">${escapeHtml(JSON.stringify(value, null, 2))}</pre>`;
}

function fields(schema: Json): string {
  const choices = (schema['anyOf'] ?? schema['oneOf']) as Json[] | undefined;
  if (choices !== undefined) {
    return choices.map((choice, index) => `<h4>Form ${index + 1}</h4>${fields(choice)}`).join('');
  }
  const properties = Object.entries((schema['properties'] ?? {}) as Record<string, Json>);
  if (properties.length === 0) return `<p>${typeOf(schema)}</p>`;
  const required = (schema['required'] ?? []) as string[];
  const rows = properties.map(
    ([name, property]) =>
      `<tr><td><code>${escapeHtml(name)}</code></td><td>${required.includes(name) ? '' : '<span class="soft">optional</span>'}</td>` +
      `<td>${typeOf(property)}</td><td>${inline(descriptionOf(property))}</td></tr>`,
  );
  return `<table><tbody>${rows.join('')}</tbody></table>`;
}

function descriptionOf(schema: Json): string {
  return typeof schema['description'] === 'string' ? schema['description'] : '';
}

/** A type in words, with what bounds it. */
function typeOf(schema: Json): string {
  if (typeof schema['$ref'] === 'string') {
    const name = schema['$ref'].split('/').at(-1) ?? '';
    return `<a href="#schema-${name}">${escapeHtml(name)}</a>`;
  }
  const choices = (schema['anyOf'] ?? schema['oneOf']) as Json[] | undefined;
  if (choices !== undefined) return choices.map(typeOf).join(' or ');
  if (Array.isArray(schema['enum'])) {
    return schema['enum'].map((value) => `<code>${escapeHtml(String(value))}</code>`).join(' ');
  }
  if ('const' in schema) return `<code>${escapeHtml(JSON.stringify(schema['const']))}</code>`;
  if (schema['type'] === 'array') return `list of ${typeOf((schema['items'] ?? {}) as Json)}`;
  const type = [schema['type'] ?? 'anything'].flat().join(' or ');
  return `${escapeHtml(String(schema['format'] ?? type))}${boundsOf(schema)}`;
}

function boundsOf(schema: Json): string {
  const range = (low: unknown, high: unknown): string =>
    low === undefined && high === undefined
      ? ''
      : `, ${escapeHtml(`${low === undefined ? '…' : String(low)} to ${high === undefined ? '…' : String(high)}`)}`;
  const usual =
    schema['default'] === undefined ? '' : `, else ${escapeHtml(JSON.stringify(schema['default']))}`;
  const length = range(schema['minLength'], schema['maxLength']);
  return `${range(schema['minimum'], schema['maximum'])}${length === '' ? '' : `${length} characters`}${usual}`;
}
