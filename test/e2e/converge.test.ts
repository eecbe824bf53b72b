// Nodes and collectors that miss something and still end in the same state: lost revisions, two collectors that each see
// half, frames that come twice, a disk that goes back in time.
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { connect, openBidi } from '@penstock/rpc/client';
import {
  EnforcementServiceClient,
  type SyncRequest,
  type SyncResponse,
} from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import { download, openStream } from '@penstock/testkit/traffic/socks-client';
import { verifyLedger } from './chain.js';
import { headOf, identityOf, log, RawNode, recordedFrames, TRUST_DOMAIN } from './raw-node.js';
import { rootTest } from './root.js';
import { until } from './until.js';
import { World, type Customer, type NodeOfWorld } from './world.js';

let world: World;
let one: NodeOfWorld;
let two: NodeOfWorld;

beforeAll(async () => {
  world = await World.start({ collectors: 2 });
  one = await world.addNode('one', ['xray'], {}, 'collector');
  two = await world.addNode('two', ['xray'], {}, 'collector-2');
});
afterAll(() => world?.destroy());

interface Revision {
  revision: bigint;
  digest: Buffer;
  acknowledged: boolean;
}

async function revisions(node: NodeOfWorld): Promise<Revision[]> {
  const { rows } = await world.sql.query<Revision>(
    `SELECT revision, digest, acknowledged_at IS NOT NULL AND error_code IS NULL AS acknowledged
     FROM revision WHERE node_id = $1 ORDER BY revision`,
    [node.nodeId],
  );
  return rows;
}

/** Connects as the node, takes one revision and says nothing: the revision is sent and never arrives. */
async function swallowRevision(
  node: NodeOfWorld,
  applied: Revision,
  edit: () => Promise<unknown>,
): Promise<bigint> {
  const address = world.stack.edges.nodeEdge.replace('https://', '');
  const tls = identityOf(node.agentDir).tls;
  const servers = ['scheduler', 'caddy'] as const;
  const client = connect(EnforcementServiceClient, address, { tls, trustDomain: TRUST_DOMAIN, servers, log });
  const call = openBidi<SyncRequest, SyncResponse>((metadata, options) => client.sync(metadata, options));
  const hello = {
    nodeId: node.nodeId,
    agentVersion: 'raw',
    appliedRevision: applied.revision,
    appliedDigest: applied.digest,
    fence: 0n,
    engines: ['xray'],
    clockMs: BigInt(Date.now()),
    pending: [],
  };
  try {
    await call.write({ message: { $case: 'hello', value: hello } });
    let edited: Promise<unknown> | undefined;
    for await (const { message } of call) {
      if (message?.$case === 'welcome') edited ??= edit();
      if (message?.$case !== 'delta' && message?.$case !== 'snapshot') continue;
      await edited;
      return message.value.revision;
    }
    throw new Error('the stream ended without a revision');
  } finally {
    call.cancel();
    client.close();
  }
}

rootTest('a node that missed three revisions converges with one', async () => {
  const [kept, dropped] = [await world.addCustomer(null, ['xray']), await world.addCustomer(null, ['xray'])];
  const [own, other] = [await world.xrayClient(kept, one), await world.xrayClient(dropped, one)];
  const planId = await world.addPlan(world.tenantId, null, ['xray']);
  await world.stack.kill(one.process);
  const applied = (await revisions(one)).findLast((revision) => revision.acknowledged);
  if (applied === undefined) throw new Error('nothing was applied before');
  const born: Customer[] = [];
  const subscribe = async (): Promise<void> => {
    const made = await world.inTenant(world.tenantId, 'POST', '/api/v1/subscriptions', {
      name: 'late',
      planId,
    });
    born.push({ subscriptionId: String(made['subscriptionId']), tenantId: world.tenantId });
  };
  const missed = [
    await swallowRevision(one, applied, () => world.update(dropped, { adminState: 'disabled' })),
    await swallowRevision(one, applied, subscribe),
    await swallowRevision(one, applied, subscribe),
  ];
  expect(missed[2]).toBeGreaterThanOrEqual(applied.revision + 3n);
  const sent = async (): Promise<number> => {
    const kinds = ['delta', 'snapshot'].map((kind) =>
      world.metric('scheduler', `enforcement_messages_total{kind="${kind}"}`),
    );
    return (await Promise.all(kinds)).reduce((sum, count) => sum + count, 0);
  };
  // Node two has its own share of the three edits: only what comes after it was served counts.
  await until(async () => {
    const { rows } = await world.sql.query<{ n: bigint }>(
      `SELECT (SELECT count(*) FROM node_change WHERE node_id = $1)
            + (SELECT count(*) FROM enforcement WHERE node_id = $1 AND state = 'ordered') AS n`,
      [two.nodeId],
    );
    return rows[0]?.n === 0n;
  }, 'node two served');
  const [sentBefore, writtenBefore] = [await sent(), (await revisions(one)).length];
  // Engines go on while their agent is dead: nobody has been cut yet.
  expect((await download(world.socks(other), 1_000)).complete).toBe(true);

  await world.stack.restart(one.process);
  await world.confirmed(dropped, 'cut');
  for (const customer of born) await world.confirmed(customer, 'grant');
  const after = await revisions(one);
  // The node got one message for all three, and answered it.
  const answered = after.filter(({ revision, acknowledged }) => acknowledged && revision > applied.revision);
  expect(answered.map(({ revision }) => revision)).toEqual([after.at(-1)?.revision]);
  expect((await sent()) - sentBefore).toBeLessThanOrEqual(2); // node two may get one for its own share
  expect(after.length - writtenBefore).toBeLessThanOrEqual(1);
  expect((await download(world.socks(other), 1_000)).complete).toBe(false);
  expect((await download(world.socks(own), 1_000)).complete).toBe(true);
  for (const customer of born) {
    expect((await download(world.socks(await world.xrayClient(customer, one)), 1_000)).complete).toBe(true);
  }
});

rootTest(
  'a subscription on two nodes with two collectors, each half below the limit, is cut on both',
  async () => {
    const limit = 6_000_000n;
    const customer = await world.addCustomer(limit, ['xray']);
    const clients = [await world.xrayClient(customer, one), await world.xrayClient(customer, two)];
    const { rows } = await world.sql.query<{ holder: string }>('SELECT DISTINCT holder FROM stream_head');
    expect(rows).toHaveLength(2);
    const streams = await Promise.all(clients.map((client) => openStream(world.socks(client), 700_000)));
    for (const { complete } of await Promise.all(streams.map((stream) => stream.done)))
      expect(complete).toBe(false);
    await world.confirmed(customer, 'cut');
    for (const client of clients) expect((await download(world.socks(client), 1_000)).complete).toBe(false);
    const moved = await Promise.all([one, two].map((node) => world.xrayCounters(node, customer)));
    for (const { up, down } of moved) expect(up + down).toBeLessThan(limit);
    const [up, down] = [moved.reduce((sum, m) => sum + m.up, 0n), moved.reduce((sum, m) => sum + m.down, 0n)];
    expect(up + down).toBeGreaterThanOrEqual(limit);
    await world.booked(customer, { up, down });
  },
);

test('a duplicated frame is counted once', async () => {
  const customer = await world.addCustomer(null, ['xray']);
  const client = await world.xrayClient(customer, one);
  for (const bytes of [500_001, 400_003]) {
    expect((await download(world.socks(client), bytes)).complete).toBe(true);
    await world.booked(customer, await world.xrayCounters(one, customer));
  }
  // What the agent has sent, sent again with its own certificate: each frame twice, the last one first.
  await world.stack.kill(one.process);
  const [frames, head, before] = [
    recordedFrames(one.agentDir),
    await headOf(world, one),
    await world.ledgerBytes(customer),
  ];
  const recorded = frames.filter(({ epoch, seq }) => epoch === head.epoch && seq <= head.seq);
  expect(recorded.length).toBeGreaterThanOrEqual(2);
  const counted = await world.metric('collector', 'penstock_collector_frames_total{result="duplicate"}');
  const network = new RawNode(world, identityOf(one.agentDir), 'collector');
  await network.open({ nodeId: one.nodeId, epoch: head.epoch, seq: head.seq, digest: head.digest });
  expect(await network.answer('opened')).toMatchObject({ epoch: head.epoch, nextSeq: head.seq + 1n });
  for (const frame of [...recorded].reverse()) for (let copy = 0; copy < 2; copy++) await network.send(frame);
  const duplicates = (): number =>
    network.responses.filter(({ $case, value }) => $case === 'accepted' && value.duplicate).length;
  await until(() => duplicates() === 2 * recorded.length, 'every copy is told to be one');
  expect(await world.metric('collector', 'penstock_collector_frames_total{result="duplicate"}')).toBe(
    counted + 2 * recorded.length,
  );
  network.close();
  expect(await headOf(world, one)).toMatchObject(head);
  expect(await world.ledgerBytes(customer)).toEqual(before);
  // The agent goes on where it was, and the sums are still the engine's.
  await world.stack.restart(one.process);
  expect((await download(world.socks(client), 300_007)).complete).toBe(true);
  await world.booked(customer, await world.xrayCounters(one, customer));
  await verifyLedger(world);
});

test('a node whose disk goes back in time counts nothing twice [V46]', async () => {
  const customer = await world.addCustomer(null, ['xray']);
  const client = await world.xrayClient(customer, two);
  const copies = mkdtempSync(join(tmpdir(), 'pst-snapshot-'));
  world.atEnd(() => rmSync(copies, { recursive: true, force: true }));
  expect((await download(world.socks(client), 500_001)).complete).toBe(true);
  await world.booked(customer, await world.xrayCounters(two, customer));
  // The machine's snapshot is taken while the agent stands still; then it counts on.
  const journal = join(two.agentDir, 'journal');
  const agent = world.stack.process(two.process);
  await agent.kill('SIGSTOP');
  cpSync(journal, copies, { recursive: true });
  await agent.kill('SIGCONT');
  const { epoch } = await headOf(world, two);
  expect((await download(world.socks(client), 700_001)).complete).toBe(true);
  await world.booked(customer, await world.xrayCounters(two, customer));
  await world.stack.kill(two.process);
  rmSync(journal, { recursive: true });
  cpSync(copies, journal, { recursive: true });
  expect((await download(world.socks(client), 300_007)).complete).toBe(true);
  await world.stack.restart(two.process);
  // The ledger knows the frames that the disk forgot: a new epoch, from the ledger's own last values.
  await world.booked(customer, await world.xrayCounters(two, customer));
  expect((await headOf(world, two)).epoch).toBe(epoch + 1);
  await verifyLedger(world);
});
