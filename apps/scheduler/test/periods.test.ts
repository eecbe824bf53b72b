import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPool, type Pool } from '@penstock/db/pool';
import { alignPeriods } from '../src/quota/quota.store.js';
import { sweepEnding, sweepRolled } from '../src/tasks/period-roll.js';
import { keepPartitions } from '../src/tasks/partition-keeper.js';
import { eventually, World, type MadeSubscription } from './world.js';

let world: World;
let pool: Pool;

beforeAll(async () => {
  world = await World.create();
  pool = createPool(world.database.url('penstock_scheduler'), { applicationName: 'test' });
});
afterAll(async () => {
  await pool.end();
  await world.close();
});

type Terms = Parameters<World['subscribe']>[2];

async function subscription(timeZone: string, terms: Terms): Promise<MadeSubscription> {
  const tenantId = await world.tenant(timeZone);
  return world.subscribe(tenantId, await world.plan(tenantId, []), terms);
}

async function align(sub: MadeSubscription, at: string): Promise<void> {
  await alignPeriods(
    pool,
    { tenantIds: [sub.tenantId], subscriptionIds: [sub.subscriptionId] },
    new Date(at),
  );
}

async function periods(sub: MadeSubscription): Promise<[string, string | null][]> {
  const rows = await world.query<{ started_at: Date; ends_at: Date | null }>(
    'SELECT started_at, ends_at FROM usage_period WHERE subscription_id = $1 ORDER BY started_at',
    [sub.subscriptionId],
  );
  return rows.map((row) => [row.started_at.toISOString(), row.ends_at?.toISOString() ?? null]);
}

describe('periods', () => {
  it("begin at the tenant's midnight, also where the clocks change", async () => {
    const berlin = await subscription('Europe/Berlin', { period: 'day' });
    await align(berlin, '2026-03-28T12:00:00Z');
    await align(berlin, '2026-03-29T12:00:00Z');
    await align(berlin, '2026-03-30T12:00:00Z');
    expect(await periods(berlin)).toEqual([
      ['2026-03-27T23:00:00.000Z', '2026-03-28T23:00:00.000Z'],
      // 23 hours long.
      ['2026-03-28T23:00:00.000Z', '2026-03-29T22:00:00.000Z'],
      ['2026-03-29T22:00:00.000Z', '2026-03-30T22:00:00.000Z'],
    ]);
    const month = await subscription('America/New_York', { period: 'month' });
    await align(month, '2026-03-15T00:00:00Z');
    expect(await periods(month)).toEqual([['2026-03-01T05:00:00.000Z', '2026-04-01T04:00:00.000Z']]);
    const week = await subscription('Asia/Kolkata', { period: 'week' });
    await align(week, '2026-03-18T00:00:00Z');
    expect(await periods(week)).toEqual([['2026-03-15T18:30:00.000Z', '2026-03-22T18:30:00.000Z']]);
  });

  it('without a period last for ever from the activation', async () => {
    const sub = await subscription('UTC', { period: 'none' });
    await align(sub, new Date().toISOString());
    await align(sub, '2027-01-01T00:00:00Z');
    const rows = await periods(sub);
    expect(rows).toHaveLength(1);
    expect(rows[0]?.[1]).toBeNull();
  });

  it('are opened an hour ahead, each once however often it is asked, and all that a downtime missed', async () => {
    const sub = await subscription('UTC', { period: 'day' });
    await align(sub, '2026-05-01T10:00:00Z');
    await Promise.all(Array.from({ length: 8 }, () => align(sub, '2026-05-05T23:30:00Z')));
    const rows = await periods(sub);
    expect(rows.map(([start]) => start.slice(0, 10))).toEqual([1, 2, 3, 4, 5, 6].map((d) => `2026-05-0${d}`));
    for (const [n, row] of rows.entries()) if (n > 0) expect(row[0]).toBe(rows[n - 1]?.[1]);
  });

  it('whose terms are edited keep what was used: only the end moves', async () => {
    const sub = await subscription('UTC', { period: 'day' });
    await align(sub, '2026-05-01T10:00:00Z');
    await world.query(
      `UPDATE subscription SET period = 'month', limit_bytes = 9 WHERE subscription_id = $1`,
      [sub.subscriptionId],
    );
    await align(sub, '2026-05-01T11:00:00Z');
    expect(await periods(sub)).toEqual([['2026-05-01T00:00:00.000Z', '2026-06-01T00:00:00.000Z']]);
    await world.query(`UPDATE subscription SET period = 'none' WHERE subscription_id = $1`, [
      sub.subscriptionId,
    ]);
    await align(sub, '2026-05-02T11:00:00Z');
    expect(await periods(sub)).toEqual([['2026-05-01T00:00:00.000Z', null]]);
    await world.query(`UPDATE subscription SET period = 'day' WHERE subscription_id = $1`, [
      sub.subscriptionId,
    ]);
    await align(sub, '2026-05-03T11:00:00Z');
    expect(await periods(sub)).toEqual([['2026-05-01T00:00:00.000Z', '2026-05-04T00:00:00.000Z']]);
  });

  it('roll over: who was limited is let back in exactly once, with the old period kept [V49]', async () => {
    const scheduler = await world.scheduler();
    const tenantId = await world.tenant();
    const nodeId = await world.node();
    const sub = await world.subscribe(tenantId, await world.plan(tenantId, [nodeId]), {
      period: 'day',
      limitBytes: 10n,
    });
    const agent = await world.agent(scheduler, nodeId);
    await eventually(() => agent.has(sub.subscriptionId));
    await world.crossing(sub, 12n);
    await eventually(() => !agent.has(sub.subscriptionId));
    await eventually(async () => (await world.orders(sub)).every((o) => o.state === 'confirmed'));
    // The scheduler sleeps through midnight: the day that ran is over, and the one after it was never opened.
    await world.stop(scheduler);
    await world.query(
      `WITH gone AS (DELETE FROM usage_period WHERE subscription_id = $1 AND started_at > now())
       UPDATE usage_period SET started_at = started_at - interval '1 day', ends_at = ends_at - interval '1 day'
       WHERE subscription_id = $1 AND started_at <= now()`,
      [sub.subscriptionId],
    );
    await world.query(
      `UPDATE subscription_state SET since = since - interval '1 day' WHERE subscription_id = $1`,
      [sub.subscriptionId],
    );
    const awake = await world.scheduler();
    await agent.connect(awake.port);
    await eventually(() => agent.has(sub.subscriptionId));
    await eventually(async () => (await world.orders(sub)).every((o) => o.state === 'confirmed'));
    expect((await world.orders(sub)).map((o) => [o.kind, o.cause])).toEqual([
      ['grant', 'edit'],
      ['cut', 'crossing'],
      ['grant', 'period'],
    ]);
    expect(await sweepEnding(pool, 86_400_000)).toBe(0);
    expect(await sweepRolled(pool)).toBe(0);
    const rows = await world.query<{ observed_bytes: bigint }>(
      'SELECT observed_bytes FROM usage_period WHERE subscription_id = $1 ORDER BY started_at',
      [sub.subscriptionId],
    );
    expect(rows[0]?.observed_bytes).toBe(12n);
    expect(rows[1]?.observed_bytes).toBe(0n);
    await world.stop(awake);
  });
});

it('partitions are made for the days ahead, and making them again makes none', async () => {
  const partitions = createPool(world.database.url('penstock_partitions'), {
    applicationName: 'test',
    max: 1,
  });
  try {
    await world.query(`DO $$ DECLARE d date := current_date + 5; BEGIN
      EXECUTE format('DROP TABLE ledger_frame_%s, ledger_slice_%s', to_char(d, 'YYYYMMDD'), to_char(d, 'YYYYMMDD')); END $$`);
    expect(await keepPartitions(partitions)).toBe(2);
    expect(await keepPartitions(partitions)).toBe(0);
  } finally {
    await partitions.end();
  }
});
