// Every registered statement is planned against the migrated schema as the login role of its process: a typo, a dropped
// column or a missing grant fails here at once.
import { globSync } from 'node:fs';
import { resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createPool } from '@penstock/db/pool';
import type { ServiceRole } from '@penstock/db/migrate';
import { registeredStatements } from '@penstock/db/statement';
import { testDatabase, type TestDatabase } from '@penstock/testkit/postgres';

const root = resolve(import.meta.dirname, '..');
const roleOf: Record<string, ServiceRole> = {
  'control-api': 'penstock_control_api',
  scheduler: 'penstock_scheduler',
  collector: 'penstock_collector',
  cli: 'penstock_reader',
  // What the host does with control-api's own login.
  'cli/src/host': 'penstock_control_api',
};
let database: TestDatabase;

beforeAll(async () => {
  database = await testDatabase();
});
afterAll(() => database.drop());

test.for(Object.entries(roleOf))('%s: every statement plans as %s', async ([app, role]) => {
  const before = new Set(registeredStatements().keys());
  const inner = Object.keys(roleOf).filter((other) => other.startsWith(`${app}/`));
  const files = globSync(`apps/${app}/${app.includes('/') ? '' : 'src/'}**/*.ts`, { cwd: root }).filter(
    (file) =>
      /\.store\.ts$|\/tasks\//.test(file) && !inner.some((other) => file.startsWith(`apps/${other}/`)),
  );
  for (const file of files) await import(resolve(root, file));
  const own = [...registeredStatements()].filter(([name]) => !before.has(name));
  expect(own.length).toBeGreaterThan(0);
  const pool = createPool(database.url(role), { applicationName: 'test', max: 1 });
  // Partitions are made over the scheduler's second login, as the owner.
  const owner = createPool(database.url('penstock_partitions'), { applicationName: 'test', max: 1 });
  await owner.query('SET ROLE penstock_owner');
  const failed: string[] = [];
  for (const [name, text] of own) {
    if (!/^\s*(select|insert|update|delete|with)\b/i.test(text)) continue;
    const runner = name.startsWith('partition.') ? owner : pool;
    await runner
      .query(`EXPLAIN (GENERIC_PLAN) ${text}`)
      .catch((error: Error) => failed.push(`${name}: ${error.message}`));
  }
  await pool.end();
  await owner.end();
  expect(failed).toEqual([]);
});
