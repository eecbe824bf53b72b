// Exact accounting through every real part. Figures: client's sockets, the engine's own interface, SQL.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { followLines } from '@penstock/testkit/netns/lines';
import { download, upload } from '@penstock/testkit/traffic/socks-client';
import { isRoot, rootTest } from './root.js';
import { until } from './until.js';
import { World, type NodeOfWorld } from './world.js';

let world: World;
let node: NodeOfWorld;

beforeAll(async () => {
  world = await World.start();
  node = await world.addNode('one', isRoot ? ['xray', 'wireguard'] : ['xray']);
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

rootTest('a byte through WireGuard is counted once', async () => {
  const customer = await world.addCustomer(null, ['wireguard']);
  const internet = await world.internet();
  const { namespace, client } = await world.wireguardClient(customer, node);
  const transfer = async (direction: string, bytes: number): Promise<void> => {
    const args = ['--origin', `${internet.host}:${internet.port}`, `--${direction}`, String(bytes)];
    const child = namespace.spawn([process.execPath, world.directClient, ...args]);
    const done = await followLines(child).next((line) => line['event'] === 'done', { past: true });
    expect(done).toMatchObject({ complete: true });
  };
  await transfer('download', 2_000_011);
  await transfer('upload', 500_009);
  // What the customer's device sent is what the node's counted up, and the other way round; both stand still now.
  await until(async () => {
    const own = await client.counters();
    const peer = await world.wireguardCounters(node, client.publicKey);
    return own.txBytes === peer.up && own.rxBytes === peer.down;
  }, 'both ends show the same counters');
  const engine = await world.wireguardCounters(node, client.publicKey);
  expect(engine.down).toBeGreaterThan(2_000_011n);
  expect(engine.up).toBeGreaterThan(500_009n);
  await world.booked(customer, engine);
});
