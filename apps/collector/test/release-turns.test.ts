// Released usage of many tenants: each has its turn, whatever is the matter with the others.
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import pg from 'pg';
import { createTestTrust, type TestTrust } from '@penstock/testkit/trust';
import { testDatabase, type TestDatabase } from '@penstock/testkit/postgres';
import { seedUsage, type UsageSeed } from '@penstock/testkit/usage-seed';
import { RELEASE_TENANTS_MAX } from '../src/release.js';
import { startCollector, type RunningCollector } from './support.js';

const MAX = (2n ** 63n - 1n).toString();
let db: TestDatabase;
let trust: TestTrust;
let seed: UsageSeed;
let sql: pg.Client;
let running: RunningCollector;
let seq = 0;

beforeAll(async () => {
  db = await testDatabase();
  trust = await createTestTrust();
  seed = await seedUsage(db.superuserUrl, trust, {
    ...{ tenants: RELEASE_TENANTS_MAX + 2, subscriptions: 1, nodes: 1, limitBytes: null },
  });
  sql = new pg.Client({ connectionString: db.superuserUrl });
  await sql.connect();
});
afterAll(async () => {
  await sql?.end();
  await db?.drop();
});
beforeEach(async () => {
  await sql.query('DELETE FROM quarantine_release');
  running = await startCollector(db, trust, { timers: false });
});
afterEach(() => running.kill());

/** Usage of the tenant's subscription that was quarantined and is to be billed. */
async function release(tenant: number, up: string): Promise<void> {
  const { tenantId, subscriptions } = seed.tenants[tenant] as UsageSeed['tenants'][number];
  await sql.query(
    `WITH kept AS (
       INSERT INTO usage_quarantine (tenant_id, node_id, epoch, seq, subscription_id, engine, up_bytes, down_bytes, reason, created_at)
       VALUES ($1, $2, 1, $3, $4, 1, $5, 0, 'above_link_rate', now()) RETURNING tenant_id, quarantine_id)
     INSERT INTO quarantine_release (tenant_id, quarantine_id, asked_at) SELECT tenant_id, quarantine_id, now() FROM kept`,
    [tenantId, seed.nodes[0]?.nodeId, ++seq, subscriptions[0], up],
  );
}

async function billed(tenant: number): Promise<string | undefined> {
  const { rows } = await sql.query<{ up: string }>(
    'SELECT up_bytes AS up FROM usage_counter WHERE tenant_id = $1',
    [seed.tenants[tenant]?.tenantId],
  );
  return rows[0]?.up;
}

it('tenants whose batches are refused keep nobody waiting, however many, and are billed when they can be', async () => {
  const refused = seed.tenants.slice(0, RELEASE_TENANTS_MAX).map((t) => t.tenantId);
  for (let t = 0; t < seed.tenants.length; t++) await release(t, '5');
  await sql.query(`CREATE FUNCTION refuse_some() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN IF NEW.tenant_id = ANY ('{${refused.join(',')}}') THEN RAISE EXCEPTION 'refused'; END IF; RETURN NEW; END $$`);
  await sql.query(
    'CREATE TRIGGER refuse_some BEFORE INSERT ON usage_counter FOR EACH ROW EXECUTE FUNCTION refuse_some()',
  );
  expect(await running.collector.billReleases()).toBe(0);
  expect(await running.collector.billReleases()).toBe(2);
  expect([await billed(0), await billed(RELEASE_TENANTS_MAX), await billed(RELEASE_TENANTS_MAX + 1)]).toEqual(
    [undefined, '5', '5'],
  );
  await sql.query('DROP FUNCTION refuse_some CASCADE');
  expect(await running.collector.billReleases()).toBe(RELEASE_TENANTS_MAX);
  expect(await billed(0)).toBe('5');
});

it('released rows that together are more than 2^63 − 1 bytes are billed as that, and nobody waits for them', async () => {
  await release(0, MAX);
  await release(0, MAX);
  await release(1, '7');
  expect(await running.collector.billReleases()).toBe(3);
  expect([await billed(0), await billed(1)]).toEqual([MAX, '12']);
  const { rows } = await sql.query(
    `SELECT h.up_bytes AS hour, n.up_bytes AS node, m.billable_bytes AS month
     FROM usage_hour h JOIN usage_node_hour n USING (tenant_id, hour) JOIN tenant_month m USING (tenant_id) WHERE tenant_id = $1`,
    [seed.tenants[0]?.tenantId],
  );
  expect(rows).toEqual([{ hour: MAX, node: MAX, month: MAX }]);
});
