// Frames through the collector's door: order, repeats, contradictions, refusals; what is stored and counted.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import pg from 'pg';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { newId } from '@penstock/domain/ids';
import { createTestTrust, type TestTrust } from '@penstock/testkit/trust';
import { testDatabase, type TestDatabase } from '@penstock/testkit/postgres';
import { seedUsage, type UsageSeed } from '@penstock/testkit/usage-seed';
import { startCollector, testNode, type RunningCollector, type TestNode } from './support.js';

let db: TestDatabase;
let trust: TestTrust;
let seed: UsageSeed;
let sql: pg.Client;
let running: RunningCollector;
let node: TestNode;
let nextNode = 0;

const NODES = 60;

/** A small seeded generator (mulberry32). */
function seeded(from: number): () => number {
  let state = from;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

beforeAll(async () => {
  db = await testDatabase();
  trust = await createTestTrust();
  seed = await seedUsage(db.superuserUrl, trust, {
    tenants: 2,
    subscriptions: 3,
    nodes: NODES,
    limitBytes: null,
  });
  sql = new pg.Client({ connectionString: db.superuserUrl });
  await sql.connect();
});
afterAll(async () => {
  await sql?.end();
  await db?.drop();
});
beforeEach(async () => {
  running = await startCollector(db, trust);
  node = testNode(seed, nextNode++, trust);
});
afterEach(async () => {
  await node.close();
  await running.stop();
});

const who = (tenant: number, subscription: number) => ({
  tenantId: seed.tenants[tenant]?.tenantId as string,
  subscriptionId: seed.tenants[tenant]?.subscriptions[subscription] as string,
});
const use = (tenant: number, subscription: number, up: bigint, down: bigint) => ({
  ...who(tenant, subscription),
  up,
  down,
});

async function counted(
  tenant: number,
  subscription: number,
): Promise<{ up: bigint; down: bigint; billable: bigint }> {
  await running.collector.flush();
  const { rows } = await sql.query(
    'SELECT up_bytes, down_bytes, billable_bytes FROM usage_counter WHERE tenant_id = $1 AND subscription_id = $2',
    Object.values(who(tenant, subscription)),
  );
  const row = rows[0] ?? { up_bytes: 0, down_bytes: 0, billable_bytes: 0 };
  return { up: BigInt(row.up_bytes), down: BigInt(row.down_bytes), billable: BigInt(row.billable_bytes) };
}

async function stored(): Promise<{ frames: number; slices: number }> {
  const { rows } = await sql.query(
    `SELECT (SELECT count(*) FROM ledger_frame WHERE node_id = $1)::int AS frames,
            (SELECT count(*) FROM ledger_slice WHERE node_id = $1)::int AS slices`,
    [node.nodeId],
  );
  return rows[0];
}

async function metric(text: string): Promise<number> {
  const line = (await running.metrics.registry.metrics()).split('\n').find((l) => l.startsWith(text));
  return line === undefined ? 0 : Number(line.split(' ').at(-1));
}

/** A good frame before, then the bad one: refused with the code, counted, nothing changed. */
async function refused(code: string, send: () => Promise<void>): Promise<void> {
  await running.collector.flush();
  const before = await stored();
  const rejections = await metric(`rejected_total{reason="${code}"}`);
  const counters = await sql.query('SELECT sum(up_bytes + down_bytes) AS sum FROM usage_counter');
  await send();
  await node.until(() => node.over);
  expect(node.refusal()?.code).toBe(code);
  await running.collector.flush();
  expect(await stored()).toEqual(before);
  expect((await sql.query('SELECT sum(up_bytes + down_bytes) AS sum FROM usage_counter')).rows).toEqual(
    counters.rows,
  );
  expect(await metric(`rejected_total{reason="${code}"}`)).toBe(rejections + 1);
}

describe('a stream', () => {
  it('stores frames and counts them once, also when each is sent three times [R1-03]', async () => {
    const before = await counted(0, 0);
    const opened = await node.open(running.address);
    expect(opened).toMatchObject({ epoch: 1, nextSeq: 1n, window: 8, baselinesNeeded: true });
    const frames = [1, 2, 3].map((n) => node.journal.seal([use(0, 0, BigInt(n), 10n), use(1, 1, 1n, 1n)]));
    for (const frame of frames) for (let i = 0; i < 3; i++) await node.send(frame);
    await node.acknowledge(3n);
    await node.open(running.address);
    for (const frame of frames) await node.send(frame);
    await node.until(
      () =>
        node.responses.filter((r) => r.message?.$case === 'accepted' && r.message.value.duplicate).length ===
        3,
    );
    expect(await stored()).toEqual({ frames: 3, slices: 6 });
    const after = await counted(0, 0);
    expect(after.up - before.up).toBe(6n);
    expect(after.down - before.down).toBe(30n);
    expect(after.billable - before.billable).toBe(36n);
  });

  it('answers a frame that is ahead with the expected number', async () => {
    await node.open(running.address);
    const frames = [1, 2, 3, 4].map(() => node.journal.seal([use(0, 0, 1n, 1n)]));
    await node.send(frames[0] as (typeof frames)[0]);
    await node.acknowledge(1n);
    await node.send(frames[2] as (typeof frames)[0]);
    await node.send(frames[3] as (typeof frames)[0]);
    await node.until(() => node.responses.some((r) => r.message?.$case === 'expected'));
    expect(
      node.responses.filter((r) => r.message?.$case === 'expected').map((r) => r.message?.value),
    ).toEqual([{ seq: 2n }]);
    for (const frame of frames.slice(1)) await node.send(frame);
    await node.acknowledge(4n);
    expect((await stored()).frames).toBe(4);
  });

  it('takes frames in order whatever order, loss and repetition they come in [R1-02]', async () => {
    for (const drawn of [1, 2, 3, 4, 5, 6, 7, 8]) {
      await node.close();
      node = testNode(seed, nextNode++, trust);
      const random = seeded(drawn);
      const before = await counted(1, 2);
      await node.open(running.address);
      const frames = Array.from({ length: 12 }, (_, i) =>
        node.journal.seal([use(1, 2, 2n ** BigInt(i), 0n)]),
      );
      const sent = new Set<number>();
      let acknowledged = 0;
      const expectedNext = (): number =>
        node.responses.reduce((next, { message }) => {
          if (message?.$case === 'accepted' && !message.value.duplicate) return Number(message.value.seq) + 1;
          return next;
        }, 1);
      for (let round = 0; acknowledged < frames.length; round++) {
        // Some of what is not acknowledged, shuffled, some of it twice; one in three is lost.
        const batch = frames
          .slice(Math.max(0, acknowledged - 1), acknowledged + 4)
          .flatMap((frame) => (random() < 0.3 ? [frame, frame] : [frame]))
          .filter(() => round % 4 === 3 || random() > 1 / 3)
          .map((frame) => ({ frame, at: random() }))
          .sort((a, b) => a.at - b.at);
        const told = node.responses.length;
        for (const { frame } of batch) await node.send(frame);
        if (batch.length > 0) await node.until(() => node.responses.length > told);
        // What is asked for is the first number that never came, or one before it: never one behind a hole.
        for (const { frame } of batch) sent.add(Number(frame.seq));
        const missing = frames.findIndex((_, i) => !sent.has(i + 1)) + 1 || frames.length + 1;
        for (const { message } of node.responses.slice(told))
          if (message?.$case === 'expected') expect(Number(message.value.seq)).toBeLessThanOrEqual(missing);
        expect(expectedNext()).toBeLessThanOrEqual(missing);
        acknowledged = expectedNext() - 1;
      }
      const accepted = node.responses.flatMap(({ message }) =>
        message?.$case === 'accepted' && !message.value.duplicate ? [Number(message.value.seq)] : [],
      );
      // One acknowledgement may stand for several frames; none ever goes back.
      expect(accepted, `seed ${drawn}`).toEqual([...new Set(accepted)].sort((a, b) => a - b));
      expect(accepted.at(-1), `seed ${drawn}`).toBe(12);
      expect((await stored()).frames).toBe(12);
      expect((await counted(1, 2)).up - before.up).toBe(2n ** 12n - 1n);
    }
  });

  it('takes a large frame in parts', async () => {
    await node.open(running.address);
    const frame = node.journal.seal([use(0, 0, 5n, 5n)]);
    const cut = 60;
    await node.send(frame, {
      data: frame.bytes.subarray(0, cut),
      part: 0,
      parts: 2,
      signature: Buffer.alloc(0),
    });
    await node.send(frame, { data: frame.bytes.subarray(cut), part: 1, parts: 2 });
    await node.acknowledge(1n);
  });

  it('freezes when another frame comes with a number that was accepted [R1-03]', async () => {
    await node.open(running.address);
    const first = node.journal.seal([use(0, 0, 1n, 1n)], { dry: true });
    const other = node.journal.seal([use(0, 0, 2n, 2n)], { dry: true });
    await node.send(first);
    await node.acknowledge(1n);
    await refused('frame_fork', () => node.send(other));
    const { rows } = await sql.query(
      'SELECT frozen_reason FROM stream_head WHERE node_id = $1 AND frozen_at IS NOT NULL',
      [node.nodeId],
    );
    expect(rows).toEqual([{ frozen_reason: 'frame_fork' }]);
    await expect(node.open(running.address)).rejects.toMatchObject({ code: 'stream_frozen' });
  });

  it('is not frozen by a contradicting frame that the node has not signed', async () => {
    await node.open(running.address);
    const first = node.journal.seal([use(0, 0, 1n, 1n)], { dry: true });
    const other = node.journal.seal([use(0, 0, 2n, 2n)], {
      dry: true,
      signWith: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey,
    });
    await node.send(first);
    await node.acknowledge(1n);
    await refused('signature_invalid', () => node.send(other));
    await node.open(running.address, { seq: 1n, digest: first.link, epoch: 1 });
  });

  it('is closed for the older connection when a newer one of the node opens [R1-20]', async () => {
    await node.open(running.address);
    const second = testNode(seed, nextNode - 1, trust);
    await second.open(running.address);
    await node.until(() => node.over);
    expect(node.error).toMatchObject({ code: 'fenced' });
    await second.send(second.journal.seal([use(0, 0, 1n, 0n)]));
    await second.acknowledge(1n);
    await second.close();
  });

  it('goes on in a new epoch from baselines when the journal is lost [V46]', async () => {
    await node.open(running.address);
    await node.send(node.journal.seal([use(0, 2, 100n, 200n), use(1, 2, 7n, 0n)]));
    await node.acknowledge(1n);
    const before = await counted(0, 2);
    const opened = await node.open(running.address, { epoch: 0, seq: 0n, digest: Buffer.alloc(0) });
    expect(opened).toMatchObject({
      epoch: 2,
      nextSeq: 1n,
      baselinesNeeded: true,
      headDigest: node.journal.link,
    });
    expect(opened.sliceHeads).toHaveLength(2);
    const baselines = await node.baselines();
    expect([...baselines.values()]).toEqual(
      expect.arrayContaining([
        { up: 100n, down: 200n },
        { up: 7n, down: 0n },
      ]),
    );
    node.journal.beginEpoch(2, opened.headDigest);
    await node.send(node.journal.seal([use(0, 2, 11n, 0n)]));
    await node.acknowledge(1n);
    expect((await counted(0, 2)).up - before.up).toBe(11n);
  });

  it('freezes when the journal names another digest for the last accepted frame', async () => {
    await node.open(running.address);
    await node.send(node.journal.seal([use(0, 0, 1n, 1n)]));
    await node.acknowledge(1n);
    await expect(node.open(running.address, { digest: randomBytes(32) })).rejects.toMatchObject({
      code: 'stream_frozen',
    });
    await expect(node.open(running.address)).rejects.toMatchObject({ code: 'stream_frozen' });
  });

  it('counts what a gap lost from the rows after it', async () => {
    const before = await counted(1, 0);
    await node.open(running.address);
    await node.send(node.journal.seal([use(1, 0, 10n, 10n)]));
    const before2 = node.journal.link;
    const lost = node.journal.seal([use(1, 0, 5n, 0n)]);
    // The record of frame 2 is corrupt: a gap frame takes its place, frame 3 was sealed before.
    const third = node.journal.seal([use(1, 0, 1n, 1n)]);
    node.journal.seq = 1n;
    node.journal.link = before2;
    const gap = node.journal.sealGap(lost.link);
    await node.send(gap);
    await node.send(third);
    await node.acknowledge(3n);
    const after = await counted(1, 0);
    expect(after.up - before.up).toBe(16n);
    expect(after.down - before.down).toBe(11n);
    const { rows } = await sql.query('SELECT kind FROM loss_mark WHERE node_id = $1', [node.nodeId]);
    expect(rows).toEqual([{ kind: 'record_lost' }]);
    node.journal.seq = 3n;
    node.journal.link = third.link;
    await refused('sum_mismatch', () =>
      node.send(
        node.journal.seal([use(1, 0, 1n, 1n)], {
          rows: (rows) => rows.map((r) => ({ ...r, cumulativeUp: r.cumulativeUp + 1n })),
        }),
      ),
    );
  });
});

describe('a frame is refused', () => {
  beforeEach(async () => {
    await node.open(running.address);
    await node.send(node.journal.seal([use(0, 0, 100n, 100n)]));
    await node.acknowledge(1n);
    await running.collector.flush();
  });

  it('when it does not name its predecessor', () =>
    refused('digest_mismatch', () =>
      node.send(node.journal.seal([use(0, 0, 1n, 1n)], { header: { prevDigest: randomBytes(32) } })),
    ));

  it('when a slice does not name its predecessor', () =>
    refused('digest_mismatch', () =>
      node.send(node.journal.seal([use(0, 0, 1n, 1n)], { slicePrevDigest: randomBytes(32) })),
    ));

  it('when it is malformed', () => {
    const frame = node.journal.seal([use(0, 0, 1n, 1n)]);
    return refused('frame_malformed', () =>
      node.send({ ...frame, bytes: frame.bytes.subarray(0, frame.bytes.length - 1) }),
    );
  });

  it('when the part names another frame', () => {
    const frame = node.journal.seal([use(0, 0, 1n, 1n)]);
    return refused('frame_malformed', () => node.send({ ...frame, seq: 9n }));
  });

  it('when it is too large [R1-16]', async () => {
    const before = await stored();
    const frame = node.journal.seal([use(0, 0, 1n, 1n)]);
    const data = Buffer.alloc(1024 * 1024);
    for (let part = 0; part < 17 && !node.over; part++)
      await node.send(frame, { data, part, parts: 20 }).catch(() => undefined);
    await node.until(() => node.over);
    expect(node.refusal()?.code).toBe('frame_too_large');
    expect(await stored()).toEqual(before);
  });

  it('when a tenant is not served by the node', () =>
    refused('not_assigned', () =>
      node.send(node.journal.seal([{ tenantId: newId(), subscriptionId: newId(), up: 1n, down: 1n }])),
    ));

  it('when it names another node', () => {
    const other = seed.nodes.at(-1)?.nodeId as string;
    const nodeId = Buffer.from(other.replaceAll('-', ''), 'hex');
    return refused('node_mismatch', () =>
      node.send(node.journal.seal([use(0, 0, 1n, 1n)], { header: { nodeId } })),
    );
  });

  it('when another key signed it', () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    return refused('signature_invalid', () =>
      node.send(node.journal.seal([use(0, 0, 1n, 1n)], { signWith: privateKey })),
    );
  });

  it("when it names another node's certificate", () => {
    const other = seed.nodes.at(-1)?.identity;
    return refused('certificate_invalid', () =>
      node.send(
        node.journal.seal([use(0, 0, 1n, 1n)], {
          header: { certificateSerial: other?.serial as Buffer },
          ...(other === undefined ? {} : { signWith: other.keys.privateKey }),
        }),
      ),
    );
  });

  it('when a cumulative is not the sum of the deltas', () =>
    refused('sum_mismatch', () =>
      node.send(
        node.journal.seal([use(0, 0, 1n, 1n)], {
          rows: (rows) => rows.map((r) => ({ ...r, cumulativeDown: r.cumulativeDown + 1n })),
        }),
      ),
    ));

  it('when a new meter does not start at 0', () =>
    refused('sum_mismatch', () =>
      node.send(
        node.journal.seal([use(0, 1, 1n, 1n)], {
          rows: (rows) => rows.map((r) => ({ ...r, cumulativeDown: r.cumulativeDown + 1n })),
        }),
      ),
    ));

  it('when a meter was never opened', () =>
    refused('frame_malformed', () =>
      node.send(node.journal.seal([use(0, 1, 1n, 1n)], { opened: () => [] })),
    ));

  it('when a meter changes its subscription', () => {
    const id = Buffer.from(who(0, 1).subscriptionId.replaceAll('-', ''), 'hex');
    return refused('frame_malformed', () =>
      node.send(
        node.journal.seal([use(0, 0, 1n, 1n)], {
          rows: (rows) => rows.map((r) => ({ ...r, subscription: id })),
        }),
      ),
    );
  });

  it('when it is sent under the name of another node', async () => {
    await expect(
      node.open(running.address, { nodeId: seed.nodes.at(-1)?.nodeId as string }),
    ).rejects.toMatchObject({ code: 'node_mismatch' });
    await expect(node.open(running.address, { seq: 1n, epoch: 1 })).resolves.toBeDefined();
  });
});

describe('usage that is kept but not billed', () => {
  it('is that of subscriptions not assigned to the node, above the link, and near 2^63', async () => {
    await node.open(running.address);
    const stranger = newId();
    const before = await counted(0, 1);
    const huge = 2n ** 62n;
    await node.send(
      node.journal.seal([
        { tenantId: who(0, 0).tenantId, subscriptionId: stranger, up: 3n, down: 4n },
        use(0, 1, 1n, 1n),
      ]),
    );
    await node.send(node.journal.seal([use(0, 1, huge, huge)]));
    await node.send(node.journal.seal([use(0, 1, 2n, 2n)]));
    await node.acknowledge(3n);
    const after = await counted(0, 1);
    expect(after.up - before.up).toBe(3n);
    const { rows } = await sql.query(
      'SELECT seq::int, subscription_id, up_bytes, down_bytes, reason FROM usage_quarantine WHERE node_id = $1 ORDER BY seq',
      [node.nodeId],
    );
    expect(rows).toEqual([
      { seq: 1, subscription_id: stranger, up_bytes: '3', down_bytes: '4', reason: 'not_assigned' },
      {
        seq: 2,
        subscription_id: who(0, 1).subscriptionId,
        up_bytes: huge.toString(),
        down_bytes: huge.toString(),
        reason: 'above_link_rate',
      },
    ]);
  });

  it('is that of windows which bill the same time again: overlapping, repeated, or without any length', async () => {
    await node.open(running.address);
    const before = await counted(0, 2);
    // The link carries 100 Gbit/s: what one second holds.
    const second = 12_500_000_000n;
    const end = Date.now() - 60_000;
    const send = async (seq: bigint, bytes: bigint): Promise<void> => {
      node.journal.windowEndMs = end;
      await node.send(node.journal.seal([use(0, 2, bytes, 0n)]));
      await node.acknowledge(seq);
    };
    await send(1n, 1n);
    for (let seq = 2n; seq <= 6n; seq++) await send(seq, second);
    // The slack of two seconds is there once, however many frames ask for it.
    expect((await counted(0, 2)).up - before.up).toBeLessThanOrEqual(1n + 3n * second);
    const { rows } = await sql.query<{ n: number }>(
      `SELECT count(*)::int AS n FROM usage_quarantine WHERE node_id = $1 AND reason = 'above_link_rate'`,
      [node.nodeId],
    );
    expect(rows[0]?.n).toBeGreaterThanOrEqual(2);
  });

  it('does not come from a node that makes subscriptions up by the thousand', async () => {
    const strangers = Array.from({ length: 10_001 }, () => ({
      ...{ tenantId: who(0, 0).tenantId, subscriptionId: newId(), up: 1n, down: 0n },
    }));
    await node.open(running.address);
    const frame = node.journal.seal(strangers);
    const half = frame.bytes.length >> 1;
    await refused('not_assigned', async () => {
      const first = { data: frame.bytes.subarray(0, half), part: 0, parts: 2, signature: Buffer.alloc(0) };
      await node.send(frame, first);
      await node.send(frame, { data: frame.bytes.subarray(half), part: 1, parts: 2 });
    });
    const { rows } = await sql.query('SELECT FROM usage_quarantine WHERE node_id = $1', [node.nodeId]);
    expect(rows).toHaveLength(0);
  });

  it('is accepted and flagged when the clock is implausible', async () => {
    await node.open(running.address);
    node.journal.windowEndMs = Date.now() + 3_600_000;
    const before = await counted(1, 1);
    await node.send(node.journal.seal([use(1, 1, 9n, 0n)]));
    await node.acknowledge(1n);
    expect((await counted(1, 1)).up - before.up).toBe(9n);
    const { rows } = await sql.query('SELECT flags FROM ledger_frame WHERE node_id = $1', [node.nodeId]);
    expect(rows).toEqual([{ flags: 1 }]);
  });
});
