// Time series of usage: hours and days of the tenant's own time zone, by engine and node, with billable bytes.
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import pg from 'pg';
import { createTestTrust, type TestTrust } from '@penstock/testkit/trust';
import { testDatabase, type TestDatabase } from '@penstock/testkit/postgres';
import { seedUsage, type UsageSeed } from '@penstock/testkit/usage-seed';
import { startCollector, TestNode, type RunningCollector } from './support.js';

let db: TestDatabase;
let trust: TestTrust;
let seed: UsageSeed;
let sql: pg.Client;
let running: RunningCollector;
const nodes: TestNode[] = [];

beforeAll(async () => {
  trust = await createTestTrust();
});
beforeEach(async () => {
  db = await testDatabase();
  const size = { tenants: 2, subscriptions: 3, nodes: 2, limitBytes: null, multiplierPerMille: 1500 };
  seed = await seedUsage(db.superuserUrl, trust, size);
  sql = new pg.Client({ connectionString: db.superuserUrl });
  await sql.connect();
  running = await startCollector(db, trust, { timers: false });
});
afterEach(async () => {
  for (const node of nodes.splice(0)) await node.close();
  await running?.kill();
  await sql?.end();
  await db?.drop();
});

/** A node whose journal begins at a moment. */
async function open(index: number, startMs: number): Promise<TestNode> {
  const { nodeId, identity } = seed.nodes[index] as UsageSeed['nodes'][number];
  const node = new TestNode(nodeId, identity, trust, startMs);
  nodes.push(node);
  await node.open(running.address);
  return node;
}

const use = (tenant: number, subscription: number, up: bigint, down: bigint) => ({
  tenantId: seed.tenants[tenant]?.tenantId as string,
  subscriptionId: seed.tenants[tenant]?.subscriptions[subscription] as string,
  up,
  down,
});

async function send(node: TestNode, ...samples: ReturnType<typeof use>[]): Promise<void> {
  const frame = node.journal.seal(samples);
  await node.send(frame);
  await node.acknowledge(frame.seq);
}

async function hours(tenant: number) {
  const { rows } = await sql.query(
    `SELECT day::text, to_char(hour AT TIME ZONE 'UTC', 'MI') AS minute, sum(up_bytes)::int AS up, sum(down_bytes)::int AS down,
            sum(billable_bytes)::int AS billable, count(*)::int AS rows
     FROM usage_hour WHERE tenant_id = $1 GROUP BY day, hour ORDER BY hour`,
    [seed.tenants[tenant]?.tenantId],
  );
  return rows as { day: string; minute: string; up: number; down: number; billable: number; rows: number }[];
}

const zone = (tenant: number, name: string) =>
  sql.query('UPDATE tenant SET time_zone = $2 WHERE tenant_id = $1', [seed.tenants[tenant]?.tenantId, name]);

describe('hours of usage', () => {
  it('hold what every frame brought, with billable bytes, once a flush has ended', async () => {
    const node = await open(0, Date.now() - 600_000);
    await send(node, use(0, 0, 10n, 1n), use(0, 1, 5n, 5n), use(1, 2, 1n, 0n));
    await send(node, use(0, 0, 10n, 1n));
    expect(await hours(0)).toEqual([]);
    await running.collector.flush();
    expect(await hours(0)).toEqual([]);
    await running.collector.flush(true);
    const sum = (await hours(0)).reduce<[number, number, number]>(
      (all, h) => [all[0] + h.up, all[1] + h.down, all[2] + h.billable],
      [0, 0, 0],
    );
    // 1.5 × 11, rounded down row by row, twice; and 1.5 × 10.
    expect(sum).toEqual([25, 7, 16 + 16 + 15]);
    const { rows } = await sql.query('SELECT DISTINCT engine FROM usage_hour');
    expect(rows).toHaveLength(1);
  });

  it('begin on the full hour of the tenant’s zone, also where that is half past in UTC', async () => {
    await zone(0, 'Asia/Kolkata');
    await zone(1, 'Nowhere/Atlantis');
    const node = await open(0, Date.now() - 600_000);
    await send(node, use(0, 0, 1n, 1n), use(1, 0, 1n, 1n));
    await running.collector.flush(true);
    expect((await hours(0)).map((h) => h.minute)).toEqual(['30']);
    // A zone that nobody knows counts as UTC and stops nobody's flush.
    expect((await hours(1)).map((h) => h.minute)).toEqual(['00']);
    const { rows } = await sql.query(
      `SELECT bool_and(day = (hour AT TIME ZONE 'Asia/Kolkata')::date) AS good FROM usage_hour WHERE tenant_id = $1`,
      [seed.tenants[0]?.tenantId],
    );
    expect(rows[0].good).toBe(true);
  });

  it('neither double nor lose a byte when the zone changes under way', async () => {
    const node = await open(0, Date.now() - 600_000);
    await send(node, use(0, 0, 7n, 0n));
    await running.collector.flush(true);
    await zone(0, 'Pacific/Kiritimati');
    await send(node, use(0, 0, 7n, 0n));
    await running.collector.flush(true);
    const found = await hours(0);
    expect(found.reduce((sum, h) => sum + h.up, 0)).toBe(14);
  });

  it('of a backlog lie where its windows lie, in partitions that may be missing', async () => {
    const monthAgo = Date.now() - 31 * 86_400_000;
    await sql.query(`UPDATE certificate SET not_before = now() - interval '40 days'`);
    await sql.query(`UPDATE usage_period SET started_at = now() - interval '40 days'`);
    await sql.query(`UPDATE assignment SET assigned_at = now() - interval '40 days'`);
    await sql.query(
      `DO $$ DECLARE name text; BEGIN FOR name IN SELECT inhrelid::regclass::text FROM pg_inherits
         WHERE inhparent = 'usage_hour'::regclass AND inhrelid::regclass::text <> 'usage_hour_default'
       LOOP EXECUTE format('DROP TABLE %I', name); END LOOP; END $$`,
    );
    const node = await open(0, monthAgo);
    await send(node, use(0, 0, 3n, 4n));
    await running.collector.flush(true);
    const [hour] = await hours(0);
    const wanted = new Date(monthAgo + 5000).toISOString().slice(0, 10);
    expect(hour).toMatchObject({ day: wanted, up: 3, down: 4 });
    const made = await sql.query(
      `SELECT make_series_partitions((now() - interval '2 months')::date, 6) AS made`,
    );
    expect(made.rows[0].made).toBe(6);
    expect(await hours(0)).toHaveLength(1);
    const { rows } = await sql.query('SELECT count(*)::int AS n FROM usage_hour_default');
    expect(rows[0].n).toBe(0);
  });

  it('leave out what is quarantined', async () => {
    await sql.query('DELETE FROM assignment WHERE subscription_id = $1', [seed.tenants[0]?.subscriptions[0]]);
    const node = await open(0, Date.now() - 600_000);
    await send(node, use(0, 0, 100n, 100n), use(0, 1, 1n, 1n));
    await running.collector.flush(true);
    expect((await hours(0)).map((h) => h.up)).toEqual([1]);
    // Nor does a replay count it.
    await running.kill();
    running = await startCollector(db, trust, { timers: false });
    await sql.query(`UPDATE stream_watermark SET epoch = 1, seq = 0`);
    await sql.query('DELETE FROM usage_hour');
    await sql.query('DELETE FROM usage_node_hour');
    await sql.query('DELETE FROM meter');
    await node.open(running.address);
    await running.collector.flush(true);
    expect((await hours(0)).map((h) => h.up)).toEqual([1]);
  });
});

describe('a stream from before the series', () => {
  it('begins them at its meters’ checkpoint', async () => {
    const node = await open(0, Date.now() - 600_000);
    await send(node, use(0, 0, 1n, 1n));
    await running.collector.flush(true);
    await send(node, use(0, 0, 10n, 10n));
    await running.collector.flush();
    await running.kill();
    await sql.query(`DELETE FROM stream_watermark WHERE kind = 'series'`);
    await sql.query('DELETE FROM usage_hour');
    running = await startCollector(db, trust, { timers: false });
    await node.open(running.address);
    await send(node, use(0, 0, 100n, 100n));
    await running.collector.flush(true);
    expect((await hours(0)).reduce((sum, h) => sum + h.up, 0)).toBe(110);
  });
});
