import { afterAll, beforeAll, expect, test } from 'vitest';
import { testDatabase, type TestDatabase } from '@penstock/testkit/postgres';
import { createPool, type Pool } from './pool.js';
import { Reader } from './read.js';
import { run, statement } from './statement.js';
import { withTransaction } from './transaction.js';
import type { Client } from './pool.js';

const TENANT = '018f0000-0000-7000-8000-00000000000a';
const setting = statement<{ tenant: string; n: bigint | null; at: Date; list: string[]; none: null }>(
  'read.test.setting',
  `SELECT current_setting('app.tenant_id', true) AS tenant, $1::bigint AS n, $2::timestamptz AS at, $3::text[] AS list,
          NULL::text AS none`,
);
const divide = statement<{ quotient: number }>('read.test.divide', 'SELECT 1 / $1::int AS quotient');

let database: TestDatabase;
let pool: Pool;
const values = [9_007_199_254_740_993n, new Date('2026-01-02T03:04:05.678Z'), ['a', 'b "c", {d}']];
const row = {
  ...{ tenant: TENANT, n: 9_007_199_254_740_993n, at: new Date('2026-01-02T03:04:05.678Z') },
  ...{ list: ['a', 'b "c", {d}'], none: null },
};
const reader = (tenantId?: string): Client =>
  new Reader(pool, tenantId === undefined ? {} : { tenantId }) as unknown as Client;

beforeAll(async () => {
  database = await testDatabase();
  pool = createPool(database.url('penstock_control_api'), { applicationName: 'test', max: 1 });
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});

test('a read has its tenant, the types of every query, and leaves no tenant behind on the connection', async () => {
  expect(await run(reader(TENANT), setting, values)).toEqual([row]);
  // Again, when the columns are known.
  expect(await run(reader(TENANT), setting, values)).toEqual([row]);
  const { rows } = await pool.query<{ tenant: string }>(
    `SELECT current_setting('app.tenant_id', true) AS tenant`,
  );
  expect(rows[0]?.tenant).toBe('');
  expect(await run(reader(), setting, values)).toEqual([{ ...row, tenant: '' }]);
});

test('reads and transactions share a connection and its prepared statements', async () => {
  const inside = (): Promise<unknown> =>
    withTransaction(pool, (client) => run(client, divide, [1]), { tenantId: TENANT });
  expect(await inside()).toEqual([{ quotient: 1 }]);
  expect(await run(reader(TENANT), divide, [1])).toEqual([{ quotient: 1 }]);
  expect(await inside()).toEqual([{ quotient: 1 }]);
  expect(await withTransaction(pool, (client) => run(client, setting, values), { tenantId: TENANT })).toEqual(
    [row],
  );
});

test('an error of a read is its own; the next one gets a connection that works', async () => {
  await expect(run(reader(TENANT), divide, [0])).rejects.toThrow();
  expect(await run(reader(TENANT), divide, [1])).toEqual([{ quotient: 1 }]);
  await expect(run(reader(TENANT), divide, ['no number'])).rejects.toThrow();
  expect(await run(reader(TENANT), setting, values)).toEqual([row]);
});

test('a value that cannot be written fails its own read; the connection serves the next', async () => {
  const unwritable = [1n, new Date(), { cyclic: 1n }];
  for (let i = 0; i < 3; i++) await expect(run(reader(TENANT), setting, unwritable)).rejects.toThrow();
  expect(await run(reader(TENANT), setting, values)).toEqual([row]);
});

test('many reads at once over few connections, each with its own tenant', async () => {
  const tenants = Array.from(
    { length: 200 },
    (_, i) => `018f0000-0000-7000-8000-${String(i).padStart(12, '0')}`,
  );
  const answers = await Promise.all(tenants.map((tenant) => run(reader(tenant), setting, values)));
  expect(answers.map(([one]) => one?.tenant)).toEqual(tenants);
});
