// The life of a subscription on server time: every act happens exactly once, also when it is asked for again, when two
// schedulers look at the same time, and when the scheduler was away while it became due.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPool, type Pool } from '@penstock/db/pool';
import { newId, type NodeId, type PlanId, type TenantId } from '@penstock/domain/ids';
import { watchPools } from '../src/tasks/pool-watch.js';
import { eventually, World, type MadeSubscription, type RunningScheduler } from './world.js';

const DAY_MS = 86_400_000;

let world: World;
let pool: Pool;
let tenantId: TenantId;
let nodeId: NodeId;
let planId: PlanId;

beforeAll(async () => {
  world = await World.create();
  pool = createPool(world.database.url('penstock_scheduler'), { applicationName: 'test' });
  tenantId = await world.tenant();
  nodeId = await world.node();
  planId = await world.plan(tenantId, [nodeId]);
});
afterAll(async () => {
  await pool.end();
  await world.close();
});

type Terms = Parameters<World['subscribe']>[2];

interface Row {
  on_hold: boolean;
  activated_at: Date | null;
  expires_at: Date | null;
  plan_id: PlanId;
  next_plan_id: PlanId | null;
  limit_bytes: bigint | null;
  version: number;
}

/** A subscription with further columns, made before any scheduler looks. */
async function make(
  terms: Terms = {},
  set = 'version = 1',
  values: unknown[] = [],
): Promise<MadeSubscription> {
  const sub = await world.subscribe(tenantId, planId, terms);
  await world.edit(sub, set, values);
  return sub;
}

async function row(sub: MadeSubscription): Promise<Row> {
  const [found] = await world.query<Row & Record<string, unknown>>(
    'SELECT * FROM subscription WHERE subscription_id = $1',
    [sub.subscriptionId],
  );
  if (found === undefined) throw new Error('it vanished');
  return found;
}

const periods = (sub: MadeSubscription) =>
  world.query<{
    period_id: string;
    started_at: Date;
    ends_at: Date | null;
    limit_bytes: bigint | null;
    extra_bytes: bigint;
    awaits_use: boolean;
  }>('SELECT * FROM usage_period WHERE subscription_id = $1 ORDER BY started_at', [sub.subscriptionId]);

const acts = async (sub: MadeSubscription): Promise<string[]> =>
  (
    await world.query<{ kind: string }>(
      'SELECT kind FROM subscription_act WHERE subscription_id = $1 AND done_at IS NOT NULL ORDER BY done_at',
      [sub.subscriptionId],
    )
  ).map((act) => act.kind);

/** What control-api leaves: the act and its access_change, in one transaction. */
async function ask(sub: MadeSubscription, kind: string, bytes: bigint | null = null): Promise<void> {
  await world.query(
    `WITH act AS (INSERT INTO subscription_act (tenant_id, act_id, subscription_id, kind, bytes) VALUES ($1, $2, $3, $4, $5))
     INSERT INTO access_change (tenant_id, change_id, subscription_id, cause) VALUES ($1, $6, $3, 'edit')`,
    [tenantId, newId(), sub.subscriptionId, kind, bytes?.toString() ?? null, newId()],
  );
}

/** What a collector leaves in the transaction that accepts the first real use. */
async function firstUse(sub: MadeSubscription, ago = '0 s', times = 1): Promise<void> {
  await world.query(
    `INSERT INTO access_change (tenant_id, change_id, subscription_id, cause, created_at)
     SELECT $1, gen_random_uuid(), $2, 'first_use', clock_timestamp() - $3::interval FROM generate_series(1, $4)`,
    [tenantId, sub.subscriptionId, ago, times],
  );
}

/** What a collector's flush leaves in the current period. */
async function use(sub: MadeSubscription, bytes: bigint): Promise<void> {
  await world.query(
    `INSERT INTO usage_counter SELECT tenant_id, subscription_id, period_id, 0, $2, $2, now() FROM usage_period
     WHERE subscription_id = $1 AND started_at <= now() AND (ends_at IS NULL OR ends_at > now())
     ON CONFLICT (tenant_id, subscription_id, period_id) DO UPDATE SET billable_bytes = usage_counter.billable_bytes + $2`,
    [sub.subscriptionId, bytes.toString()],
  );
  await world.crossing(sub, bytes);
}

async function nextPlan(terms: {
  limitBytes?: bigint;
  durationDays?: number;
  next?: PlanId;
}): Promise<PlanId> {
  const id = await world.plan(tenantId, [nodeId]);
  await world.query(
    'UPDATE plan SET limit_bytes = $2, duration_days = $3, next_plan_id = $4 WHERE plan_id = $1',
    [...[id, terms.limitBytes?.toString() ?? null, terms.durationDays ?? null, terms.next ?? null]],
  );
  return id;
}

async function twoSchedulers(work: (one: RunningScheduler) => Promise<void>): Promise<void> {
  const both = [await world.scheduler(), await world.scheduler()];
  try {
    await work(both[0] as RunningScheduler);
  } finally {
    for (const each of both) await world.stop(each);
  }
}

describe('on hold', () => {
  it('it may connect, its use is billed in a period that waits, and the first use starts its time once', () =>
    twoSchedulers(async (scheduler) => {
      const sub = await make({ period: 'day' }, 'on_hold = true, duration_days = 30');
      const agent = await world.agent(scheduler, nodeId);
      await eventually(() => agent.has(sub.subscriptionId));
      expect(await world.state(sub)).toBe('on_hold');
      expect(await periods(sub)).toMatchObject([{ ends_at: null, awaits_use: true }]);
      expect(await row(sub)).toMatchObject({ on_hold: true, expires_at: null });
      await firstUse(sub, '0 s', 6);
      await eventually(async () => (await world.state(sub)) === 'active');
      await world.idle();
      const started = await row(sub);
      const days = (Number(started.expires_at) - Number(started.activated_at)) / DAY_MS;
      expect([started.on_hold, days]).toEqual([false, 30]);
      expect(await acts(sub)).toEqual(['start']);
      const [first] = await periods(sub);
      expect([first?.awaits_use, first?.ends_at !== null]).toEqual([false, true]);
      // No node was told anything: it had access all the time.
      expect((await world.orders(sub)).map((order) => order.kind)).toEqual(['grant']);
      await firstUse(sub);
      await world.idle();
      expect(await row(sub)).toEqual(started);
    }));

  it('used while the scheduler was away: its time began when it was used, and its days since then are opened', async () => {
    const before = await world.scheduler();
    const sub = await make(
      { period: 'day' },
      `on_hold = true, duration_days = 30, created_at = now() - interval '9 d'`,
    );
    await eventually(async () => (await periods(sub)).length === 1);
    await world.idle();
    await world.stop(before);
    await firstUse(sub, '3 days');
    await twoSchedulers(async () => {
      await eventually(async () => (await world.state(sub)) === 'active');
      const started = await row(sub);
      expect(Date.now() - Number(started.activated_at)).toBeGreaterThan(2.9 * DAY_MS);
      expect(Number(started.expires_at) - Number(started.activated_at)).toBe(30 * DAY_MS);
      const rows = await periods(sub);
      // That of the hold, one for each midnight since, and perhaps the next, opened ahead.
      expect(rows.length).toBeGreaterThanOrEqual(4);
      expect(rows.length).toBeLessThanOrEqual(5);
      for (const [n, one] of rows.entries()) if (n > 0) expect(one.started_at).toEqual(rows[n - 1]?.ends_at);
      expect(await acts(sub)).toEqual(['start']);
    });
  });

  it('a deadline starts it without any use, once, also when it passed in a downtime', async () => {
    const sub = await make(
      {},
      `on_hold = true, duration_days = 10, hold_deadline = now() - interval '1 day'`,
    );
    await twoSchedulers(async () => {
      await eventually(async () => (await world.state(sub)) === 'active');
      const started = await row(sub);
      expect(Number(started.expires_at) - Number(started.activated_at)).toBe(10 * DAY_MS);
      expect(Date.now() - Number(started.activated_at)).toBeGreaterThan(0.9 * DAY_MS);
      expect(await acts(sub)).toEqual(['start']);
      const later = await make({}, `on_hold = true, hold_deadline = now() + interval '1 second'`);
      await eventually(async () => (await world.state(later)) === 'on_hold');
      await eventually(async () => (await world.state(later)) === 'active');
      expect(await acts(later)).toEqual(['start']);
    });
  });
});

describe('what was asked for', () => {
  it('a reset: the old period is kept with what was used, a new one counts from now, and access comes back once [V48, V49]', () =>
    twoSchedulers(async (scheduler) => {
      const sub = await make({ limitBytes: 100n, period: 'month' });
      const neighbour = await make({ limitBytes: 100n, period: 'month' });
      const agent = await world.agent(scheduler, nodeId);
      await eventually(() => agent.has(sub.subscriptionId) && agent.has(neighbour.subscriptionId));
      await use(sub, 150n);
      await use(neighbour, 160n);
      await eventually(() => !agent.has(sub.subscriptionId) && !agent.has(neighbour.subscriptionId));
      const counters = (one: MadeSubscription) =>
        world.query('SELECT * FROM usage_counter WHERE subscription_id = $1', [one.subscriptionId]);
      const ofNeighbour = async () => [await periods(neighbour), await counters(neighbour)];
      const before = await ofNeighbour();
      const [old] = await periods(sub);
      await ask(sub, 'reset');
      await eventually(() => agent.has(sub.subscriptionId));
      await world.idle();
      const [ended, begun] = (await periods(sub)).filter((one) => one.started_at <= new Date());
      expect(ended).toMatchObject({ period_id: old?.period_id, ends_at: begun?.started_at });
      expect(begun).toMatchObject({ limit_bytes: 100n, extra_bytes: 0n, ends_at: old?.ends_at });
      expect(
        await world.query('SELECT billable_bytes FROM usage_counter WHERE subscription_id = $1', [
          sub.subscriptionId,
        ]),
      ).toEqual([{ billable_bytes: 150n }]);
      expect(await acts(sub)).toEqual(['reset']);
      await eventually(async () => (await world.orders(sub)).every((order) => order.state === 'confirmed'));
      expect((await world.orders(sub)).map((order) => order.kind)).toEqual(['grant', 'cut', 'grant']);
      // Nobody else is reset with it: his period, his sum and his cut stand.
      expect(await ofNeighbour()).toEqual(before);
      expect(agent.has(neighbour.subscriptionId)).toBe(false);
    }));

  it('a top-up adds to the current period alone, each once, whatever the order and however many at a time', () =>
    twoSchedulers(async () => {
      const sub = await make({ limitBytes: 100n });
      await eventually(async () => (await world.state(sub)) === 'active');
      await use(sub, 120n);
      await eventually(async () => (await world.state(sub)) === 'limited');
      for (const bytes of [10n, 20n, 30n, 40n]) await ask(sub, 'top_up', bytes);
      await eventually(async () => (await world.state(sub)) === 'active');
      await world.idle();
      expect(await periods(sub)).toMatchObject([{ limit_bytes: 200n, extra_bytes: 100n }]);
      expect(await acts(sub)).toEqual(['top_up', 'top_up', 'top_up', 'top_up']);
      await world.edit(sub, 'limit_bytes = 50');
      await eventually(async () => (await periods(sub))[0]?.limit_bytes === 150n);
      expect(await row(sub)).toMatchObject({ limit_bytes: 50n });
      await ask(sub, 'reset');
      await eventually(async () => (await periods(sub)).length === 2);
      expect((await periods(sub))[1]).toMatchObject({ limit_bytes: 50n, extra_bytes: 0n });
      // More than there can be is all there can be.
      await ask(sub, 'top_up', 9_223_372_036_854_775_807n);
      await ask(sub, 'top_up', 9_223_372_036_854_775_807n);
      await eventually(async () => (await acts(sub)).length === 7);
      expect((await periods(sub))[1]).toMatchObject({ limit_bytes: 9_223_372_036_854_775_807n });
    }));

  it('acts asked for while the scheduler is away are carried out once and in order when it is back', async () => {
    const before = await world.scheduler();
    const sub = await make({ limitBytes: 100n });
    await eventually(async () => (await world.state(sub)) === 'active');
    await use(sub, 100n);
    await eventually(async () => (await world.state(sub)) === 'limited');
    await world.stop(before);
    await ask(sub, 'top_up', 7n);
    await ask(sub, 'reset');
    await ask(sub, 'top_up', 9n);
    await twoSchedulers(async () => {
      await eventually(async () => (await world.state(sub)) === 'active');
      await world.idle();
      expect(await periods(sub)).toMatchObject([
        { limit_bytes: 107n, extra_bytes: 7n },
        { limit_bytes: 109n, extra_bytes: 9n, ends_at: null },
      ]);
      expect(await acts(sub)).toEqual(['top_up', 'reset', 'top_up']);
    });
  });

  it('a period that was opened ahead becomes the new one: the fresh quota is not given twice', async () => {
    const sub = await make({ period: 'day', limitBytes: 100n });
    const scheduler = await world.scheduler();
    await eventually(async () => (await world.state(sub)) === 'active');
    await world.idle();
    await world.query(
      `WITH gone AS (DELETE FROM usage_period WHERE subscription_id = $1 AND started_at > now())
       UPDATE usage_period SET ends_at = now() + interval '10 minutes' WHERE subscription_id = $1 AND started_at <= now()`,
      [sub.subscriptionId],
    );
    await world.query(
      `INSERT INTO usage_period SELECT tenant_id, subscription_id, $2, ends_at, ends_at + interval '1 day', 100
       FROM usage_period WHERE subscription_id = $1`,
      [sub.subscriptionId, newId()],
    );
    await ask(sub, 'reset');
    await eventually(async () => (await acts(sub)).length === 1);
    await world.idle();
    const rows = await periods(sub);
    const current = rows.filter((one) => one.started_at <= new Date());
    expect(current).toHaveLength(2);
    for (const [n, one] of rows.entries()) if (n > 0) expect(one.started_at).toEqual(rows[n - 1]?.ends_at);
    expect(Number(rows[1]?.ends_at) % DAY_MS).toBe(0);
    await world.stop(scheduler);
  });
});

describe('a next plan', () => {
  it('begins where the quota is used up, once, and its own next plan waits', () =>
    twoSchedulers(async (scheduler) => {
      const last = await nextPlan({ limitBytes: 30n });
      const next = await nextPlan({ limitBytes: 200n, durationDays: 5, next: last });
      const sub = await make({ limitBytes: 100n }, 'next_plan_id = $3, next_plan_at = now()', [next]);
      const agent = await world.agent(scheduler, nodeId);
      await eventually(() => agent.has(sub.subscriptionId));
      for (let n = 0; n < 4; n++) await use(sub, 100n);
      await eventually(async () => (await row(sub)).plan_id === next);
      await world.idle();
      expect(await row(sub)).toMatchObject({ limit_bytes: 200n, next_plan_id: last });
      expect(await acts(sub)).toEqual(['next_plan']);
      expect(await periods(sub)).toMatchObject([{ limit_bytes: 100n }, { limit_bytes: 200n, ends_at: null }]);
      expect(await world.state(sub)).toBe('active');
      expect(agent.has(sub.subscriptionId)).toBe(true);
    }));

  it('follows a term without a gap and without a gift, also when several ended while the scheduler was away', async () => {
    const daily = await nextPlan({ limitBytes: 10n, durationDays: 1 });
    await world.query('UPDATE plan SET next_plan_id = plan_id WHERE plan_id = $1', [daily]);
    const ended = new Date(Date.now() - 3.5 * DAY_MS);
    const sub = await make(
      { limitBytes: 100n, expiresAt: ended },
      `next_plan_id = $3, next_plan_at = now() - interval '20 d'`,
      [daily],
    );
    await twoSchedulers(async () => {
      await eventually(async () => (await world.state(sub)) === 'active');
      await world.idle();
      const now = await row(sub);
      expect(now.expires_at).toEqual(new Date(ended.getTime() + 4 * DAY_MS));
      expect(now).toMatchObject({ plan_id: daily, next_plan_id: daily, limit_bytes: 10n });
      expect(await acts(sub)).toEqual(['next_plan', 'next_plan', 'next_plan', 'next_plan']);
    });
  });

  it('given to one that had expired before, counts from when it was given', async () => {
    const next = await nextPlan({ durationDays: 2 });
    const scheduler = await world.scheduler();
    const sub = await make({ expiresAt: new Date(Date.now() - 40 * DAY_MS) });
    await eventually(async () => (await world.state(sub)) === 'expired');
    await world.edit(sub, 'next_plan_id = $3, next_plan_at = now()', [next]);
    await eventually(async () => (await world.state(sub)) === 'active');
    expect(Number((await row(sub)).expires_at) - Date.now()).toBeGreaterThan(1.9 * DAY_MS);
    expect(await acts(sub)).toEqual(['next_plan']);
    await world.stop(scheduler);
  });

  it('of no bytes at all does not follow itself without end, and a disabled one waits', async () => {
    const none = await nextPlan({ limitBytes: 0n });
    await world.query('UPDATE plan SET next_plan_id = plan_id WHERE plan_id = $1', [none]);
    const scheduler = await world.scheduler();
    const set = 'next_plan_id = $3, next_plan_at = now()';
    const sub = await make({ limitBytes: 100n }, set, [none]);
    const disabled = await make({ expiresAt: new Date(Date.now() - DAY_MS), adminState: 'disabled' }, set, [
      none,
    ]);
    await eventually(async () => (await world.state(sub)) === 'active');
    await use(sub, 100n);
    await eventually(async () => (await world.state(sub)) === 'limited');
    await world.idle();
    expect(await acts(sub)).toEqual(['next_plan']);
    expect(await acts(disabled)).toEqual([]);
    await world.stop(scheduler);
  });
});

it('a tenant’s pool: used up, all its subscriptions are cut with that reason; the month over or the pool raised, let in', async () => {
  const scheduler = await world.scheduler();
  const [rich, poor] = [await world.tenant('Asia/Tokyo'), await world.tenant()];
  const [richPlan, poorPlan] = [await world.plan(rich, [nodeId]), await world.plan(poor, [nodeId])];
  const neighbour = await world.subscribe(poor, poorPlan);
  const subs = [await world.subscribe(rich, richPlan), await world.subscribe(rich, richPlan)];
  const all = (state: string): Promise<boolean> =>
    world
      .query<{ state: string }>(
        'SELECT effective_state AS state FROM subscription_state WHERE tenant_id = $1',
        [rich],
      )
      .then((rows) => rows.length === subs.length && rows.every((each) => each.state === state));
  await eventually(() => all('active'));
  await world.query('UPDATE tenant SET limit_pool_bytes = 1000 WHERE tenant_id = ANY ($1::uuid[])', [
    [rich, poor],
  ]);
  const month = (bytes: bigint, back: string): Promise<unknown> =>
    world.query(
      `INSERT INTO tenant_month SELECT tenant_id, date_trunc('month', now() AT TIME ZONE time_zone) - $3::interval, $2
       FROM tenant WHERE tenant_id = $1 ON CONFLICT (tenant_id, month) DO UPDATE SET billable_bytes = $2`,
      [rich, bytes.toString(), back],
    );
  await month(5_000n, '1 month');
  expect(await watchPools(pool)).toBe(0);
  await month(1_000n, '0');
  await eventually(() => all('limited'));
  const reasons = await world.query(
    'SELECT DISTINCT effective_state, reason FROM subscription_state WHERE tenant_id = $1',
    [rich],
  );
  expect(reasons).toEqual([{ effective_state: 'limited', reason: 'pool' }]);
  expect(await world.state(neighbour)).toBe('active');
  await world.idle();
  expect(await watchPools(pool)).toBe(0);
  await world.query('UPDATE tenant SET limit_pool_bytes = 1001 WHERE tenant_id = $1', [rich]);
  await eventually(() => all('active'));
  // A downtime over the end of the month: what was used up is free again, once.
  await month(2_000n, '0');
  await eventually(() => all('limited'));
  await world.stop(scheduler);
  await world.query(`UPDATE tenant_month SET month = month - interval '2 months' WHERE tenant_id = $1`, [
    rich,
  ]);
  const awake = await world.scheduler();
  await eventually(() => all('active'));
  await world.stop(awake);
});
