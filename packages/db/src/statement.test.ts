import { afterAll, beforeAll, expect, test } from 'vitest';
import { testDatabase, type TestDatabase } from '@penstock/testkit/postgres';
import { createPool, type Pool } from './pool.js';
import { run, statement } from './statement.js';

const sum = statement<{ sum: bigint }>(
  'statement.test.sum',
  'SELECT sum(n)::bigint AS sum FROM unnest($1::int[]) n',
);

let database: TestDatabase;
let pool: Pool;

beforeAll(async () => {
  database = await testDatabase();
  pool = createPool(database.superuserUrl, { applicationName: 'test', max: 1 });
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});

/** Plans that the server keeps for this connection. */
async function keptPlans(): Promise<string[]> {
  const { rows } = await pool.query<{ name: string }>('SELECT name FROM pg_prepared_statements ORDER BY 1');
  return rows.map((row) => row.name);
}

test('a large set is planned for itself, not with the plan that is kept for few rows', async () => {
  const many = Array.from({ length: 1_000 }, (_, i) => i);
  expect(await run(pool, sum, [many])).toEqual([{ sum: 499_500n }]);
  expect(await keptPlans()).toEqual([]);
  expect(await run(pool, sum, [[1, 2]])).toEqual([{ sum: 3n }]);
  expect(await keptPlans()).toEqual(['statement.test.sum']);
  expect(await run(pool, sum, [many])).toEqual([{ sum: 499_500n }]);
  const { rows } = await pool.query<{ times: bigint }>(
    'SELECT generic_plans + custom_plans AS times FROM pg_prepared_statements',
  );
  expect(rows).toEqual([{ times: 1n }]);
});
