// What must hold when processes die, take over from each other or lose the database: every byte is counted exactly once.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import pg from 'pg';
import { createTestTrust, type TestTrust } from '@penstock/testkit/trust';
import { testDatabase, type TestDatabase } from '@penstock/testkit/postgres';
import { seedUsage, type UsageSeed } from '@penstock/testkit/usage-seed';
import type { SealedFrame } from '@penstock/testkit/journal';
import {
  Agent,
  eventually,
  startCollector,
  testNode,
  type RunningCollector,
  type TestNode,
} from './support.js';

let db: TestDatabase;
let trust: TestTrust;
let seed: UsageSeed;
let sql: pg.Client;
const collectors: RunningCollector[] = [];
const nodes: TestNode[] = [];

const LIMIT = 1000n;

beforeAll(async () => {
  trust = await createTestTrust();
});
beforeEach(async () => {
  db = await testDatabase();
  seed = await seedUsage(db.superuserUrl, trust, {
    tenants: 2,
    subscriptions: 10,
    nodes: 4,
    limitBytes: LIMIT,
  });
  sql = new pg.Client({ connectionString: db.superuserUrl });
  await sql.connect();
});
afterEach(async () => {
  for (const node of nodes.splice(0)) await node.close();
  for (const running of collectors.splice(0)) await running.kill();
  await sql?.end();
  await db?.drop();
});
afterAll(() => undefined);

async function collect(options: Parameters<typeof startCollector>[2] = {}): Promise<RunningCollector> {
  const running = await startCollector(db, trust, options);
  collectors.push(running);
  return running;
}

function makeNode(index: number): TestNode {
  const node = testNode(seed, index, trust);
  nodes.push(node);
  return node;
}

const use = (tenant: number, subscription: number, up: bigint, down: bigint) => ({
  tenantId: seed.tenants[tenant]?.tenantId as string,
  subscriptionId: seed.tenants[tenant]?.subscriptions[subscription] as string,
  up,
  down,
});

async function total(): Promise<bigint> {
  const { rows } = await sql.query(
    'SELECT coalesce(sum(up_bytes + down_bytes), 0)::text AS sum FROM usage_counter',
  );
  return BigInt(rows[0].sum);
}

/** What the series hold: by hours of subscriptions, and of nodes; they must never differ. */
async function series(): Promise<bigint> {
  const { rows } = await sql.query(
    `SELECT (SELECT coalesce(sum(up_bytes + down_bytes), 0) FROM usage_hour)::text AS fine,
            (SELECT coalesce(sum(up_bytes + down_bytes), 0) FROM usage_node_hour)::text AS coarse`,
  );
  expect(rows[0].fine).toBe(rows[0].coarse);
  return BigInt(rows[0].fine);
}

async function crossings(): Promise<{ subscription: string; observed: bigint }[]> {
  const { rows } = await sql.query(
    `SELECT subscription_id, observed_bytes FROM access_change WHERE cause = 'crossing' ORDER BY observed_bytes`,
  );
  return rows.map((r) => ({ subscription: r.subscription_id, observed: BigInt(r.observed_bytes) }));
}

/** What the journals sealed and the collectors acknowledged, from the meters of the journals. */
function sealed(): bigint {
  let sum = 0n;
  for (const node of nodes) for (const meter of node.journal.meters.values()) sum += meter.up + meter.down;
  return sum;
}

describe('derived state', () => {
  it('is exactly once when the collector is killed between append and flush', async () => {
    const first = await collect({ timers: false });
    const node = makeNode(0);
    await node.open(first.address);
    for (let i = 0; i < 5; i++) await node.send(node.journal.seal([use(0, 0, 10n, 1n), use(1, 3, 1n, 1n)]));
    await node.acknowledge(5n);
    await first.collector.flush();
    const flushed = await total();
    expect(flushed).toBe(sealed());
    for (let i = 0; i < 5; i++) await node.send(node.journal.seal([use(0, 0, 10n, 1n), use(0, 1, 7n, 7n)]));
    await node.acknowledge(10n);
    await first.kill();
    expect(await total()).toBe(flushed);
    const second = await collect({ timers: false });
    await node.open(second.address);
    await node.send(node.journal.seal([use(0, 0, 10n, 1n), use(0, 1, 7n, 7n)]));
    await node.acknowledge(11n);
    await second.collector.flush(true);
    await second.collector.flush(true);
    expect(await total()).toBe(sealed());
    expect(await series()).toBe(sealed());
    // Once more, from the meters' checkpoint.
    await second.kill();
    const third = await collect({ timers: false });
    await node.open(third.address);
    await node.send(node.journal.seal([use(0, 0, 10n, 1n), use(1, 3, 5n, 5n)]));
    await node.acknowledge(12n);
    await third.collector.flush();
    expect(await total()).toBe(sealed());
    // The counters are flushed, the series are not; and then a collector dies.
    expect(await series()).toBeLessThan(sealed());
    await third.kill();
    const fourth = await collect({ timers: false });
    await node.open(fourth.address);
    await node.send(node.journal.seal([use(0, 0, 1n, 1n)]));
    await node.acknowledge(13n);
    await fourth.collector.flush(true);
    expect(await total()).toBe(sealed());
    expect(await series()).toBe(sealed());
    await fourth.collector.flush(true);
    expect(await series()).toBe(sealed());
  });

  it('is caught up by another collector when the node does not come back', async () => {
    const first = await collect({ timers: false });
    const node = makeNode(0);
    await node.open(first.address);
    await node.send(node.journal.seal([use(0, 0, 10n, 1n)]));
    await node.acknowledge(1n);
    await first.kill();
    expect(await total()).toBe(0n);
    await collect({ behindMs: 50, flushMs: 50, metersFlushMs: 1_000_000 });
    await eventually(async () => (await total()) === sealed(), 'the sums of a dead collector');
  });

  it('is caught up in the series when a collector dies between two flushes of them and the node does not come back', async () => {
    const first = await collect({ timers: false });
    const node = makeNode(0);
    await node.open(first.address);
    await node.send(node.journal.seal([use(0, 0, 10n, 1n)]));
    await node.acknowledge(1n);
    await first.collector.flush();
    await first.kill();
    expect(await total()).toBe(sealed());
    expect(await series()).toBe(0n);
    await collect({ behindMs: 50, seriesBehindMs: 50, flushMs: 50, metersFlushMs: 50 });
    await eventually(async () => (await series()) === sealed(), 'the series of a dead collector');
    expect(await total()).toBe(sealed());
  });

  it('is exactly once when two collectors take streams from each other under load [R1-20]', async () => {
    const pair = [
      await collect({ flushMs: 20, metersFlushMs: 60 }),
      await collect({ flushMs: 30, metersFlushMs: 50 }),
    ];
    let n = 0;
    const agents = [0, 1, 2].map((i) => {
      const node = makeNode(i);
      const seal = (): SealedFrame =>
        node.journal.seal([use(0, n++ % 10, 3n, 4n), use(1, (n * 7) % 10, 1n, 0n)]);
      return new Agent(node, () => pair.map((c) => c.address), seal, 150);
    });
    const runs = agents.map((agent) => agent.run());
    // Again and again somebody else opens a node's stream under way: the live one is fenced and comes back elsewhere.
    let stealing = true;
    const stolenAt = new Map<TestNode, bigint>();
    const thief = (async () => {
      for (let i = 0; stealing; i++) {
        const other = pair[i % 2] as RunningCollector;
        const { node } = agents[i % agents.length] as Agent;
        if (node.acknowledged() > (stolenAt.get(node) ?? 0n) + 4n) {
          stolenAt.set(node, node.acknowledged());
          // A journal that is ahead of whatever is accepted by the time this is decided.
          const end = { epoch: 1, seq: 1_000_000n, digest: node.journal.link, oldestSeq: 1n };
          await other.collector
            .open(node.nodeId, end, { accepted() {}, end() {}, refuse() {} })
            .catch(() => undefined);
        }
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    })();
    await Promise.all(runs);
    stealing = false;
    await thief;
    for (const running of pair) await running.stop();
    // What the last thief opened and did not flush is caught up by the next collector.
    const last = await collect({ behindMs: 1, seriesBehindMs: 1, flushMs: 20, metersFlushMs: 50 });
    const all = async (): Promise<boolean> => (await total()) === sealed() && (await series()) === sealed();
    await eventually(all, 'all sums', 20_000);
    await last.stop();
    expect(await total()).toBe(sealed());
    expect(await series()).toBe(sealed());
    for (const agent of agents) expect(agent.kept).toEqual([]);
    const { rows } = await sql.query(
      'SELECT count(*)::int AS n, count(DISTINCT (node_id, epoch, seq))::int AS d FROM ledger_frame',
    );
    expect(rows[0]).toEqual({ n: 450, d: 450 });
    expect(agents.some((a) => a.reconnects > 1)).toBe(true);
  }, 120_000);
});

describe('a crossing', () => {
  it('is reported in the transaction of the frame that reaches the limit, once', async () => {
    const running = await collect({ timers: false });
    const node = makeNode(0);
    await node.open(running.address);
    await node.send(node.journal.seal([use(0, 0, 600n, 399n)]));
    await node.acknowledge(1n);
    expect(await crossings()).toEqual([]);
    await node.send(node.journal.seal([use(0, 0, 1n, 0n), use(0, 1, 5n, 5n)]));
    await node.acknowledge(2n);
    // Acknowledged and nothing flushed: the row is there already.
    expect(await total()).toBe(0n);
    const subscription = seed.tenants[0]?.subscriptions[0] as string;
    expect(await crossings()).toEqual([{ subscription, observed: 1000n }]);
    await node.send(node.journal.seal([use(0, 0, 50n, 0n)]));
    await node.acknowledge(3n);
    await running.collector.flush();
    expect(await crossings()).toEqual([{ subscription, observed: 1000n }]);
  });

  it('of two collectors, each below the limit, is found by the flush', async () => {
    const pair = [await collect({ timers: false }), await collect({ timers: false })];
    for (const [i, running] of pair.entries()) {
      const node = makeNode(i);
      await node.open(running.address);
      await node.send(node.journal.seal([use(0, 0, 600n, 0n)]));
      await node.acknowledge(1n);
    }
    expect(await crossings()).toEqual([]);
    await pair[0]?.collector.flush();
    expect(await crossings()).toEqual([]);
    await pair[1]?.collector.flush();
    expect(await crossings()).toEqual([{ subscription: seed.tenants[0]?.subscriptions[0], observed: 1200n }]);
    // The other one learns of it by its own next flush and does not report it again.
    await nodes[0]?.send(nodes[0].journal.seal([use(0, 0, 1n, 0n)]));
    await nodes[0]?.acknowledge(2n);
    await pair[0]?.collector.flush();
    expect(await crossings()).toHaveLength(1);
  });

  it('that only a dead collector had seen is found again by the flush of the next', async () => {
    const first = await collect({ timers: false });
    const node = makeNode(0);
    await node.open(first.address);
    await node.send(node.journal.seal([use(0, 0, 999n, 0n)]));
    await node.acknowledge(1n);
    await first.kill();
    const second = await collect({ timers: false });
    await node.open(second.address);
    await node.send(node.journal.seal([use(0, 0, 1n, 0n)]));
    await node.acknowledge(2n);
    expect(await crossings()).toEqual([{ subscription: seed.tenants[0]?.subscriptions[0], observed: 1000n }]);
    await second.collector.flush();
    expect(await crossings()).toHaveLength(1);
  });
});

describe('a group', () => {
  it('with a frame that cannot be stored stops only the stream of that frame', async () => {
    const victim = seed.tenants[0]?.subscriptions[9]?.replaceAll('-', '') as string;
    await sql.query(`CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN
      IF position('\\x${victim}'::bytea IN NEW.payload) > 0 THEN RAISE EXCEPTION 'poison' USING ERRCODE = '22000'; END IF; RETURN NEW; END $f$`);
    await sql.query(
      'CREATE TRIGGER poison BEFORE INSERT ON ledger_slice FOR EACH ROW EXECUTE FUNCTION poison()',
    );
    const running = await collect({ limits: { windowMs: 100 } });
    const group = [0, 1, 2].map((i) => makeNode(i));
    for (const node of group) {
      await node.open(running.address);
      await node.send(node.journal.seal([use(0, 0, 1n, 1n)]));
    }
    for (const node of group) await node.acknowledge(1n);
    const before = await total();
    const [good, bad, other] = group as [TestNode, TestNode, TestNode];
    await Promise.all([
      good.send(good.journal.seal([use(0, 1, 1n, 1n)])),
      bad.send(bad.journal.seal([use(0, 9, 1n, 1n)], { dry: true })),
      other.send(other.journal.seal([use(1, 1, 1n, 1n)])),
    ]);
    await good.acknowledge(2n);
    await other.acknowledge(2n);
    await bad.until(() => bad.over);
    expect(bad.refusal()).toMatchObject({ seq: 2n, code: 'internal' });
    await good.send(good.journal.seal([use(0, 1, 1n, 1n)]));
    await good.acknowledge(3n);
    await bad.open(running.address);
    await bad.send(bad.journal.seal([use(0, 2, 1n, 1n)]));
    await bad.acknowledge(2n);
    await running.collector.flush();
    // Two rows of 1 + 1 a node in the first frames, then four good frames.
    expect(before).toBe(0n);
    expect(await total()).toBe(sealed());
  });
});
