import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { NodeId, PlanId, TenantId } from '@penstock/domain/ids';
import { newId } from '@penstock/domain/ids';
import { eventually, World, type MadeSubscription, type RunningScheduler } from './world.js';
import type { TestAgent } from './test-agent.js';

let world: World;
let scheduler: RunningScheduler;
let tenantId: TenantId;
let nodeId: NodeId;
let planId: PlanId;
let agent: TestAgent;

beforeAll(async () => {
  world = await World.create();
  scheduler = await world.scheduler();
});
afterAll(() => world.close());
beforeEach(async () => {
  tenantId = await world.tenant();
  nodeId = await world.node(['xray', 'wireguard']);
  planId = await world.plan(tenantId, [nodeId]);
  agent = await world.agent(scheduler, nodeId);
  await eventually(() => agent.revision > 0n);
});

async function granted(sub: MadeSubscription): Promise<void> {
  await eventually(() => agent.has(sub.subscriptionId));
}

async function count(text: string, values: unknown[]): Promise<number> {
  return Number((await world.query<{ n: bigint }>(text, values))[0]?.n);
}

describe('a limit', () => {
  it('once crossed is never undone by a lower counter, and a raised limit lets back in exactly once', async () => {
    const sub = await world.subscribe(tenantId, planId, { limitBytes: 1_000n });
    await granted(sub);
    await world.crossing(sub, 1_200n);
    await eventually(() => !agent.has(sub.subscriptionId));
    // The counter is behind what the collector saw; anything that makes us look again must not let him in.
    await world.query(
      `INSERT INTO usage_counter SELECT tenant_id, subscription_id, period_id, 1, 2, 3, now() FROM usage_period WHERE subscription_id = $1`,
      [sub.subscriptionId],
    );
    await world.changed(tenantId, sub.subscriptionId, 'sweep');
    await world.crossing(sub, 5n);
    await world.idle();
    expect(await world.state(sub)).toBe('limited');
    await world.edit(sub, 'limit_bytes = 1200');
    await world.idle();
    expect(await world.state(sub)).toBe('limited');
    await world.edit(sub, 'limit_bytes = 5000');
    await granted(sub);
    await world.changed(tenantId, sub.subscriptionId);
    await world.idle();
    await eventually(async () => (await world.orders(sub)).every((o) => o.state === 'confirmed'));
    expect((await world.orders(sub)).map((o) => o.kind)).toEqual(['grant', 'cut', 'grant']);
    expect(
      await count('SELECT limit_bytes AS n FROM usage_period WHERE subscription_id = $1', [
        sub.subscriptionId,
      ]),
    ).toBe(5_000);
  });

  it('of another period is kept with that period and cuts nobody in this one', async () => {
    const sub = await world.subscribe(tenantId, planId, { limitBytes: 1_000n, period: 'day' });
    await granted(sub);
    const old = newId();
    await world.query(
      `INSERT INTO usage_period SELECT tenant_id, subscription_id, $2, started_at - interval '1 day', started_at, 1000 FROM usage_period
       WHERE subscription_id = $1 ORDER BY started_at LIMIT 1`,
      [sub.subscriptionId, old],
    );
    await world.query(
      `INSERT INTO access_change (tenant_id, change_id, subscription_id, cause, period_id, observed_bytes) VALUES ($1, $2, $3, 'crossing', $4, 7777)`,
      [tenantId, newId(), sub.subscriptionId, old],
    );
    await world.idle();
    expect(await count('SELECT observed_bytes AS n FROM usage_period WHERE period_id = $1', [old])).toBe(
      7_777,
    );
    expect(await world.state(sub)).toBe('active');
  });
});

describe('nothing is forgotten', () => {
  it('a row that nobody was notified of is found by the sweep', async () => {
    const sub = await world.subscribe(tenantId, planId, { limitBytes: 10n });
    await granted(sub);
    await world.query('ALTER TABLE access_change DISABLE TRIGGER access_change_notify');
    try {
      await world.crossing(sub, 10n);
      await eventually(() => !agent.has(sub.subscriptionId));
    } finally {
      await world.query('ALTER TABLE access_change ENABLE TRIGGER access_change_notify');
    }
  });

  it('a change that waits in node_change without a poke is found by the watch', async () => {
    const sub = await world.subscribe(tenantId, planId);
    await granted(sub);
    await world.query(
      `UPDATE subscription_state SET effective_state = 'disabled' WHERE subscription_id = $1`,
      [sub.subscriptionId],
    );
    await world.query(
      `INSERT INTO node_change VALUES ($1, $2, $3, 'edit', now(), gen_random_uuid())
       ON CONFLICT (tenant_id, node_id, subscription_id) DO UPDATE SET generation = excluded.generation`,
      [tenantId, nodeId, sub.subscriptionId],
    );
    await eventually(() => !agent.has(sub.subscriptionId));
  });

  it('a row that cannot be acted on does not stop the others', async () => {
    const sub = await world.subscribe(tenantId, planId, { limitBytes: 10n });
    await granted(sub);
    const bad = await world.tenant('UTC');
    const badPlan = await world.plan(bad, [nodeId]);
    await world.query(`UPDATE tenant SET time_zone = 'Nowhere/At_All' WHERE tenant_id = $1`, [bad]);
    const stuck = await world.subscribe(bad, badPlan, { period: 'day' });
    await world.crossing(sub, 10n);
    await eventually(() => !agent.has(sub.subscriptionId));
    expect(
      await count('SELECT count(*) AS n FROM access_change WHERE subscription_id = $1', [
        stuck.subscriptionId,
      ]),
    ).toBe(1);
    await world.query('DELETE FROM access_change WHERE tenant_id = $1', [bad]);
  });
});

it('an expired subscription is cut by itself, and a later expiry lets it back in', async () => {
  const sub = await world.subscribe(tenantId, planId, { expiresAt: new Date(Date.now() + 700) });
  await granted(sub);
  await eventually(() => !agent.has(sub.subscriptionId));
  expect(await world.state(sub)).toBe('expired');
  await eventually(async () =>
    (await world.orders(sub)).find((o) => o.kind === 'cut' && o.cause === 'expiry'),
  );
  await world.edit(sub, `expires_at = now() + interval '1 hour'`);
  await granted(sub);
});

it('a deleted subscription leaves its assignment as a tombstone and gives its addresses back', async () => {
  const sub = await world.subscribe(tenantId, planId, { engines: ['wireguard'] }, 1);
  await granted(sub);
  await world.edit(sub, `admin_state = 'deleted', deleted_at = now()`);
  await eventually(() => !agent.has(sub.subscriptionId));
  const [row] = await world.query(
    `SELECT a.ended_at IS NOT NULL AS ended, x.released_at IS NOT NULL AS released, st.reason
     FROM assignment a JOIN device d USING (tenant_id, subscription_id) JOIN node_address x ON x.node_id = a.node_id AND x.device_id = d.device_id
     JOIN subscription_state st USING (tenant_id, subscription_id) WHERE a.subscription_id = $1`,
    [sub.subscriptionId],
  );
  expect(row).toEqual({ ended: true, released: true, reason: 'deleted' });
});

describe('devices', () => {
  const addresses = (sub: MadeSubscription) =>
    agent.access(sub.subscriptionId)?.wireguard.map((p) => p.allowedIps[0]) ?? [];

  it('come and go on their own, and a freed address is not given to the next one', async () => {
    const sub = await world.subscribe(tenantId, planId, { engines: ['wireguard'] });
    await world.idle();
    expect(agent.has(sub.subscriptionId)).toBe(false);
    const first = await world.device(tenantId, sub.subscriptionId);
    await world.changed(tenantId, sub.subscriptionId);
    await eventually(() => addresses(sub)[0] === '10.66.0.2/32');
    await world.query('UPDATE device SET removed_at = now() WHERE device_id = $1', [first]);
    await world.changed(tenantId, sub.subscriptionId);
    await eventually(() => !agent.has(sub.subscriptionId));
    await world.device(tenantId, sub.subscriptionId);
    await world.changed(tenantId, sub.subscriptionId);
    await eventually(() => addresses(sub)[0] === '10.66.0.3/32');
    // After a while it is free again, once the fresh ones are used up.
    await world.query(
      `UPDATE inbound SET settings = jsonb_set(settings, '{subnets}', '["10.66.0.0/29"]') WHERE node_id = $1 AND engine = 'wireguard'`,
      [nodeId],
    );
    await world.query(
      `UPDATE node_address SET released_at = now() - interval '2 hours' WHERE device_id = $1`,
      [first],
    );
    for (let n = 0; n < 5; n++) await world.device(tenantId, sub.subscriptionId);
    await world.changed(tenantId, sub.subscriptionId);
    await eventually(() => addresses(sub).length === 5);
    expect([...addresses(sub)].sort()).toEqual([
      '10.66.0.2/32',
      '10.66.0.3/32',
      '10.66.0.4/32',
      '10.66.0.5/32',
      '10.66.0.6/32',
    ]);
  });

  it('of many subscriptions at once never share an address, with two schedulers deciding', async () => {
    const second = await world.scheduler();
    const subs: MadeSubscription[] = [];
    for (let n = 0; n < 60; n++)
      subs.push(await world.subscribe(tenantId, planId, { engines: ['wireguard'] }, 3));
    await eventually(() => subs.every((sub) => addresses(sub).length === 3), 30_000);
    const all = subs.flatMap(addresses);
    expect(new Set(all).size).toBe(180);
    await world.stop(second);
  });

  it('keep their address when the node comes back', async () => {
    const sub = await world.subscribe(tenantId, planId, { engines: ['wireguard'] }, 1);
    await eventually(() => addresses(sub).length === 1);
    const [address] = addresses(sub);
    await world.query(`UPDATE node SET state = 'maintenance' WHERE node_id = $1`, [nodeId]);
    await world.changed(tenantId, null, 'node', nodeId);
    await eventually(() => !agent.has(sub.subscriptionId));
    const other = await world.subscribe(tenantId, planId, { engines: ['wireguard'] }, 2);
    await world.query(`UPDATE node SET state = 'active' WHERE node_id = $1`, [nodeId]);
    await world.changed(tenantId, null, 'node', nodeId);
    await eventually(() => addresses(sub).length === 1 && addresses(other).length === 2);
    expect(addresses(sub)).toEqual([address]);
  });
});

it('a changed inbound reaches the node, and one more engine gives everybody his credentials for it', async () => {
  const xrayOnly = await world.node(['xray']);
  const plan = await world.plan(tenantId, [xrayOnly]);
  const here = await world.agent(scheduler, xrayOnly);
  const sub = await world.subscribe(tenantId, plan, { engines: ['xray', 'wireguard'] }, 1);
  await eventually(() => here.has(sub.subscriptionId));
  const before = here.config;
  await world.query(`UPDATE inbound SET port = 8443 WHERE node_id = $1`, [xrayOnly]);
  await world.changed(tenantId, null, 'node', xrayOnly);
  await eventually(() => !here.config.equals(before));
  expect(here.access(sub.subscriptionId)?.wireguard).toEqual([]);
  await world.query(
    `INSERT INTO inbound (node_id, tag, engine, port, settings) VALUES ($1, 'wg', 'wireguard', 51820, '{"subnets": ["10.7.0.0/24"]}')`,
    [xrayOnly],
  );
  await world.changed(tenantId, null, 'node', xrayOnly);
  await eventually(() => here.access(sub.subscriptionId)?.wireguard[0]?.allowedIps[0] === '10.7.0.2/32');
});

it('a storm of 1,000 changes is coalesced into few revisions, all of them confirmed', async () => {
  const subs: MadeSubscription[] = [];
  for (let n = 0; n < 200; n++) subs.push(await world.subscribe(tenantId, planId, { limitBytes: 100n }));
  await eventually(() => subs.every((sub) => agent.has(sub.subscriptionId)), 30_000);
  const before = agent.arrivals.length;
  const started = performance.now();
  await world.query(
    `INSERT INTO access_change (tenant_id, change_id, subscription_id, cause, period_id, observed_bytes)
     SELECT tenant_id, gen_random_uuid(), subscription_id, 'crossing', period_id, 100 + n FROM usage_period, generate_series(1, 5) n WHERE tenant_id = $1`,
    [tenantId],
  );
  await eventually(() => subs.every((sub) => !agent.has(sub.subscriptionId)), 30_000);
  const ms = performance.now() - started;
  await eventually(
    async () =>
      (await count(`SELECT count(*) AS n FROM enforcement WHERE node_id = $1 AND state <> 'confirmed'`, [
        nodeId,
      ])) === 0,
  );
  expect(agent.arrivals.length - before).toBeLessThanOrEqual(6);
  expect(
    await count(`SELECT count(*) AS n FROM enforcement WHERE node_id = $1 AND kind = 'cut'`, [nodeId]),
  ).toBe(200);
  expect(ms).toBeLessThan(5_000);
});
