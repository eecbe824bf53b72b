// Enforcement with proof: the crossing ends the open session, not the neighbour's, and the proof is stored.
import { afterAll, beforeAll, expect } from 'vitest';
import { followLines } from '@penstock/testkit/netns/lines';
import { download, openStream } from '@penstock/testkit/traffic/socks-client';
import { rootTest } from './root.js';
import { until } from './until.js';
import { World, type Customer, type NodeOfWorld } from './world.js';

const LIMIT_BYTES = 5_000_000n;
const RATE_BYTES = 2_500_000;
/** The world's agents seal a window each second; the second is for the way to the collector and back. */
const WINDOW_S = 1;
const ROUND_TRIP_S = 1;
/** The agents read the engines once a second; a session that is to end has ended within two reads. */
const CUT_MS_MAX = 2_000;

let world: World;
let node: NodeOfWorld;

beforeAll(async () => {
  world = await World.start();
  node = await world.addNode('one', ['xray', 'wireguard']);
});
afterAll(() => world?.destroy());

async function proof(customer: Customer): Promise<Record<string, unknown>> {
  const path = `/api/v1/subscriptions/${customer.subscriptionId}/enforcement`;
  const answer = await world.inTenant(customer.tenantId, 'GET', path);
  return (answer['items'] as Record<string, unknown>[])[0] ?? {};
}

rootTest(
  'crossing the quota ends the open session and not the neighbour’s (both behind one address) [R2-17, V49]',
  async () => {
    const customer = await world.addCustomer(LIMIT_BYTES, ['xray']);
    const neighbour = await world.addCustomer(null, ['xray']);
    const client = await world.xrayClient(customer, node);
    const other = await world.xrayClient(neighbour, node);
    const steady = await openStream(world.socks(other), 500_000);
    const stream = await openStream(world.socks(client), RATE_BYTES);
    const end = await stream.done;
    // The client sees the end.
    expect(end.complete).toBe(false);
    expect(end.receivedBytes).toBeGreaterThanOrEqual(Number(LIMIT_BYTES));
    // The origin falls silent.
    await until(
      () => world.origin.connections.every((c) => c.request !== `STREAM ${RATE_BYTES}` || !c.open),
      'origin silent',
    );
    await world.confirmed(customer, 'cut');
    // A new connection is refused.
    const again = await download(world.socks(client), 1000);
    expect(again.complete).toBe(false);
    // The neighbour goes on, on the same connection.
    const before = steady.receivedBytes;
    await until(() => steady.receivedBytes > before + 500_000, 'the neighbour receives');
    expect(steady.open).toBe(true);
    steady.abort();
    // The proof: sessions ended, times, and "confirmed on 1 of 1 nodes".
    expect(await proof(customer)).toMatchObject({
      kind: 'cut',
      cause: 'crossing',
      state: 'confirmed',
      sessionsEnded: 1,
    });
    // What was counted after the last byte stands in the ledger too.
    const counted = await world.xrayCounters(node, customer);
    await world.booked(customer, counted);
    // Overuse is what moved while a read, a window and the order were under way.
    const overuse = counted.up + counted.down - LIMIT_BYTES;
    console.log(`overuse ${overuse} bytes, ${Number(overuse) / RATE_BYTES} s at the customer's rate`);
    expect(overuse).toBeLessThanOrEqual(BigInt(RATE_BYTES * (2 * WINDOW_S + ROUND_TRIP_S)));
  },
);

rootTest('crossing the quota removes the WireGuard peer and not the neighbour’s [V49]', async () => {
  const internet = await world.internet();
  const customer = await world.addCustomer(4_000_000n, ['wireguard']);
  const neighbour = await world.addCustomer(null, ['wireguard']);
  const [one, two] = [
    await world.wireguardClient(customer, node),
    await world.wireguardClient(neighbour, node),
  ];
  const stream = (namespace: typeof one.namespace, rate: number) => {
    const args = [
      '--origin',
      `${internet.host}:${internet.port}`,
      '--stream',
      String(rate),
      '--timeout',
      '2000',
    ];
    return followLines(namespace.spawn([process.execPath, world.directClient, ...args]));
  };
  const steady = stream(two.namespace, 300_000);
  await steady.next((line) => line['event'] === 'open', { past: true });
  const cut = stream(one.namespace, 2_000_000);
  const done = await cut.next((line) => line['event'] === 'done', { past: true, timeoutMs: 20_000 });
  expect(done).toMatchObject({ complete: false });
  await world.confirmed(customer, 'cut');
  expect(await world.wireguardCounters(node, one.client.publicKey)).toEqual({ up: 0n, down: 0n });
  expect(await proof(customer)).toMatchObject({ kind: 'cut', state: 'confirmed', sessionsEnded: 1 });
  const before = Number(steady.last('progress')?.['receivedBytes'] ?? 0);
  await steady.next((line) => Number(line['receivedBytes']) > before + 300_000);
});

rootTest(
  'a disabled subscription’s open session ends, and enabling it lets the customer back in [V49]',
  async () => {
    const customer = await world.addCustomer(null, ['xray']);
    const client = await world.xrayClient(customer, node);
    const stream = await openStream(world.socks(client), 500_000);
    await world.update(customer, { adminState: 'disabled' });
    const disabledAt = performance.now();
    const end = await stream.done;
    expect(end.complete).toBe(false);
    expect(performance.now() - disabledAt).toBeLessThan(CUT_MS_MAX);
    await world.confirmed(customer, 'cut');
    expect((await download(world.socks(client), 1000)).complete).toBe(false);
    await world.update(customer, { adminState: 'active' });
    await world.confirmed(customer, 'grant');
    expect((await download(world.socks(client), 1000)).complete).toBe(true);
  },
);
