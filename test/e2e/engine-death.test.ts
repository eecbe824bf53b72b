// What an engine takes with it: a dead Xray at most what it counted since the last read, marked with its bounds; a
// removed WireGuard peer nothing at all. The test reads the engine itself, ten times a second, until it kills it.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { followLines } from '@penstock/testkit/netns/lines';
import { download, openStream, upload } from '@penstock/testkit/traffic/socks-client';
import { verifyLedger } from './chain.js';
import { isRoot, rootTest } from './root.js';
import { until } from './until.js';
import { World, type Bytes, type NodeOfWorld } from './world.js';

/** Counters are read once a second; on a machine that is busy, reading may be stretched up to this. */
const READ_MS_MAX = 10_000;
/** A dead engine is noticed within 250 ms, and the row takes its time. */
const NOTICED_MS_MAX = 3_000;
/** The node's clock is corrected by the server's, which it learns over a wire. */
const CLOCK_MS = 500;
const WATCHED_MS = 6_000;
const SAMPLE_EVERY_MS = 200;

let world: World;
let node: NodeOfWorld;

beforeAll(async () => {
  world = await World.start();
  node = await world.addNode('one', isRoot ? ['xray', 'wireguard'] : ['xray']);
});
afterAll(() => world?.destroy());

function xrayPid(): number {
  const file = JSON.parse(readFileSync(join(node.agentDir, 'xray', 'pid.json'), 'utf8')) as { pid: number };
  return file.pid;
}

/** The userspace daemon; a kernel's interface cannot die like this. */
function wireguardPid(): number {
  const file = join(node.agentDir, 'wireguard', `${node.wireguardInterface}.device.json`);
  return (JSON.parse(readFileSync(file, 'utf8')) as { pid: number }).pid;
}

interface Mark {
  kind: string;
  engine: string;
  fromMs: number;
  toMs: number;
}

async function lossMarks(): Promise<Mark[]> {
  const { rows } = await world.sql.query<{ kind: string; engine: string; from_at: Date; to_at: Date }>(
    'SELECT kind, engine, from_at, to_at FROM loss_mark WHERE node_id = $1 ORDER BY epoch, seq, ordinal',
    [node.nodeId],
  );
  return rows.map(({ kind, engine, from_at, to_at }) => ({
    kind,
    engine,
    fromMs: from_at.getTime(),
    toMs: to_at.getTime(),
  }));
}

test('an Xray that dies costs at most what it counted since the last read, and the loss is marked', async () => {
  const customer = await world.addCustomer(null, ['xray']);
  const neighbour = await world.addCustomer(null, ['xray']);
  const client = await world.xrayClient(customer, node);
  const other = await world.xrayClient(neighbour, node);
  const stream = await openStream(world.socks(client), 600_000);
  const seen: { atMs: number; bytes: Bytes }[] = [];
  const watched = performance.now();
  while (performance.now() < watched + WATCHED_MS) {
    const atMs = Date.now();
    seen.push({ atMs, bytes: await world.xrayCounters(node, customer) });
    await new Promise((resolve) => setTimeout(resolve, SAMPLE_EVERY_MS));
  }
  const pid = xrayPid();
  const killedMs = Date.now();
  process.kill(pid, 'SIGKILL');
  const end = await stream.done;
  expect(end.complete).toBe(false);

  // The loss is marked: which engine, and from the last read to when its end was seen.
  await until(async () => (await lossMarks()).length > 0, 'the loss is marked');
  const marks = await lossMarks();
  expect(marks).toMatchObject([{ kind: 'engine_died', engine: 'xray' }]);
  const [{ fromMs, toMs }] = marks as [Mark];
  expect(fromMs).toBeGreaterThan(killedMs - READ_MS_MAX - CLOCK_MS);
  expect(fromMs).toBeLessThanOrEqual(killedMs + CLOCK_MS);
  expect(toMs).toBeGreaterThanOrEqual(killedMs - CLOCK_MS);
  expect(toMs).toBeLessThan(killedMs + NOTICED_MS_MAX);

  // Everything that was there to be read when the marked stretch began is booked; nothing is that never moved.
  const booked = await world.ledgerBytes(customer);
  const read = seen.findLast(({ atMs }) => atMs < fromMs - CLOCK_MS);
  const last = seen.at(-1);
  expect(booked.down).toBeGreaterThanOrEqual(read?.bytes.down ?? 0n);
  expect(booked.down).toBeGreaterThan(600_000n);
  const sent = world.origin.connections.find(({ request }) => request === 'STREAM 600000')?.sentBytes ?? 0;
  expect(booked.down).toBeLessThanOrEqual(BigInt(sent));
  const lost = (last?.bytes.down ?? 0n) - booked.down;
  console.log(
    `read ${killedMs - fromMs} ms before the death, noticed after ${toMs - killedMs} ms, lost about ${lost} bytes`,
  );

  // It is started again by itself, with everybody, and counts exactly from there.
  await until(async () => (await download(world.socks(client), 1_000)).complete, 'the customer is back');
  await until(async () => (await download(world.socks(other), 1_000)).complete, 'the neighbour is back');
  expect(xrayPid()).not.toBe(pid);
  expect((await download(world.socks(client), 1_234_567)).complete).toBe(true);
  expect((await upload(world.socks(client), 345_678)).complete).toBe(true);
  const second = await world.xrayCounters(node, customer);
  expect(second.down).toBeGreaterThan(1_234_567n);
  await world.booked(customer, { up: booked.up + second.up, down: booked.down + second.down });
  await world.booked(neighbour, await world.xrayCounters(node, neighbour));
  expect(await lossMarks()).toEqual(marks);
  await verifyLedger(world);
});

rootTest('a WireGuard peer removed and added again is counted once', async () => {
  const customer = await world.addCustomer(null, ['wireguard']);
  const internet = await world.internet();
  const { namespace, client } = await world.wireguardClient(customer, node);
  const origin = `${internet.host}:${internet.port}`;
  const transfer = async (direction: 'download' | 'upload', bytes: number): Promise<void> => {
    const args = ['--origin', origin, `--${direction}`, String(bytes)];
    const child = namespace.spawn([process.execPath, world.directClient, ...args]);
    const done = await followLines(child).next((line) => line['event'] === 'done', { past: true });
    expect(done).toMatchObject({ complete: true });
  };
  /** The device's own counters go on over all lives of its peer on the node. */
  const device = async (): Promise<Bytes> => {
    const { rxBytes, txBytes } = await client.counters();
    return { up: txBytes, down: rxBytes };
  };
  let life = { up: 0n, down: 0n };
  for (let turn = 0; turn < 3; turn++) {
    await transfer('download', 700_001 + turn);
    await transfer('upload', 200_003 + turn);
    // Nothing is under way any more: this life of the peer counted what the device moved since the life before.
    await until(async () => {
      const [own, peer] = [await device(), await world.wireguardCounters(node, client.publicKey)];
      return own.up - life.up === peer.up && own.down - life.down === peer.down;
    }, 'both ends show the same');
    life = await device();
    if (turn === 2) break;
    await world.update(customer, { adminState: 'disabled' });
    await world.confirmed(customer, 'cut');
    expect(await world.wireguardCounters(node, client.publicKey)).toEqual({ up: 0n, down: 0n });
    await world.update(customer, { adminState: 'active' });
    await world.confirmed(customer, 'grant');
    await client.renewSession();
  }
  await world.booked(customer, life);
  expect(life.down).toBeGreaterThan(2_100_000n);
  await verifyLedger(world);
});

rootTest(
  'a wireguard-go that dies costs at most what it counted since the last read, and the loss is marked',
  async () => {
    const earlier = (await lossMarks()).length;
    const customer = await world.addCustomer(null, ['wireguard']);
    const internet = await world.internet();
    const { namespace, client } = await world.wireguardClient(customer, node);
    const args = [
      '--origin',
      `${internet.host}:${internet.port}`,
      '--stream',
      '400000',
      '--timeout',
      '30000',
    ];
    const child = namespace.spawn([process.execPath, world.directClient, ...args]);
    const lines = followLines(child);
    await lines.next((line) => Number(line['receivedBytes']) > 1_200_000, { past: true, timeoutMs: 20_000 });
    const read = await world.wireguardCounters(node, client.publicKey);
    const killedMs = Date.now();
    process.kill(wireguardPid(), 'SIGKILL');

    await until(async () => (await lossMarks()).length > earlier, 'the loss is marked');
    const [mark, ...more] = (await lossMarks()).slice(earlier);
    expect(more).toEqual([]);
    expect(mark).toMatchObject({ kind: 'engine_died', engine: 'wireguard' });
    expect(mark?.fromMs).toBeGreaterThan(killedMs - READ_MS_MAX - CLOCK_MS);
    expect(mark?.toMs).toBeGreaterThanOrEqual(killedMs - CLOCK_MS);

    await client.renewSession();
    // The interface is made again with its peer, and what it counts from there is added to what was booked.
    await until(
      async () => (await world.wireguardCounters(node, client.publicKey)).up > 0n,
      'the device talks to the new interface',
      30_000,
    );
    child.kill();
    await until(async () => {
      const [ledger, peer] = [
        await world.ledgerBytes(customer),
        await world.wireguardCounters(node, client.publicKey),
      ];
      const firstLife = { up: ledger.up - peer.up, down: ledger.down - peer.down };
      return firstLife.down > 0n && firstLife.down <= read.down + 400_000n * 3n && firstLife.up >= 0n;
    }, 'both lives are booked');
    expect((await lossMarks()).length).toBe(earlier + 1);
    await verifyLedger(world);
  },
);
