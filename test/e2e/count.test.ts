import { afterAll, beforeAll, expect, test } from 'vitest';
import { download, upload } from '@penstock/testkit/traffic/socks-client';
import { World, type NodeOfWorld } from './world.js';

let world: World;
let node: NodeOfWorld;

beforeAll(async () => {
  world = await World.start();
  node = await world.addNode('one', ['xray']);
});
afterAll(() => world?.destroy());

test('a byte through Xray is counted once', async () => {
  const customer = await world.addCustomer(null, ['xray']);
  const client = await world.xrayClient(customer, node);
  const down = await download(world.socks(client), 3_000_017);
  const up = await upload(world.socks(client), 1_000_003);
  expect([down.complete, up.complete]).toEqual([true, true]);
  const sent = BigInt(down.sentBytes + up.sentBytes);
  const received = BigInt(down.receivedBytes + up.receivedBytes);
  const engine = await world.xrayCounters(node, customer);
  expect(engine).toEqual({ up: sent, down: received });
  await world.booked(customer, engine);
});
