// What becomes of a node's customers when the node is drained, taken out for maintenance or gets other subnets.
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { NodeId, PlanId, TenantId } from '@penstock/domain/ids';
import type { TestAgent } from './test-agent.js';
import { eventually, World, type MadeSubscription, type RunningScheduler } from './world.js';

let world: World;
let scheduler: RunningScheduler;
let tenantId: TenantId;
let planId: PlanId;
let first: NodeId;
let second: NodeId;
let agents: [TestAgent, TestAgent];

beforeAll(async () => {
  world = await World.create();
  scheduler = await world.scheduler();
  tenantId = await world.tenant();
  first = await world.node(['wireguard']);
  second = await world.node(['wireguard'], '10.77.0.0/16');
  planId = await world.plan(tenantId, [first, second]);
  agents = [await world.agent(scheduler, first), await world.agent(scheduler, second)];
});
afterAll(() => world.close());

const subscribe = (devices = 1): Promise<MadeSubscription> =>
  world.subscribe(tenantId, planId, { engines: ['wireguard'] }, devices);
const on = (agent: TestAgent, sub: MadeSubscription): boolean => agent.has(sub.subscriptionId);
const addresses = (agent: TestAgent, sub: MadeSubscription): string[] =>
  (agent.access(sub.subscriptionId)?.wireguard ?? []).flatMap((peer) => peer.allowedIps).sort();

async function change(nodeId: NodeId, set: string): Promise<void> {
  await world.query(`UPDATE node SET ${set} WHERE node_id = $1`, [nodeId]);
  await world.changed(tenantId, null, 'node', nodeId);
}

it('a node in drain takes nobody new and goes on with those that it has, whatever changes about them', async () => {
  const old = await subscribe();
  await eventually(() => agents.every((agent) => on(agent, old)));
  await change(first, `state = 'drain'`);
  await world.idle();
  const fresh = await subscribe();
  await eventually(() => on(agents[1], fresh));
  await world.edit(old, `limit_bytes = 5000`);
  await world.device(tenantId, old.subscriptionId);
  await world.changed(tenantId, old.subscriptionId);
  await eventually(() => agents.every((agent) => addresses(agent, old).length === 2));
  await world.idle();
  expect([on(agents[0], old), on(agents[0], fresh)]).toEqual([true, false]);
  await change(first, `state = 'active'`);
  await eventually(() => on(agents[0], fresh));
});

it('maintenance cuts everybody there, is confirmed, leaves the other node alone, and gives the same addresses back', async () => {
  const sub = await subscribe(2);
  await eventually(() => agents.every((agent) => addresses(agent, sub).length === 2));
  const before = agents.map((agent) => addresses(agent, sub));
  await change(first, `state = 'maintenance'`);
  await eventually(() => !on(agents[0], sub));
  await eventually(async () => {
    const [row] = await world.query<{ state: string }>(
      `SELECT state FROM enforcement WHERE subscription_id = $1 AND node_id = $2 AND kind = 'cut'`,
      [sub.subscriptionId, first],
    );
    return row?.state === 'confirmed';
  });
  expect(addresses(agents[1], sub)).toEqual(before[1]);
  await change(first, `state = 'active'`);
  await eventually(() => on(agents[0], sub));
  expect(agents.map((agent) => addresses(agent, sub))).toEqual(before);
});

it('addresses outside narrowed subnets are given up, and so is the one that becomes the node’s own', async () => {
  const sub = await subscribe(3);
  await eventually(() => agents.every((agent) => addresses(agent, sub).length === 3));
  await world.query(
    `UPDATE inbound SET settings = jsonb_set(settings, '{subnets}', '["10.66.40.0/24", "10.88.0.0/24"]')
      WHERE node_id = $1 AND engine = 'wireguard'`,
    [first],
  );
  // One device holds what is the node's own address from now on.
  await world.query(
    `UPDATE node_address SET address = '10.66.40.1' WHERE (node_id, address) = (
       SELECT node_id, address FROM node_address x JOIN device d USING (device_id)
        WHERE x.node_id = $1 AND d.subscription_id = $2 AND x.released_at IS NULL LIMIT 1)`,
    [first, sub.subscriptionId],
  );
  await world.changed(tenantId, null, 'node', first);
  const inside = (address: string): boolean =>
    /^10\.(66\.40|88\.0)\.\d+\/32$/.test(address) &&
    !address.endsWith('.0.1/32') &&
    address !== '10.66.40.1/32';
  await eventually(() => addresses(agents[0], sub).length === 3 && addresses(agents[0], sub).every(inside));
  await world.idle();
  const [left] = await world.query<{ n: number }>(
    `SELECT count(*)::int AS n FROM node_address WHERE node_id = $1 AND released_at IS NULL
        AND NOT (address << '10.66.40.0/24' OR address << '10.88.0.0/24')`,
    [first],
  );
  expect(left).toEqual({ n: 0 });
});
