// Days and statements of many tenants: what is wrong with one of them, or large, is nobody else's trouble.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createPool, type Pool } from '@penstock/db/pool';
import { newId, type TenantId } from '@penstock/domain/ids';
import { createLogger } from '@penstock/service/logger';
import { createMetrics, type Metrics } from '@penstock/service/metrics';
import { seedHours } from '@penstock/testkit/series-seed';
import { schedulerMetrics } from '../src/metrics.js';
import { closeDue, type CloseDeps } from '../src/statements/close.js';
import { rollUsage, usageRollup } from '../src/tasks/usage-rollup.js';
import { dataKey, eventually, World } from './world.js';

const MAX = 2n ** 63n - 1n;
const nodeId = newId();
let world: World;
let pool: Pool;
let metrics: Metrics;
let deps: CloseDeps;
/** In the order in which they are served. */
let bad: TenantId;
let good: TenantId;

beforeAll(async () => {
  world = await World.create();
  pool = createPool(world.database.url('penstock_scheduler'), { applicationName: 'overflow-test' });
});
afterAll(async () => {
  await pool.end();
  await world.close();
});
beforeEach(async () => {
  metrics = createMetrics();
  const log = createLogger('scheduler', process.env['TEST_LOG'] ?? 'fatal');
  deps = { pool, dataKey, log, metrics: schedulerMetrics(metrics) };
  bad = await tenant();
  good = await tenant();
});

async function tenant(): Promise<TenantId> {
  const tenantId = await world.tenant();
  await world.query(`UPDATE tenant SET created_at = '2026-04-01' WHERE tenant_id = $1`, [tenantId]);
  return tenantId;
}

const use = (tenantId: string, subscriptionId: string, hour: string, up: bigint): Promise<void> =>
  seedHours(world.admin, [{ tenantId, subscriptionId, nodeId, hour, up }]);

async function days(tenantId: string): Promise<string[]> {
  const rows = await world.query<{ up: string }>(
    'SELECT up_bytes::text AS up FROM usage_day WHERE tenant_id = $1 ORDER BY day, subscription_id',
    [tenantId],
  );
  return rows.map((row) => row.up);
}

const lines = (tenantId: string) =>
  world.query<{ month: string; up: string }>(
    `SELECT to_char(month, 'YYYY-MM') AS month, up_bytes::text AS up FROM statement_line WHERE tenant_id = $1
     ORDER BY statement_id, month`,
    [tenantId],
  );

const figure = async (line: string): Promise<number> => {
  const text = await metrics.registry.metrics();
  return Number(new RegExp(`^${line.replace(/[{}]/g, '\\$&')} (.*)$`, 'm').exec(text)?.[1] ?? 0);
};

/** Refuses every write of the tenant into `table` until the returned function is called. */
async function refuse(table: string, tenantId: string): Promise<() => Promise<unknown>> {
  await world.query(`CREATE FUNCTION refuse_one() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN IF NEW.tenant_id = '${tenantId}' THEN RAISE EXCEPTION 'refused'; END IF; RETURN NEW; END $$`);
  await world.query(
    `CREATE TRIGGER refuse_one BEFORE INSERT ON ${table} FOR EACH ROW EXECUTE FUNCTION refuse_one()`,
  );
  return () => world.query('DROP FUNCTION refuse_one CASCADE');
}

describe('usage beyond 2^63 − 1 bytes', () => {
  it('in a day saturates, is told, and stops nobody’s days [R1-19]', async () => {
    await use(bad, newId(), '2026-04-10T01:00:00Z', MAX);
    const [row] = await world.query<{ subscription_id: string }>(
      'SELECT subscription_id FROM usage_hour WHERE tenant_id = $1',
      [bad],
    );
    await use(bad, row?.subscription_id ?? '', '2026-04-10T02:00:00Z', MAX);
    await use(good, newId(), '2026-04-10T01:00:00Z', 5n);
    const rolled = await rollUsage(deps, { everything: true });
    expect(rolled).toEqual({ days: 2, failed: new Set() });
    expect(await days(bad)).toEqual([MAX.toString()]);
    expect(await days(good)).toEqual(['5']);
    expect(await figure('usage_saturated_total{sum="day"}')).toBe(1);
    expect((await rollUsage(deps, { everything: true })).days).toBe(0);
  });

  it('in a month saturates, is told, and every tenant’s statement is closed, the next month’s too [V48, R1-19]', async () => {
    const subscription = newId();
    await use(bad, subscription, '2026-04-10T01:00:00Z', MAX - 10n);
    await use(bad, subscription, '2026-05-10T01:00:00Z', 7n);
    await use(good, newId(), '2026-04-10T01:00:00Z', 5n);
    await closeDue(deps, Date.parse('2026-05-03T00:00:00Z'));
    await use(bad, subscription, '2026-04-11T01:00:00Z', MAX);
    await closeDue(deps, Date.parse('2026-06-03T00:00:00Z'));
    expect(await lines(bad)).toEqual([
      { month: '2026-04', up: (MAX - 10n).toString() },
      // All that a month can hold less what was stated: a difference is exact.
      { month: '2026-04', up: '10' },
      { month: '2026-05', up: '7' },
    ]);
    expect(await lines(good)).toEqual([{ month: '2026-04', up: '5' }]);
    const other = newId();
    await use(bad, other, '2026-06-10T01:00:00Z', MAX);
    await use(bad, other, '2026-06-11T01:00:00Z', MAX);
    const told = await figure('usage_saturated_total{sum="statement"}');
    await closeDue(deps, Date.parse('2026-07-03T00:00:00Z'));
    expect((await lines(bad)).at(-1)).toEqual({ month: '2026-06', up: MAX.toString() });
    expect(await figure('usage_saturated_total{sum="statement"}')).toBe(told + 1);
  });
});

describe('a tenant whose rows are refused', () => {
  it('stops nobody’s days, and its own are made when they can be, however old', async () => {
    await use(bad, newId(), '2026-04-10T01:00:00Z', 3n);
    await use(good, newId(), '2026-04-10T01:00:00Z', 5n);
    await world.query(
      `UPDATE usage_node_hour SET updated_at = now() - interval '9 days' WHERE tenant_id = $1`,
      [bad],
    );
    const accept = await refuse('usage_day', bad);
    const task = usageRollup(deps);
    await task.run(pool);
    expect([await days(bad), await days(good)]).toEqual([[], ['5']]);
    expect(await figure('scheduler_tenant_failures_total{task="usage-rollup"}')).toBe(1);
    await task.run(pool);
    await accept();
    await task.run(pool);
    expect(await days(bad)).toEqual(['3']);
  });

  it('stops nobody’s statements, and its own is closed when it can be', async () => {
    await use(bad, newId(), '2026-04-10T01:00:00Z', 3n);
    await use(good, newId(), '2026-04-10T01:00:00Z', 5n);
    const accept = await refuse('statement_line', bad);
    await closeDue(deps, Date.parse('2026-05-03T00:00:00Z'));
    expect([await lines(bad), await lines(good)]).toEqual([[], [{ month: '2026-04', up: '5' }]]);
    expect(await figure('scheduler_tenant_failures_total{task="statement-close"}')).toBe(1);
    await accept();
    expect(await closeDue(deps, Date.parse('2026-05-03T00:00:00Z'))).toBe(1);
    expect(await lines(bad)).toEqual([{ month: '2026-04', up: '3' }]);
  });
});

describe('a large tenant’s day', () => {
  it('is made in transactions of their own, and one that was left half made is made whole', async () => {
    const subscriptions = Array.from({ length: 4 }, () => newId()).sort();
    const grow = async (): Promise<void> => {
      for (const id of subscriptions)
        for (const hour of ['01', '02']) await use(good, id, `2026-04-10T${hour}:00:00Z`, 1n);
    };
    await grow();
    const parts = { ...deps, partRows: 3 };
    expect((await rollUsage(parts, { everything: true, tenantId: good })).days).toBe(1);
    expect(await days(good)).toEqual(['2', '2', '2', '2']);
    await grow();
    await world.query('BEGIN');
    await world.query('SELECT FROM usage_day WHERE tenant_id = $1 AND subscription_id = $2 FOR UPDATE', [
      ...[good, subscriptions[3]],
    ]);
    const rolling = rollUsage(parts, { everything: true, tenantId: good });
    await eventually(async () => (await days(good))[0] === '4');
    expect(await days(good)).toEqual(['4', '4', '2', '2']);
    await eventually(async () => {
      const [ended] = await world.query<{ ended: boolean }>(
        `SELECT pg_terminate_backend(pid) AS ended FROM pg_stat_activity
         WHERE application_name = 'overflow-test' AND wait_event_type = 'Lock'`,
      );
      return ended?.ended === true;
    });
    expect(await rolling).toEqual({ days: 0, failed: new Set([good]) });
    await world.query('ROLLBACK');
    expect((await rollUsage(parts, { everything: true, tenantId: good })).days).toBe(1);
    expect(await days(good)).toEqual(['4', '4', '4', '4']);
    expect((await rollUsage(parts, { everything: true, tenantId: good })).days).toBe(0);
  });
});
