// Days of usage and monthly statements: every byte of the hours stands in exactly one day and in exactly one line.
import { createHash, createPublicKey, verify } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createClient, createPool, type Pool } from '@penstock/db/pool';
import { newId, type TenantId } from '@penstock/domain/ids';
import { lineText, type StatementHeader } from '@penstock/domain/statement';
import { verifyStatement } from '@penstock/ledger/verify-statement';
import { createLogger } from '@penstock/service/logger';
import { createMetrics } from '@penstock/service/metrics';
import { newStatementKey, type NewStatementKey } from '@penstock/service/statement-key';
import { schedulerMetrics } from '../src/metrics.js';
import { closeDue, type CloseDeps } from '../src/statements/close.js';
import { statementLines } from '../src/statements/statement.store.js';
import { keepPartitions, partitionKeeper, SERIES_DAYS_KEPT } from '../src/tasks/partition-keeper.js';
import { rollUsage } from '../src/tasks/usage-rollup.js';
import { dataKey, World } from './world.js';

let world: World;
let pool: Pool;
let deps: CloseDeps;
const metrics = createMetrics();

beforeAll(async () => {
  world = await World.create();
  pool = createPool(world.database.url('penstock_scheduler'), { applicationName: 'test' });
  const log = createLogger('scheduler', process.env['TEST_LOG'] ?? 'fatal');
  deps = { pool, dataKey, log, metrics: schedulerMetrics(metrics) };
});
afterAll(async () => {
  await pool.end();
  await world.close();
});

const nodes = [newId(), newId()];

async function tenant(timeZone: string, createdAt: string): Promise<TenantId> {
  const tenantId = await world.tenant(timeZone);
  await world.query('UPDATE tenant SET created_at = $2 WHERE tenant_id = $1', [tenantId, createdAt]);
  return tenantId;
}

/** As a collector's flush does: the same bytes by subscription and by node. */
async function use(
  tenantId: string,
  subscriptionId: string,
  hour: string,
  bytes: bigint,
  options: { node?: number; engine?: number; day?: string } = {},
): Promise<void> {
  const { node = 0, engine = 1, day = hour.slice(0, 10) } = options;
  const values = [tenantId, day, hour, nodes[node], engine, bytes];
  await world.query(
    `WITH fine AS (
       INSERT INTO usage_hour AS h (tenant_id, day, subscription_id, hour, node_id, engine, up_bytes, down_bytes, billable_bytes)
       VALUES ($1, $2, $7, $3, $4, $5, $6, 1, $6) ON CONFLICT (tenant_id, day, subscription_id, hour, node_id, engine)
       DO UPDATE SET up_bytes = h.up_bytes + excluded.up_bytes, down_bytes = h.down_bytes + 1,
         billable_bytes = h.billable_bytes + excluded.billable_bytes)
     INSERT INTO usage_node_hour AS h (tenant_id, day, hour, node_id, engine, up_bytes, down_bytes, billable_bytes, updated_at)
     VALUES ($1, $2, $3, $4, $5, $6, 1, $6, now()) ON CONFLICT (tenant_id, day, hour, node_id, engine)
     DO UPDATE SET up_bytes = h.up_bytes + excluded.up_bytes, down_bytes = h.down_bytes + 1,
       billable_bytes = h.billable_bytes + excluded.billable_bytes, updated_at = excluded.updated_at`,
    [...values, subscriptionId],
  );
}

const days = (tenantId: string) =>
  world.query<{ day: string; up: string }>(
    'SELECT day::text, sum(up_bytes)::text AS up FROM usage_day WHERE tenant_id = $1 GROUP BY day ORDER BY day',
    [tenantId],
  );

interface StatementRow {
  statement_id: string;
  header: string;
  signature: Buffer;
  digest: Buffer;
  public_key: Buffer;
}

async function statements(tenantId: string): Promise<(StatementRow & { parsed: StatementHeader })[]> {
  const rows = await world.query<StatementRow & { [key: string]: unknown }>(
    `SELECT s.*, k.public_key FROM statement s JOIN statement_key k USING (key_id) WHERE tenant_id = $1 ORDER BY month`,
    [tenantId],
  );
  return rows.map((row) => ({ ...row, parsed: JSON.parse(row.header) as StatementHeader }));
}

async function* file(tenantId: string, row: StatementRow): AsyncGenerator<string> {
  yield row.header;
  const publicKey = row.public_key.toString('base64');
  yield JSON.stringify({ signature: row.signature.toString('base64'), publicKey });
  for await (const line of statementLines(pool, tenantId, row.statement_id)) yield lineText(line).trimEnd();
}

describe('days of usage', () => {
  it('are the sum of their hours, made again when an hour grows, also long ago', async () => {
    const tenantId = await tenant('UTC', '2026-01-01T00:00:00Z');
    const subscription = newId();
    await use(tenantId, subscription, '2026-03-01T00:00:00Z', 5n);
    await use(tenantId, subscription, '2026-03-01T23:00:00Z', 7n, { node: 1 });
    await use(tenantId, newId(), '2026-03-02T00:00:00Z', 100n);
    expect((await rollUsage(deps, { everything: false })).days).toBe(2);
    expect(await days(tenantId)).toEqual([
      { day: '2026-03-01', up: '12' },
      { day: '2026-03-02', up: '100' },
    ]);
    expect((await rollUsage(deps, { everything: true })).days).toBe(0);
    await use(tenantId, subscription, '2026-03-01T23:00:00Z', 1n, { node: 1 });
    expect((await rollUsage(deps, { everything: false })).days).toBe(1);
    expect((await days(tenantId))[0]?.up).toBe('13');
  });

  it('wait for a flush that is under way and then take all of it', async () => {
    const tenantId = await tenant('UTC', '2026-01-01T00:00:00Z');
    const subscription = newId();
    await use(tenantId, subscription, '2026-03-01T00:00:00Z', 5n);
    await world.query('BEGIN');
    await use(tenantId, subscription, '2026-03-01T00:00:00Z', 6n);
    expect((await rollUsage(deps, { everything: false, tenantId })).days).toBe(1);
    expect(await days(tenantId)).toEqual([{ day: '2026-03-01', up: '5' }]);
    await world.query('COMMIT');
    expect((await rollUsage(deps, { everything: false, tenantId })).days).toBe(1);
    expect(await days(tenantId)).toEqual([{ day: '2026-03-01', up: '11' }]);
  });

  it('stay when their hours are no longer kept', async () => {
    const partitions = createPool(world.database.url('penstock_partitions'), {
      applicationName: 'test',
      max: 1,
    });
    const tenantId = await tenant('UTC', '2020-01-01T00:00:00Z');
    const subscription = newId();
    const old = new Date(Date.now() - (SERIES_DAYS_KEPT + 62) * 86_400_000).toISOString();
    await world.query('SELECT make_series_partitions($1, 1)', [old.slice(0, 10)]);
    await use(tenantId, subscription, old, 5n);
    await rollUsage(deps, { everything: true, tenantId });
    await keepPartitions(partitions);
    await partitions.end();
    const left = await world.query('SELECT FROM usage_hour WHERE tenant_id = $1', [tenantId]);
    expect(left).toHaveLength(0);
    await use(tenantId, subscription, old, 1n);
    await rollUsage(deps, { everything: true, tenantId });
    expect((await days(tenantId))[0]?.up).toBe('5');
    expect((await rollUsage(deps, { everything: true, tenantId })).days).toBe(0);
  });
});

it('hours are kept as long as the platform’s settings say', async () => {
  const months = async (): Promise<number> =>
    (await world.query(`SELECT FROM pg_inherits WHERE inhparent = 'usage_hour'::regclass`)).length;
  await world.query(`SELECT make_series_partitions((now() - interval '200 days')::date, 1)`);
  const before = await months();
  const partitions = createPool(world.database.url('penstock_partitions'), {
    applicationName: 'test',
    max: 1,
  });
  const keeper = partitionKeeper(partitions, schedulerMetrics(createMetrics()));
  await keeper.run(pool);
  expect(await months()).toBe(before);
  await world.query(`INSERT INTO setting (key, value, updated_at) VALUES ('usageHourDays', '100', now())`);
  await keeper.run(pool);
  expect(await months()).toBe(before - 1);
  await partitions.end();
});

describe('statements', () => {
  it('are closed once for each month of the tenant’s zone, 48 hours after its end, and form a chain', async () => {
    const tenantId = await tenant('Asia/Kolkata', '2026-03-31T19:00:00Z');
    const subscription = newId();
    // 00:00 of 1 May in Kolkata.
    await use(tenantId, subscription, '2026-04-30T18:30:00Z', 1000n, { day: '2026-05-01' });
    await use(tenantId, subscription, '2026-04-30T17:30:00Z', 7n, { day: '2026-04-30' });
    await use(tenantId, subscription, '2026-04-29T17:30:00Z', 3n, { day: '2026-04-29', engine: 2, node: 1 });
    const due = Date.parse('2026-05-02T18:30:00Z');
    await closeDue(deps, due - 1);
    expect(await statements(tenantId)).toEqual([]);
    await Promise.all([closeDue(deps, due)]);
    const [april] = await statements(tenantId);
    expect(april?.parsed).toMatchObject({
      ...{ month: '2026-04', timeZone: 'Asia/Kolkata', lines: 2, previous: null },
      ...{ usage: { upBytes: '10', downBytes: '2', billableBytes: '10' } },
      corrections: { lines: 0, upBytes: '0', downBytes: '0', billableBytes: '0' },
    });
    await closeDue(deps, due);
    await closeDue(deps, Date.parse('2026-07-15T00:00:00Z'));
    const all = await statements(tenantId);
    expect(all.map((s) => s.parsed.month)).toEqual(['2026-04', '2026-05', '2026-06']);
    expect(all[1]?.parsed.usage.upBytes).toBe('1000');
    expect(all[2]?.parsed.lines).toBe(0);
    all.forEach((row, i) => {
      const key = createPublicKey({ key: row.public_key, format: 'der', type: 'spki' });
      expect(verify(null, Buffer.from(row.header), key, row.signature)).toBe(true);
      expect(row.digest).toEqual(createHash('sha256').update(row.header).digest());
      expect(row.parsed.previous).toBe(i === 0 ? null : all[i - 1]?.digest.toString('hex'));
    });
  });

  it('correct late usage in the next one, so that all lines together are all usage', async () => {
    const tenantId = await tenant('UTC', '2026-04-01T00:00:00Z');
    const [one, two] = [newId(), newId()];
    await use(tenantId, one, '2026-04-10T00:00:00Z', 100n);
    await closeDue(deps, Date.parse('2026-05-03T00:00:00Z'));
    await use(tenantId, one, '2026-04-10T00:00:00Z', 11n);
    await use(tenantId, two, '2026-04-30T23:00:00Z', 5n, { engine: 2 });
    await use(tenantId, two, '2026-05-01T00:00:00Z', 50n, { engine: 2 });
    await closeDue(deps, Date.parse('2026-06-03T00:00:00Z'));
    await closeDue(deps, Date.parse('2026-07-03T00:00:00Z'));
    const [, may, june] = await statements(tenantId);
    expect(may?.parsed.usage.upBytes).toBe('50');
    expect(may?.parsed.corrections).toEqual({
      ...{ lines: 2, upBytes: '16', downBytes: '2', billableBytes: '16' },
    });
    expect(june?.parsed.corrections.lines).toBe(0);
    const lines = await world.query<{ sum: string }>(
      'SELECT sum(up_bytes)::text AS sum FROM statement_line WHERE tenant_id = $1',
      [tenantId],
    );
    expect(lines[0]?.sum).toBe('166');
  });

  it('are signed by the key that is not retired; what an old one signed verifies', async () => {
    const tenantId = await tenant('UTC', '2026-04-01T00:00:00Z');
    await closeDue(deps, Date.parse('2026-05-03T00:00:00Z'));
    const made = await replaceKey(world);
    await closeDue(deps, Date.parse('2026-06-03T00:00:00Z'));
    const [april, may] = (await statements(tenantId)) as unknown as [StatementRow, StatementRow];
    expect(april.public_key).not.toEqual(made.publicKey);
    expect(may.public_key).toEqual(made.publicKey);
    for (const row of [april, may]) expect((await verifyStatement(file(tenantId, row))).problem).toBeNull();
  });

  it('wait for their key while it is being replaced, and take the new one', async () => {
    const tenantId = await tenant('UTC', '2026-04-01T00:00:00Z');
    await closeDue(deps, Date.parse('2026-05-03T00:00:00Z'));
    await world.query('BEGIN');
    const made = await replaceKey(world);
    const closing = closeDue(deps, Date.parse('2026-06-03T00:00:00Z'));
    await waiting(`query LIKE '%statement keys%'`);
    await world.query('COMMIT');
    expect(await closing).toBeGreaterThan(0);
    expect((await statements(tenantId)).at(-1)?.public_key).toEqual(made.publicKey);
  });

  it('wait for a first key that another is making, and make none beside it', async () => {
    const tenantId = await tenant('UTC', '2026-04-01T00:00:00Z');
    await world.query('UPDATE statement_key SET retired_at = now() WHERE retired_at IS NULL');
    await world.query('BEGIN');
    const made = await replaceKey(world);
    const closing = closeDue(deps, Date.parse('2026-05-03T00:00:00Z'));
    await waiting(`query LIKE '%statement keys%'`);
    await world.query('COMMIT');
    expect(await closing).toBeGreaterThan(0);
    expect((await statements(tenantId)).at(-1)?.public_key).toEqual(made.publicKey);
  });

  it('hold no rotation up while their lines are made, and are signed by the key of then', async () => {
    const tenantId = await tenant('UTC', '2026-04-01T00:00:00Z');
    await closeDue(deps, Date.parse('2026-05-03T00:00:00Z'));
    await use(tenantId, newId(), '2026-05-10T00:00:00Z', 100n);
    const other = createClient(world.database.superuserUrl, 'test');
    await other.connect();
    try {
      await other.query('BEGIN');
      await other.query('LOCK TABLE statement_line IN SHARE MODE');
      const closing = closeDue(deps, Date.parse('2026-06-03T00:00:00Z'));
      await waiting(`query LIKE '%INSERT INTO statement_line%'`);
      await world.query(`SET lock_timeout = '5s'`);
      await world.query('BEGIN');
      const made = await replaceKey(world).finally(() => world.query('COMMIT'));
      await other.query('ROLLBACK');
      expect(await closing).toBeGreaterThan(0);
      const [row] = (await statements(tenantId)).slice(-1) as unknown as [StatementRow];
      expect(row.public_key).toEqual(made.publicKey);
      expect((await verifyStatement(file(tenantId, row))).problem).toBeNull();
    } finally {
      await world.query('RESET lock_timeout');
      await other.end();
    }
  });

  it('cannot be changed by anybody, and a changed file is found out', async () => {
    const tenantId = await tenant('UTC', '2026-04-01T00:00:00Z');
    await use(tenantId, newId(), '2026-04-10T00:00:00Z', 100n);
    await use(tenantId, newId(), '2026-04-11T00:00:00Z', 200n, { engine: 2 });
    await closeDue(deps, Date.parse('2026-05-03T00:00:00Z'));
    for (const change of [
      'UPDATE statement_line SET up_bytes = 1',
      'DELETE FROM statement',
      'TRUNCATE statement_line',
    ])
      await expect(world.query(change)).rejects.toThrow(/append-only/);
    const [row] = (await statements(tenantId)) as unknown as [StatementRow];
    const lines: string[] = [];
    for await (const line of file(tenantId, row)) lines.push(line);
    const judge = (changed: string[]) => verifyStatement(asAsync(changed));
    const good = await judge(lines);
    expect(good.problem).toBeNull();
    expect(good.digest).toBe(row.digest.toString('hex'));
    expect((await judge(lines.slice(0, -1))).problem).toMatch(/2 lines were signed, 1/);
    const more = lines.map((line) => line.replace('"100"', '"900"'));
    expect((await judge(more)).problem).toMatch(/not those that were signed/);
    const header = lines.with(0, (lines[0] as string).replace('2026-04', '2026-05'));
    expect((await judge(header)).problem).toMatch(/signature/);
    await expect(judge(['{}', '{}'])).rejects.toThrow(RangeError);
    await expect(judge([])).rejects.toThrow(RangeError);
  });
});

/** As control-api does. */
async function replaceKey(db: Pick<World, 'query'>): Promise<NewStatementKey> {
  const made = newStatementKey(dataKey);
  await db.query(`SELECT pg_advisory_xact_lock(hashtextextended('statement keys', 0))`);
  await db.query('UPDATE statement_key SET retired_at = now() WHERE retired_at IS NULL');
  await db.query('INSERT INTO statement_key (key_id, public_key, private_key) VALUES ($1, $2, $3)', [
    ...[made.keyId, made.publicKey, made.privateSealed],
  ]);
  return made;
}

/** Until a statement of the scheduler's waits for a lock. */
async function waiting(which: string): Promise<void> {
  await vi.waitFor(
    async () => {
      const found = await pool.query(
        `SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database() AND ${which}`,
      );
      expect(found.rowCount).toBe(1);
    },
    { timeout: 10_000 },
  );
}

async function* asAsync(lines: string[]): AsyncGenerator<string> {
  for (const line of lines) yield await Promise.resolve(line);
}
