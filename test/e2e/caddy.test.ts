// The same guarantees with Caddy in front of everything: API, node edge with client certificates, enrollment. Caddy's own
// count of requests shows that they really went through it. Every other file here runs through Caddy too, with
// PENSTOCK_E2E_EDGE=caddy.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { download, openStream, upload } from '@penstock/testkit/traffic/socks-client';
import { verifyLedger } from './chain.js';
import { Gaps, seeded } from './gaps.js';
import { Pump } from './pump.js';
import { rootTest } from './root.js';
import { until } from './until.js';
import { World, type NodeOfWorld } from './world.js';

let world: World;
let node: NodeOfWorld;

beforeAll(async () => {
  world = await World.start({ edge: 'caddy' });
  node = await world.addNode('one', ['xray'], { WINDOW_MS: '1000' });
});
afterAll(() => world?.destroy());

/** Requests that Caddy has served or serves now, by its own count. */
async function throughCaddy(): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${world.stack.ports['caddy-metrics'] ?? 0}/metrics`);
  let sum = 0;
  for (const line of (await response.text()).split('\n')) {
    const match = /^caddy_http_(?:requests_total|requests_in_flight)\{.*\} (\S+)$/.exec(line);
    if (match !== null) sum += Number(match[1]);
  }
  return sum;
}

/** Streams of the node that went through Caddy and are over, from its access log. */
function endedStreams(): number {
  const log = readFileSync(join(world.stack.paths.logs, 'caddy-access.log'), 'utf8');
  return log.split('\n').filter((line) => /"uri":"\/penstock\.(usage|enforcement)\.v1\./.test(line)).length;
}

test('through Caddy, a byte through Xray is counted once', async () => {
  const before = await throughCaddy();
  const customer = await world.addCustomer(null, ['xray']);
  const client = await world.xrayClient(customer, node);
  expect((await download(world.socks(client), 1_000_003)).complete).toBe(true);
  expect((await upload(world.socks(client), 500_009)).complete).toBe(true);
  const engine = await world.xrayCounters(node, customer);
  expect(engine.down).toBeGreaterThan(1_000_003n);
  await world.booked(customer, engine);
  expect(await throughCaddy()).toBeGreaterThan(before);
  // The agent holds no other connection: its two streams end at Caddy's node edge.
  expect(world.stack.edges.nodeEdge).toBe(`https://localhost:${world.stack.ports['caddy-node'] ?? 0}`);
  expect(world.stack.edges.usageEdge).toBe(world.stack.edges.nodeEdge);
});

rootTest('through Caddy, crossing the quota ends the open session and not the neighbour’s', async () => {
  const customer = await world.addCustomer(4_000_000n, ['xray']);
  const neighbour = await world.addCustomer(null, ['xray']);
  const client = await world.xrayClient(customer, node);
  const other = await world.xrayClient(neighbour, node);
  const steady = await openStream(world.socks(other), 300_000);
  const stream = await openStream(world.socks(client), 2_000_000);
  expect((await stream.done).complete).toBe(false);
  await world.confirmed(customer, 'cut');
  expect((await download(world.socks(client), 1_000)).complete).toBe(false);
  const received = steady.receivedBytes;
  await until(() => steady.receivedBytes > received + 300_000, 'the neighbour receives');
  expect(steady.open).toBe(true);
  steady.abort();
  await world.booked(customer, await world.xrayCounters(node, customer));
});

test('through Caddy, an agent killed with -9 under traffic loses nothing (3 seeded kills)', async () => {
  const gaps = new Gaps(world, node);
  const pump = await Pump.make(world, node, false);
  const random = seeded(20260101);
  const [before, ended] = [await throughCaddy(), endedStreams()];
  await pump.start();
  for (let turn = 0; turn < 3; turn++) {
    await gaps.journalGrows();
    await new Promise((resolve) => setTimeout(resolve, 900 * random()));
    await world.stack.kill(node.process);
    await pump.move(40_000);
    await world.stack.restart(node.process);
    const { seq } = await gaps.head();
    await until(async () => (await gaps.head()).seq > seq, 'frames reach the ledger');
  }
  await pump.stop();
  await pump.settled();
  const [report] = await verifyLedger(world);
  expect(report).toMatchObject({ gaps: [], marks: [] });
  // Each life of the agent had its two streams through Caddy.
  expect(await throughCaddy()).toBeGreaterThan(before);
  expect(endedStreams()).toBeGreaterThanOrEqual(ended + 6);
});
