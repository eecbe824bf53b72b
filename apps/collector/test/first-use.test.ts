// What a collector tells the scheduler of a subscription's life: that one on hold is used for the first time, and that it
// follows when a period is begun or topped up meanwhile; and what it adds up for a tenant's pool.
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { newId } from '@penstock/domain/ids';
import { testDatabase, type TestDatabase } from '@penstock/testkit/postgres';
import { createTestTrust, type TestTrust } from '@penstock/testkit/trust';
import { seedUsage, type UsageSeed } from '@penstock/testkit/usage-seed';
import { startCollector, testNode, type RunningCollector, type TestNode } from './support.js';

let db: TestDatabase;
let trust: TestTrust;
let seed: UsageSeed;
let sql: pg.Client;
let running: RunningCollector;
let node: TestNode;
let nextNode = 0;

beforeAll(async () => {
  db = await testDatabase();
  trust = await createTestTrust();
  seed = await seedUsage(db.superuserUrl, trust, {
    tenants: 1,
    subscriptions: 8,
    nodes: 8,
    limitBytes: null,
  });
  sql = new pg.Client({ connectionString: db.superuserUrl });
  await sql.connect();
});
afterAll(async () => {
  await sql.end();
  await db.drop();
});
beforeEach(async () => {
  running = await startCollector(db, trust);
  node = testNode(seed, nextNode++, trust);
});
afterEach(async () => {
  await node.close();
  await running.stop();
});

const tenantId = (): string => seed.tenants[0]?.tenantId as string;
const sub = (n: number): string => seed.tenants[0]?.subscriptions[n] as string;
const use = (n: number, bytes: bigint, engine?: 'xray' | 'wireguard') => ({
  ...{ tenantId: tenantId(), subscriptionId: sub(n), up: bytes, down: 0n },
  ...(engine === undefined ? {} : { engine }),
});
const hold = (n: number) =>
  sql.query('UPDATE usage_period SET awaits_use = true WHERE subscription_id = $1', [sub(n)]);

async function firstUses(n: number): Promise<number> {
  const { rows } = await sql.query(
    `SELECT period_id, observed_bytes FROM access_change WHERE subscription_id = $1 AND cause = 'first_use'`,
    [sub(n)],
  );
  for (const row of rows) expect(row).toEqual({ period_id: null, observed_bytes: null });
  return rows.length;
}

async function counters(n: number): Promise<bigint[]> {
  await running.collector.flush();
  const { rows } = await sql.query(
    `SELECT coalesce(c.billable_bytes, 0) AS bytes FROM usage_period p LEFT JOIN usage_counter c USING (tenant_id, subscription_id, period_id)
     WHERE p.subscription_id = $1 ORDER BY p.started_at`,
    [sub(n)],
  );
  return rows.map((row) => BigInt(row.bytes));
}

async function send(...frames: Parameters<TestNode['journal']['seal']>[0][]): Promise<void> {
  for (const rows of frames) {
    const frame = node.journal.seal(rows);
    await node.send(frame);
    await node.acknowledge(frame.seq);
  }
}

it('the first use of one on hold is billed and told once, in the transaction that accepts it', async () => {
  await hold(0);
  await node.open(running.address);
  await send([use(0, 0n), use(1, 5n)]);
  expect(await firstUses(0)).toBe(0);
  await send([use(0, 1n)], [use(0, 7n)], [use(0, 9n)]);
  expect([await firstUses(0), await firstUses(1)]).toEqual([1, 0]);
  expect(await counters(0)).toEqual([17n]);
  expect((await sql.query('SELECT FROM usage_quarantine')).rowCount).toBe(0);
});

it('handshakes and keepalives of WireGuard are billed and start nothing; traffic does', async () => {
  await hold(2);
  await node.open(running.address);
  await send([use(2, 148n, 'wireguard')], [use(2, 1_500n, 'wireguard')]);
  expect(await firstUses(2)).toBe(0);
  await send([use(2, 100_000n, 'wireguard')]);
  expect(await firstUses(2)).toBe(1);
  expect(await counters(2)).toEqual([101_648n]);
});

it('a period that the scheduler begins is followed at once, and no byte is counted twice or left out', async () => {
  await node.open(running.address);
  await send([use(3, 10n)]);
  expect(await counters(3)).toEqual([10n]);
  await sql.query('BEGIN');
  await sql.query('UPDATE usage_period SET ends_at = $2 WHERE subscription_id = $1', [
    sub(3),
    new Date(node.journal.windowEndMs),
  ]);
  await sql.query(
    'INSERT INTO usage_period (tenant_id, subscription_id, period_id, started_at) VALUES ($1, $2, $3, $4)',
    [tenantId(), sub(3), newId(), new Date(node.journal.windowEndMs)],
  );
  await sql.query(`SELECT pg_notify('usage_period', $1)`, [(tenantId() + sub(3)).replaceAll('-', '')]);
  await sql.query('COMMIT');
  // The notification comes by another connection: frames go on until it has come.
  let sent = 10n;
  let seen: bigint[];
  do {
    await send([use(3, 1n)]);
    sent += 1n;
    seen = await counters(3);
  } while (seen[1] === 0n && sent < 1_000n);
  expect(seen[0] as bigint).toBeLessThan(200n);
  expect((seen[0] as bigint) + (seen[1] as bigint)).toBe(sent);
  await send([use(3, 1_000n)]);
  expect((await counters(3))[1]).toBe((seen[1] as bigint) + 1_000n);
});

it('what a tenant used this month is the sum of all its counters', async () => {
  await sql.query('TRUNCATE tenant_month; TRUNCATE usage_counter');
  await sql.query(`UPDATE tenant SET time_zone = 'Nowhere/At_All'`);
  await node.open(running.address);
  await send([use(4, 1_000n), use(5, 200n)], [use(4, 30n)]);
  await running.collector.flush();
  await send([use(6, 4n)]);
  await running.collector.flush();
  const { rows } = await sql.query(
    `SELECT billable_bytes::text AS bytes, month = date_trunc('month', now() AT TIME ZONE 'UTC')::date AS now FROM tenant_month`,
  );
  expect(rows).toEqual([{ bytes: '1234', now: true }]);
});
