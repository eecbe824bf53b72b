// What an operator changes while nodes send: the multiplier of a node, a stream that was frozen, usage in quarantine.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import pg from 'pg';
import { createTestTrust, type TestTrust } from '@penstock/testkit/trust';
import { testDatabase, type TestDatabase } from '@penstock/testkit/postgres';
import { seedUsage, type UsageSeed } from '@penstock/testkit/usage-seed';
import { systemClock } from '@penstock/domain/clock';
import type { CollectorOptions } from '../src/collector.js';
import { NO_PERIOD_RETRY_MS } from '../src/release.js';
import { startCollector, testNode, type RunningCollector, type TestNode } from './support.js';

let db: TestDatabase;
let trust: TestTrust;
let seed: UsageSeed;
let sql: pg.Client;
let running: RunningCollector;
let node: TestNode;
let nextNode = 0;

/** Each test has a node and a subscription of its own. */
const TESTS = 8;

beforeAll(async () => {
  db = await testDatabase();
  trust = await createTestTrust();
  seed = await seedUsage(db.superuserUrl, trust, {
    ...{ tenants: 1, subscriptions: TESTS, nodes: TESTS, limitBytes: 1_000_000n, linkMbps: 1 },
  });
  sql = new pg.Client({ connectionString: db.superuserUrl });
  await sql.connect();
});
afterAll(async () => {
  await sql?.end();
  await db?.drop();
});
beforeEach(async () => {
  running = await startCollector(db, trust, { timers: false });
  node = testNode(seed, nextNode++, trust);
});
afterEach(async () => {
  await node.close();
  await running.kill();
});

const tenantId = (): string => seed.tenants[0]?.tenantId as string;
const own = (): string => seed.tenants[0]?.subscriptions[nextNode - 1] as string;
const use = (up: bigint, down = 0n) => ({ tenantId: tenantId(), subscriptionId: own(), up, down });

async function counter(): Promise<{ up: bigint; billable: bigint }> {
  const { rows } = await sql.query<{ up: string; billable: string }>(
    'SELECT up_bytes AS up, billable_bytes AS billable FROM usage_counter WHERE subscription_id = $1',
    [own()],
  );
  return { up: BigInt(rows[0]?.up ?? 0), billable: BigInt(rows[0]?.billable ?? 0) };
}

async function again(options: Partial<CollectorOptions> = {}): Promise<void> {
  await running.kill();
  running = await startCollector(db, trust, { timers: false, ...options });
}

describe('a multiplier', () => {
  it('is the one in force at the end of each window, and a replay bills the same', async () => {
    // The journal's first window ends a second after its start: two windows before the change, two from it on.
    const changeMs = node.journal.windowEndMs + 2_500;
    await sql.query('INSERT INTO node_multiplier (node_id, from_at, per_mille) VALUES ($1, $2, 2500)', [
      node.nodeId,
      new Date(changeMs),
    ]);
    await node.open(running.address);
    for (let i = 0; i < 4; i++) await node.send(node.journal.seal([use(1_000n)]));
    await node.acknowledge(4n);
    const expected = { up: 4_000n, billable: 2n * 1_000n + 2n * 2_500n };
    // Killed before its first flush: the next one reads the ledger, a minute and another change later.
    await again();
    await sql.query('UPDATE node SET multiplier_per_mille = 7000 WHERE node_id = $1', [node.nodeId]);
    expect(await counter()).toEqual({ up: 0n, billable: 0n });
    await node.open(running.address);
    await running.collector.flush();
    expect(await counter()).toEqual(expected);
  });

  it('is known to every collector before the first window that it is for', async () => {
    await sql.query('UPDATE node SET multiplier_per_mille = 3000 WHERE node_id = $1', [node.nodeId]);
    const { rows } = await sql.query<{ wait: number }>(
      `SELECT extract(epoch FROM max(from_at) - now())::float8 AS wait FROM node_multiplier WHERE node_id = $1`,
      [node.nodeId],
    );
    expect(rows[0]?.wait).toBeGreaterThan(290);
    await node.open(running.address);
    await node.send(node.journal.seal([use(10n)]));
    await node.acknowledge(1n);
    await running.collector.flush();
    expect(await counter()).toEqual({ up: 10n, billable: 10n });
    await expect(sql.query('UPDATE node_multiplier SET per_mille = 1')).rejects.toThrow(/append-only/);
  });
});

describe('a frozen stream', () => {
  it('goes on in a new epoch when it was released, and an old wish releases no later freeze', async () => {
    await node.open(running.address);
    await node.send(node.journal.seal([use(100n)]));
    await node.acknowledge(1n);
    const wish = (frozenAt: string): Promise<unknown> =>
      sql.query(
        `INSERT INTO stream_release (node_id, frozen_at, asked_at)
         SELECT node_id, ${frozenAt}, now() FROM stream_head WHERE node_id = $1`,
        [node.nodeId],
      );
    const open = (digest?: Buffer) => node.open(running.address, digest === undefined ? {} : { digest });
    await expect(open(Buffer.alloc(32, 9))).rejects.toMatchObject({ code: 'stream_frozen' });
    await expect(open()).rejects.toMatchObject({ code: 'stream_frozen' });

    await wish(`frozen_at - interval '1 second'`);
    await expect(open()).rejects.toMatchObject({ code: 'stream_frozen' });
    expect((await sql.query('SELECT FROM stream_release')).rowCount).toBe(0);

    await wish('frozen_at');
    const opened = await open();
    expect(opened).toMatchObject({ epoch: 2, nextSeq: 1n, baselinesNeeded: true });
    expect([...(await node.baselines()).values()]).toEqual([{ up: 100n, down: 0n }]);
    await node.send(node.journal.seal([use(7n)]));
    await node.acknowledge(1n);
    await running.collector.flush();
    expect(await counter()).toEqual({ up: 107n, billable: 107n });
    const { rows } = await sql.query(
      'SELECT epoch, frozen_at, frozen_reason, (SELECT count(*)::int FROM stream_release) AS wishes FROM stream_head WHERE node_id = $1',
      [node.nodeId],
    );
    expect(rows).toEqual([{ epoch: 2, frozen_at: null, frozen_reason: null, wishes: 0 }]);

    await expect(open(Buffer.alloc(32, 8))).rejects.toMatchObject({ code: 'stream_frozen' });
    await expect(open()).rejects.toMatchObject({ code: 'stream_frozen' });
  });
});

describe('a node that went on from a restored snapshot, beyond what was accepted', () => {
  it('freezes its stream by its first frame, and goes on from what the ledger holds when it is released', async () => {
    await node.open(running.address);
    await node.send(node.journal.seal([use(50n)]));
    // Sealed, sent and accepted; then the machine is put back to before it.
    await node.send(node.journal.seal([use(20n)], { dry: true }));
    await node.acknowledge(2n);
    node.journal.seal([use(4n)]);
    const third = node.journal.seal([use(5n)]);
    const opened = await node.open(running.address, { oldestSeq: 2n });
    expect(opened).toMatchObject({ epoch: 1, nextSeq: 3n });
    await node.send(third);
    await node.until(() => node.over);
    expect(node.refusal()?.code).toBe('digest_mismatch');
    await expect(node.open(running.address)).rejects.toMatchObject({ code: 'stream_frozen' });
    await sql.query(
      `INSERT INTO stream_release (node_id, frozen_at, asked_at) SELECT node_id, frozen_at, now() FROM stream_head WHERE node_id = $1`,
      [node.nodeId],
    );
    const fresh = await node.open(running.address);
    expect(fresh).toMatchObject({ epoch: 2, nextSeq: 1n, baselinesNeeded: true });
    // The engine's counters go on; the baseline says what of them is in the ledger, whatever the snapshot believed.
    expect([...(await node.baselines()).values()]).toEqual([{ up: 70n, down: 0n }]);
    for (const meter of node.journal.meters.values()) meter.up = 70n;
    for (const { digest } of fresh.sliceHeads) node.journal.sliceEnds.set(tenantId(), digest);
    await node.send(node.journal.seal([use(9n)]));
    await node.acknowledge(1n);
    await running.collector.flush();
    expect(await counter()).toEqual({ up: 79n, billable: 79n });
  });
});

describe('usage in quarantine', () => {
  /** 2 MB in one window of a link of 1 Mbit/s. */
  const MUCH = 2_000_000n;

  async function quarantined(): Promise<void> {
    await node.open(running.address);
    await node.send(node.journal.seal([use(1n)]));
    await node.send(node.journal.seal([use(MUCH)]));
    await node.acknowledge(2n);
    await running.collector.flush();
    expect(await counter()).toEqual({ up: 1n, billable: 1n });
  }

  const wish = (): Promise<unknown> =>
    sql.query(
      `INSERT INTO quarantine_release (tenant_id, quarantine_id, asked_at)
       SELECT tenant_id, quarantine_id, now() FROM usage_quarantine WHERE node_id = $1
       ON CONFLICT DO NOTHING`,
      [node.nodeId],
    );

  it('is billed once when it is released, by whichever collector, and a crossing is told', async () => {
    await sql.query('INSERT INTO node_multiplier (node_id, from_at, per_mille) VALUES ($1, $2, 1500)', [
      node.nodeId,
      new Date(node.journal.windowEndMs),
    ]);
    await node.open(running.address);
    await node.send(node.journal.seal([use(MUCH)]));
    await node.acknowledge(1n);
    await wish();
    const other = await startCollector(db, trust, { timers: false });
    try {
      const counts = await Promise.all(
        [running, other, running, other].map((one) => one.collector.billReleases()),
      );
      expect(counts.reduce((sum, n) => sum + n, 0)).toBe(1);
    } finally {
      await other.kill();
    }
    const billed = { up: MUCH, billable: 3_000_000n };
    expect(await counter()).toEqual(billed);
    // Asked for again, and read again from the ledger by the next collector.
    await wish();
    expect(await running.collector.billReleases()).toBe(0);
    await again();
    await node.open(running.address);
    await running.collector.flush();
    expect(await counter()).toEqual(billed);
    const series = await sql.query(
      `SELECT up_bytes::text AS up, billable_bytes::text AS billable FROM usage_hour WHERE subscription_id = $1`,
      [own()],
    );
    expect(series.rows).toEqual([{ up: billed.up.toString(), billable: billed.billable.toString() }]);
    const { rows } = await sql.query(
      `SELECT q.released_at IS NOT NULL AS released, (SELECT count(*)::int FROM quarantine_release) AS wishes,
              (SELECT array_agg(observed_bytes) FROM access_change WHERE subscription_id = $2 AND cause = 'crossing') AS told
         FROM usage_quarantine q WHERE node_id = $1`,
      [node.nodeId, own()],
    );
    expect(rows).toEqual([{ released: true, wishes: 0, told: ['3000000'] }]);
  });

  it('is billed whole or not at all when the collector dies in between', async () => {
    await quarantined();
    await wish();
    // The transaction that bills it is ended by the server at its last statement.
    await sql.query(`CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$`);
    await sql.query(
      `CREATE TRIGGER die AFTER INSERT ON access_change FOR EACH STATEMENT EXECUTE FUNCTION die()`,
    );
    expect(await running.collector.billReleases()).toBe(0);
    expect(await counter()).toEqual({ up: 1n, billable: 1n });
    await sql.query('DROP TRIGGER die ON access_change');
    await sql.query('DROP FUNCTION die');
    expect(await running.collector.billReleases()).toBe(1);
    expect(await counter()).toEqual({ up: 1n + MUCH, billable: 1n + MUCH });
  });

  it('of several meters that together show more than 2^63 − 1 bytes is kept as that, and stops no stream', async () => {
    const most = 2n ** 63n - 1n;
    await node.open(running.address);
    await node.send(
      node.journal.seal([use(most)], {
        opened: ([one]) => (one === undefined ? [] : [one, { ...one, meter: one.meter ^ 1n }]),
        rows: ([one]) => (one === undefined ? [] : [one, { ...one, meter: one.meter ^ 1n }]),
      }),
    );
    await node.acknowledge(1n);
    const { rows } = await sql.query('SELECT up_bytes AS up FROM usage_quarantine WHERE node_id = $1', [
      node.nodeId,
    ]);
    expect(rows).toEqual([{ up: most.toString() }]);
  });

  it('waits with the wish while its subscription has no period, and is billed when it has one', async () => {
    await quarantined();
    const stranger = '018f0000-0000-7000-8000-0000000000aa';
    await sql.query('UPDATE usage_quarantine SET subscription_id = $2 WHERE node_id = $1', [
      node.nodeId,
      stranger,
    ]);
    await wish();
    expect(await running.collector.billReleases()).toBe(0);
    const { rows } = await sql.query(
      `SELECT released_at, (SELECT count(*)::int FROM quarantine_release) AS wishes FROM usage_quarantine WHERE node_id = $1`,
      [node.nodeId],
    );
    expect(rows).toEqual([{ released_at: null, wishes: 1 }]);
    await sql.query('UPDATE usage_quarantine SET subscription_id = $2 WHERE node_id = $1', [
      node.nodeId,
      own(),
    ]);
    // Not looked at in every pass: a minute goes by.
    expect(await running.collector.billReleases()).toBe(0);
    await again({ clock: { ...systemClock, now: () => systemClock.now() + NO_PERIOD_RETRY_MS } });
    expect(await running.collector.billReleases()).toBe(1);
    expect(await counter()).toEqual({ up: 1n + MUCH, billable: 1n + MUCH });
    expect((await sql.query('SELECT FROM quarantine_release')).rowCount).toBe(0);
  });
});
