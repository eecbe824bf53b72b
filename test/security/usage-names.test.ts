// Usage carries opaque ids only: whatever leaves a node about what was used, and whatever is kept of it, has no place for
// a name, an address or a destination.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import pg from 'pg';
import { testDatabase, type TestDatabase } from '@penstock/testkit/postgres';

const root = join(import.meta.dirname, '../..');
const personal =
  /mail|phone|(^|_)name($|_)|user_?name|display|address|(^|_)(ip|host|port|sni|url|domain|destination|country|city|birth|comment|note|label|external)(_|$)/;

let db: TestDatabase;
let client: pg.Client;
beforeAll(async () => {
  db = await testDatabase();
  client = new pg.Client({ connectionString: db.superuserUrl });
  await client.connect();
});
afterAll(async () => {
  await client.end();
  await db.drop();
});

/** message → its fields as `type name`. */
function messages(proto: string): Map<string, string[]> {
  const text = proto.replace(/\/\/.*$/gm, '');
  const found = new Map<string, string[]>();
  for (const [, name = '', body = ''] of text.matchAll(/message (\w+) \{((?:[^{}]|\{[^{}]*\})*)\}/g)) {
    found.set(
      name,
      [...body.matchAll(/^\s*(?:repeated |optional )?([\w.]+) (\w+) = \d+/gm)].map(([, t, n]) => `${t} ${n}`),
    );
  }
  return found;
}

test('what agents and collectors say of usage is ids, numbers and bytes; its few texts are these [R1-01]', () => {
  const all = messages(readFileSync(join(root, 'proto/penstock/usage/v1/usage.proto'), 'utf8'));
  expect(all.size).toBeGreaterThan(5);
  const fields = [...all].flatMap(([message, list]) => list.map((field) => `${message} ${field}`));
  expect(fields.filter((field) => personal.test(field.split(' ').at(-1) ?? ''))).toEqual([]);
  const texts = fields.filter((field) => field.split(' ')[1] === 'string');
  expect(texts.sort()).toMatchInlineSnapshot(`
    [
      "BaselinesRequest string node_id",
      "FramePart string traceparent",
      "Open string agent_version",
      "Open string node_id",
      "Refused string code",
      "Refused string message",
    ]
  `);
});

test('no table of usage has a column for anything personal; its few texts are these [R1-01]', async () => {
  const { rows } = await client.query<{ table: string; column: string; type: string }>(
    `SELECT c.relname AS table, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type
       FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
      WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND a.attnum > 0 AND NOT a.attisdropped
        AND c.relname ~ '^(ledger_|usage_|stream_|meter|loss_mark|statement_line|tenant_month)'
      ORDER BY 1, a.attnum`,
  );
  expect(new Set(rows.map((row) => row.table)).size).toBeGreaterThan(8);
  expect(rows.filter((row) => personal.test(row.column))).toEqual([]);
  const texts = rows
    .filter((row) => /text|char|json/.test(row.type))
    .map((row) => `${row.table}.${row.column}`);
  expect(texts).toMatchInlineSnapshot(`
    [
      "ledger_frame.traceparent",
      "loss_mark.kind",
      "loss_mark.engine",
      "stream_head.holder",
      "stream_head.frozen_reason",
      "stream_watermark.kind",
      "usage_quarantine.reason",
    ]
  `);
});
