// The schema as text, read from the catalog: what schema.sql holds and CI compares. Day partitions are left out (they
// follow their parents and the calendar).
import type { Runner } from './statement.js';

/** Runs one catalog query and gives its single text column. */
async function lines(runner: Runner, name: string, text: string): Promise<string[]> {
  const { rows } = await runner.query({ name: `schema.${name}`, text, values: [] });
  return (rows as { line: string }[]).map((row) => row.line);
}

const ours = `n.nspname = 'public' AND c.relkind IN ('r', 'p') AND c.relname <> 'schema_migration'
  AND (NOT c.relispartition OR c.relname LIKE '%\\_default')`;

/** Tables with columns and constraints, indexes, functions, triggers, row security and grants, each sorted by name. */
export async function schemaText(runner: Runner): Promise<string> {
  const tables = await lines(
    runner,
    'tables',
    `SELECT format(E'CREATE TABLE %s (\\n%s\\n)%s%s;', c.relname,
       (SELECT string_agg(part, E',\\n' ORDER BY kind, place, part) FROM (
          SELECT 0 AS kind, a.attnum AS place, format('  %s %s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
            CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END,
            coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '')) AS part
          FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          UNION ALL
          SELECT 1, 0, format('  CONSTRAINT %s %s', k.conname, pg_get_constraintdef(k.oid))
          FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype <> 'n') parts),
       coalesce(' PARTITION BY ' || pg_get_partkeydef(c.oid), ''),
       coalesce(' WITH (' || array_to_string(c.reloptions, ', ') || ')', '')) AS line
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE ${ours} ORDER BY c.relname`,
  );
  const indexes = await lines(
    runner,
    'indexes',
    `SELECT pg_get_indexdef(i.indexrelid) || ';' AS line FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
     JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE ${ours} AND NOT c.relispartition AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
     ORDER BY 1`,
  );
  const functions = await lines(
    runner,
    'functions',
    `SELECT pg_get_functiondef(p.oid) || ';' AS line FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
     WHERE n.nspname = 'public' ORDER BY p.proname`,
  );
  const triggers = await lines(
    runner,
    'triggers',
    `SELECT pg_get_triggerdef(t.oid) || ';' AS line FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
     JOIN pg_namespace n ON n.oid = c.relnamespace WHERE ${ours} AND NOT t.tgisinternal ORDER BY c.relname, t.tgname`,
  );
  const security = await lines(
    runner,
    'security',
    `SELECT format('%s: row security %s%s', c.relname, CASE WHEN c.relrowsecurity THEN 'enabled' ELSE 'off' END,
       CASE WHEN c.relforcerowsecurity THEN ' and forced' ELSE '' END) AS line
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE ${ours} ORDER BY c.relname`,
  );
  const policies = await lines(
    runner,
    'policies',
    `SELECT format('%s: %s FOR %s TO %s USING (%s) CHECK (%s)', tablename, policyname, cmd, array_to_string(roles, ', '),
       coalesce(regexp_replace(qual, '\\s+', ' ', 'g'), '–'), coalesce(regexp_replace(with_check, '\\s+', ' ', 'g'), '–')) AS line
     FROM pg_policies WHERE schemaname = 'public' ORDER BY tablename, policyname`,
  );
  const grants = await lines(
    runner,
    'grants',
    `SELECT format('%s: %s to %s', c.relname, string_agg(DISTINCT g.privilege_type, ', '), g.grantee::regrole) AS line
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) g
     WHERE ${ours} AND g.grantee <> c.relowner GROUP BY c.relname, g.grantee::regrole::text, g.grantee
     ORDER BY c.relname, g.grantee::regrole::text`,
  );
  const columnGrants = await lines(
    runner,
    'columnGrants',
    `SELECT format('%s (%s): %s to %s', c.relname, string_agg(a.attname, ', ' ORDER BY a.attnum), g.privilege_type, g.grantee::regrole) AS line
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid,
       aclexplode(a.attacl) g
     WHERE ${ours} GROUP BY c.relname, g.privilege_type, g.grantee ORDER BY c.relname, g.grantee::regrole::text, g.privilege_type`,
  );
  const comment = (title: string, list: string[]): string =>
    `-- ${title}\n${list.map((line) => `--   ${line}\n`).join('')}`;
  return [
    '-- The current schema, read from a migrated database (npm run db:schema). Do not edit: write a migration.\n',
    ...tables.map((line) => `${line}\n`),
    ...indexes.map((line) => `${line}\n`),
    ...functions.map((line) => `${line}\n`),
    ...triggers.map((line) => `${line}\n`),
    comment('Row security', security),
    comment('Policies', policies),
    comment('Grants', grants),
    comment('Grants on columns', columnGrants),
  ].join('\n');
}
