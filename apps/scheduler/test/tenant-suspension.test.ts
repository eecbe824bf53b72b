// Suspending a tenant is one act: one row in the queue, and every subscription of it is cut on every node it was on;
// resuming gives it back. What concerns another tenant is not touched.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { newId, type TenantId } from '@penstock/domain/ids';
import { eventually, World, type MadeSubscription, type RunningScheduler } from './world.js';

const SUBSCRIPTIONS = 1_200;
let world: World;
let scheduler: RunningScheduler;

beforeAll(async () => {
  world = await World.create();
  scheduler = await world.scheduler();
});
afterAll(() => world.close());

async function act(tenantId: TenantId, state: 'active' | 'suspended'): Promise<void> {
  await world.query('UPDATE tenant SET state = $2 WHERE tenant_id = $1', [tenantId, state]);
  await world.query(`INSERT INTO access_change (tenant_id, change_id, cause) VALUES ($1, $2, 'tenant')`, [
    tenantId,
    newId(),
  ]);
}

async function states(tenantId: TenantId): Promise<Record<string, number>> {
  const rows = await world.query<{ state: string; n: bigint }>(
    `SELECT effective_state || ' ' || reason AS state, count(*) AS n FROM subscription_state WHERE tenant_id = $1 GROUP BY 1`,
    [tenantId],
  );
  return Object.fromEntries(rows.map((row) => [row.state.trim(), Number(row.n)]));
}

it(
  'one row cuts 1,200 subscriptions on both their nodes, and one row gives them back',
  { timeout: 120_000 },
  async () => {
    const nodes = [await world.node(['xray']), await world.node(['xray'])];
    const agents = [await world.agent(scheduler, nodes[0]!), await world.agent(scheduler, nodes[1]!)];
    const tenantId = await world.tenant();
    const other = await world.tenant();
    const planId = await world.plan(tenantId, nodes);
    const subs: MadeSubscription[] = [];
    for (let n = 0; n < SUBSCRIPTIONS; n++) subs.push(await world.subscribe(tenantId, planId));
    const neighbour = await world.subscribe(other, await world.plan(other, nodes));
    const all = [...subs, neighbour];
    await eventually(
      () => all.every((sub) => agents.every((agent) => agent.has(sub.subscriptionId))),
      60_000,
    );

    const started = performance.now();
    await act(tenantId, 'suspended');
    await eventually(
      () => subs.every((sub) => agents.every((agent) => !agent.has(sub.subscriptionId))),
      30_000,
    );
    const took = performance.now() - started;
    expect(took, `${Math.round(took)} ms for ${SUBSCRIPTIONS}`).toBeLessThan(10_000);
    expect(await states(tenantId)).toEqual({ 'disabled tenant_suspended': SUBSCRIPTIONS });
    expect(agents.every((agent) => agent.has(neighbour.subscriptionId))).toBe(true);

    await act(tenantId, 'active');
    await eventually(
      () => subs.every((sub) => agents.every((agent) => agent.has(sub.subscriptionId))),
      30_000,
    );
    expect(await states(tenantId)).toEqual({ active: SUBSCRIPTIONS });
    expect((await world.orders(neighbour)).map((order) => order.kind)).toEqual(['grant', 'grant']);
  },
);
