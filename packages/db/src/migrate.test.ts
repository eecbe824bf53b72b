import { afterAll, beforeAll, expect, test } from 'vitest';
import { testDatabase, type TestDatabase } from '@penstock/testkit/postgres';
import { createPool, type Pool } from './pool.js';
import { migrate } from './migrate.js';
import { schemaText } from './schema-text.js';
import { withTransaction } from './transaction.js';

let database: TestDatabase;
let superuser: Pool;

beforeAll(async () => {
  database = await testDatabase();
  superuser = createPool(database.superuserUrl, { applicationName: 'test' });
});
afterAll(async () => {
  await superuser.end();
  await database.drop();
});

test('every table with a tenant_id has row security enabled and forced, with a policy', async () => {
  const { rows } = await superuser.query<{ table: string }>(`
    SELECT c.relname AS table FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
      AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped)
      AND c.relname <> 'platform'
      AND NOT (c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid))`);
  expect(rows).toEqual([]);
});

test('keys of tenant tables start with tenant_id', async () => {
  // Looked up by a secret's hash before any tenant is known; the one platform row; the tenant list itself.
  const { rows } = await superuser.query<{ index: string }>(`
    SELECT i.indexrelid::regclass::text AS index FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
    WHERE i.indisunique AND NOT c.relispartition AND i.indkey[0] <> a.attnum
      AND c.relname NOT IN ('platform', 'credential_route', 'tenant')`);
  expect(rows).toEqual([]);
});

test('no service role owns a table, is a superuser or bypasses row security', async () => {
  const { rows } = await superuser.query(`
    SELECT rolname FROM pg_roles r WHERE rolname LIKE 'penstock%' AND (rolsuper OR rolbypassrls
      OR (rolname <> 'penstock_owner' AND EXISTS (SELECT FROM pg_class c WHERE c.relowner = r.oid)))`);
  expect(rows).toEqual([]);
});

test('migrations run again change nothing', async () => {
  expect(await migrate(database.superuserUrl, database.name)).toEqual([]);
});

test('a transaction without a tenant sees no row, and one tenant never sees another', async () => {
  const api = createPool(database.url('penstock_control_api'), { applicationName: 'test' });
  const [a, b] = ['018f0000-0000-7000-8000-00000000000a', '018f0000-0000-7000-8000-00000000000b'];
  try {
    for (const tenantId of [a, b]) {
      await withTransaction(
        api,
        (c) => c.query(`INSERT INTO tenant (tenant_id, name, kind) VALUES ($1, 'x', 'customer')`, [tenantId]),
        { tenantId: tenantId as string },
      );
    }
    const seen = async (settings: { tenantId?: string }) =>
      withTransaction(
        api,
        async (c) => (await c.query('SELECT tenant_id FROM tenant')).rows.length,
        settings,
      );
    expect(await seen({})).toBe(0);
    expect(await seen({ tenantId: a as string })).toBe(1);
    await expect(
      withTransaction(
        api,
        (c) =>
          c.query(`INSERT INTO tenant (tenant_id, name, kind) VALUES ($1, 'y', 'customer')`, [
            '018f0000-0000-7000-8000-00000000000c',
          ]),
        { tenantId: a as string },
      ),
    ).rejects.toThrow(/row-level security/);
  } finally {
    await api.end();
  }
});

test('the ledger and the audit log refuse UPDATE, DELETE and TRUNCATE, also from the owner', async () => {
  const client = await superuser.connect();
  try {
    for (const table of ['ledger_frame', 'ledger_slice', 'audit_log']) {
      for (const sql of [`DELETE FROM ${table}`, `TRUNCATE ${table}`]) {
        await expect(client.query(sql)).rejects.toThrow(/append-only/);
      }
    }
  } finally {
    client.release();
  }
});

test('schema.sql is what the migrations make (npm run db:schema writes it)', async () => {
  await expect(await schemaText(superuser)).toMatchFileSnapshot('../schema.sql');
});

/** Days at which calendars, clocks and leap years turn. */
const ODD_DAYS = [
  ...['2027-01-31', '2027-02-28', '2028-02-28', '2028-02-29', '2028-12-31', '2096-02-29', '2099-12-31'],
  ...['2100-02-28', '2027-03-28', '2027-10-31', '2027-03-14', '2027-11-07', '2027-04-30', '2400-02-29'],
];

test('partitions are made over odd days in every zone, each row lies in its own, months go when they are over', async () => {
  const client = await superuser.connect();
  const rows = async (sql: string, values: unknown[] = []) => (await client.query(sql, values)).rows;
  const next = (day: string, days: number): string =>
    new Date(Date.parse(`${day}T00:00:00Z`) + days * 86_400_000).toISOString().slice(0, 10);
  try {
    for (const zone of ['UTC', 'Pacific/Apia', 'America/New_York', 'Europe/Berlin', 'Asia/Kathmandu']) {
      await client.query('BEGIN');
      await client.query(`SET LOCAL TimeZone = '${zone}'`);
      for (const day of ODD_DAYS) {
        await client.query('SET LOCAL ROLE penstock_owner');
        await client.query('SELECT make_partitions($1, 3)', [day]);
        expect((await rows('SELECT make_partitions($1, 3) AS made', [day]))[0]).toEqual({ made: 0 });
        await client.query('SELECT make_series_partitions($1, 3)', [day]);
        await client.query('SET LOCAL ROLE NONE');
        for (const each of [0, 1, 2].map((days) => next(day, days))) {
          await client.query(
            `INSERT INTO ledger_frame (accepted_on, node_id, epoch, seq, accepted_at, digest, prev_digest, header, signature)
             VALUES ($1, gen_random_uuid(), 1, 1, now(), '', '', '', '')`,
            [each],
          );
          const [{ name }] = await rows(
            'SELECT tableoid::regclass::text AS name FROM ledger_frame WHERE accepted_on = $1 LIMIT 1',
            [each],
          );
          expect(name, `${zone} ${each}`).toBe(`ledger_frame_${each.replaceAll('-', '')}`);
          await client.query(
            `INSERT INTO usage_hour (tenant_id, day, subscription_id, hour, node_id, engine, up_bytes, down_bytes, billable_bytes)
             VALUES (gen_random_uuid(), $1, gen_random_uuid(), $1::date + interval '1 hour', gen_random_uuid(), 1, 0, 0, 0)`,
            [each],
          );
          const [month] = await rows(
            'SELECT DISTINCT tableoid::regclass::text AS name FROM usage_hour WHERE day = $1',
            [each],
          );
          expect(month, `${zone} ${each}`).toEqual({
            name: `usage_hour_${each.slice(0, 7).replace('-', '')}`,
          });
        }
        // Dropped is what ended before the month of that day, and nothing of it or after.
        const month = day.slice(0, 7).replace('-', '');
        await client.query('SET LOCAL ROLE penstock_owner');
        await client.query('SELECT drop_series_partitions($1)', [day]);
        await client.query('SET LOCAL ROLE NONE');
        const left = await rows(
          `SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = 'usage_hour'::regclass AND c.relname ~ '[0-9]$' ORDER BY 1`,
        );
        expect(left[0], `${zone} ${day}`).toEqual({ name: `usage_hour_${month}` });
      }
      await client.query('ROLLBACK');
    }
  } finally {
    await client.query('ROLLBACK');
    client.release();
  }
});

test('a day whose frames had to go to the default partition gets its own afterwards, with its frames', async () => {
  const client = await superuser.connect();
  try {
    await client.query('SET ROLE penstock_owner');
    const frame = (day: string): Promise<unknown> =>
      client.query(
        `INSERT INTO ledger_frame (accepted_on, node_id, epoch, seq, accepted_at, digest, prev_digest, header, signature)
         VALUES ($1, gen_random_uuid(), 1, 1, now(), '', '', '', '')`,
        [day],
      );
    await client.query('RESET ROLE');
    await frame('2099-01-02');
    await client.query('SET ROLE penstock_owner');
    const made = await client.query<{ made: number }>(`SELECT make_partitions('2099-01-01', 3) AS made`);
    expect(made.rows[0]?.made).toBe(6);
    await client.query('RESET ROLE');
    const { rows } = await client.query(
      `SELECT tableoid::regclass::text AS name FROM ledger_frame WHERE accepted_on > '2099-01-01'`,
    );
    expect(rows).toEqual([{ name: 'ledger_frame_20990102' }]);
    await expect(client.query('DELETE FROM ledger_frame_20990102')).rejects.toThrow(/append-only/);
    await expect(client.query('DELETE FROM ledger_frame_default')).rejects.toThrow(/append-only/);
  } finally {
    client.release();
  }
});
