// What can be verified when nothing has happened yet: it is said in words, and no number pretends to be a proof.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { testDatabase, type TestDatabase } from '@penstock/testkit/postgres';
import { createTestTrust } from '@penstock/testkit/trust';
import { Penstock } from './penstock.js';

let database: TestDatabase;
let penstock: Penstock;

beforeAll(async () => {
  database = await testDatabase();
  penstock = new Penstock('http://127.0.0.1:1');
  const [urls, trust] = [join(penstock.home, 'secret', 'database'), join(penstock.home, 'trust', 'cli')];
  for (const directory of [urls, trust]) mkdirSync(directory, { recursive: true });
  for (const role of ['penstock_reader', 'penstock_control_api'] as const)
    writeFileSync(join(urls, `${role}.url`), database.url(role), { mode: 0o600 });
  writeFileSync(join(trust, 'root.pem'), (await (await createTestTrust()).service('cli')).tls.root);
});
afterAll(async () => {
  penstock.remove();
  await database.drop();
});

test('verify: no node has delivered usage, so nothing is verified', async () => {
  const { code, out, err } = await penstock.run(['--data', penstock.home, 'verify']);
  expect([code, err]).toEqual([0, '']);
  expect(out).toMatch(/^trust root [0-9a-f]{64}\nnothing to verify: no node has delivered usage yet\n$/);
  const { streams } = await penstock.json('--data', penstock.home, 'verify');
  expect(streams).toEqual([]);
});

test('audit verify: there is no tenant before the first start has ended', async () => {
  const { code, out } = await penstock.run(['--data', penstock.home, 'audit', 'verify']);
  expect([code, out]).toEqual([0, 'nothing to verify: there is no tenant yet\n']);
});
