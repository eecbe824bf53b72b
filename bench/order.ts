// B6: the time from a node's sending the sample that crosses a quota to the node's having the order that cuts, quiet: one
// frame of 500 rows every 40 ms. The collector commits it, leaves the access_change row, the scheduler decides,
// commits the revision and sends it. Three processes and PostgreSQL with fsync. Anchor: one round trip on a stream of
// the same server and TLS, and one fdatasync, in the same round.
import { closeSync, fdatasyncSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { createClient } from '@penstock/db/pool';
import { newId, type NodeId, type SubscriptionId, type TenantId } from '@penstock/domain/ids';
import { connect, openBidi } from '@penstock/rpc/client';
import { publicKeyHash } from '@penstock/rpc/certificates';
import {
  EnforcementServiceClient,
  type SyncRequest,
  type SyncResponse,
} from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import { sealSecret } from '@penstock/service/secret-box';
import { TestJournal } from '@penstock/testkit/journal';
import { writeTlsFiles, type TestIdentity } from '@penstock/testkit/trust';
import { BenchNode } from './order-node.js';
import { freePort, makeGround, pause, quiet, until, type Ground } from './processes.js';
import { median, quantile, round, spread, type BenchOptions, type BenchResult } from './result.js';

/** One frame in this time: quiet, and each crossing is over before the next. */
const EVERY_MS = 40;
const ROWS = 500;
const LIMIT_BYTES = 1_000_000n;
const ANCHOR_ROUNDS = 200;
/** Goal and floor of p50 and p99 in ms. */
const FLOOR = { p50: 15, p99: 80 };

interface Customers {
  tenantId: TenantId;
  /** Unlimited, with traffic in every frame. */
  busy: SubscriptionId[];
  /** One of them crosses its limit with each frame. */
  crossing: SubscriptionId[];
}

export async function bench(options: BenchOptions): Promise<BenchResult> {
  const count = options.count ?? 100;
  const ground = await makeGround();
  try {
    const nodeId = newId<NodeId>();
    const identity = await ground.trust.node(nodeId);
    const customers = await seed(ground, nodeId, identity, options.rounds * count + count);
    const [scheduler, collector] = [await ground.start('scheduler'), await ground.start('collector')];
    const node = new BenchNode(nodeId, identity, ground.trust.trustDomain, scheduler, collector);
    await node.open();
    const all = customers.busy.length + customers.crossing.length;
    await until('every customer is admitted', () => {
      if (node.fault !== null) throw node.fault;
      return node.opened && node.entries.size === all;
    });
    options.say(
      `${all} customers admitted; ${options.rounds} rounds of ${count} crossings, one every ${EVERY_MS} ms`,
    );
    const echo = await startEcho(ground, identity);
    const journal = new TestJournal(nodeId, identity.serial, identity.keys.privateKey, Date.now(), EVERY_MS);
    const rest = [...customers.crossing];
    // The first round warms up connections, plans and code, and is not counted.
    await crossingRound(node, journal, customers, rest.splice(0, count));
    const p50s: number[] = [];
    const p99s: number[] = [];
    const anchors: number[] = [];
    const every: number[] = [];
    const wall = new Map<string, [sent: number, arrived: number]>();
    const foreign: number[] = [];
    const cpu = { scheduler: 0, collector: 0 };
    for (let n = 0; n < options.rounds; n++) {
      foreign.push(await quiet());
      const anchor = (await echo.roundTripMs()) + fdatasyncMs(ground.dir);
      const before = [ground.cpuMs(scheduler), ground.cpuMs(collector)] as const;
      const samples = await crossingRound(node, journal, customers, rest.splice(0, count), wall);
      cpu.scheduler += ground.cpuMs(scheduler) - before[0];
      cpu.collector += ground.cpuMs(collector) - before[1];
      p50s.push(median(samples));
      p99s.push(quantile(samples, 0.99));
      anchors.push(anchor);
      every.push(...samples);
      options.say(
        `round ${n + 1}: p50 ${round(median(samples))} ms, p99 ${round(quantile(samples, 0.99))} ms, anchor ${round(anchor)} ms`,
      );
    }
    echo.close();
    node.close();
    const parts = await check(ground, customers, count * (options.rounds + 1), wall);
    const p50 = median(p50s);
    const p99 = quantile(every, 0.99);
    return {
      ...{ name: 'order', value: round(p50), unit: 'ms', anchor: round(median(anchors)) },
      ratio: round(median(p50s.map((value, n) => value / (anchors[n] ?? Number.NaN)))),
      rounds: spread(p50s),
      good: p50 <= FLOOR.p50 && p99 <= FLOOR.p99,
      also: {
        ...parts,
        foreignCpu: spread(foreign).join(' / '),
        schedulerCpuMsEach: round(cpu.scheduler / every.length),
        collectorCpuMsEach: round(cpu.collector / every.length),
        p99Ms: round(p99),
        p99Rounds: spread(p99s).join(' / '),
        crossings: every.length,
        rows: ROWS,
      },
    };
  } finally {
    await ground.close();
  }
}

/** Sends a frame for each customer in time; resolves when all orders are there. Milliseconds from send to order. */
async function crossingRound(
  node: BenchNode,
  journal: TestJournal,
  customers: Customers,
  crossing: readonly SubscriptionId[],
  wall = new Map<string, [sent: number, arrived: number]>(),
): Promise<number[]> {
  const { tenantId } = customers;
  const sentAt: number[] = [];
  let at = performance.now();
  for (const subscriptionId of crossing) {
    const rows = customers.busy.map((id) => ({ tenantId, subscriptionId: id, up: 700n, down: 1_400n }));
    // Sealing is the agent's own time and not part of the way.
    const frame = journal.seal([...rows, { tenantId, subscriptionId, up: 0n, down: LIMIT_BYTES }]);
    at = Math.max(at + EVERY_MS, performance.now());
    await pause(Math.max(0, at - performance.now()));
    sentAt.push(performance.now());
    await node.send(frame);
    // The journal's windows follow the clock.
    journal.windowEndMs = Date.now();
  }
  const keys = crossing.map((id) => id.replaceAll('-', ''));
  await until('every crossing is ordered', () => {
    if (node.fault !== null) throw node.fault;
    return keys.every((key) => node.removedAt.has(key));
  });
  return keys.map((key, n) => {
    const [sent, arrived] = [sentAt[n] ?? Number.NaN, node.removedAt.get(key) ?? Number.NaN];
    wall.set(key, [performance.timeOrigin + sent, performance.timeOrigin + arrived]);
    return arrived - sent;
  });
}

async function seed(
  ground: Ground,
  nodeId: NodeId,
  identity: TestIdentity,
  crossings: number,
): Promise<Customers> {
  const tenantId = newId<TenantId>();
  const [planId, groupId] = [newId(), newId()];
  const ids = Array.from({ length: ROWS - 1 + crossings }, () => newId<SubscriptionId>());
  const client = createClient(ground.database.superuserUrl, 'penstock-bench');
  await client.connect();
  try {
    const sealed = ids.map((row) =>
      sealSecret(ground.dataKey, randomBytes(32), { table: 'subscription', tenant: tenantId, row }),
    );
    await client.query('BEGIN');
    await client.query(`INSERT INTO tenant (tenant_id, name, kind) VALUES ($1, 'bench', 'customer')`, [
      tenantId,
    ]);
    await client.query(
      `INSERT INTO node (node_id, name, address, link_mbps) VALUES ($1, 'bench', 'localhost', 100000)`,
      [nodeId],
    );
    await client.query(
      `INSERT INTO inbound (node_id, tag, engine, port, settings) VALUES ($1, 'vless', 'xray', 443, '{"protocol": "vless", "security": "none"}')`,
      [nodeId],
    );
    await client.query(
      `INSERT INTO certificate (serial, node_id, public_key_hash, der, not_before, not_after)
       VALUES ($1, $2, $3, $4, now() - interval '1 hour', now() + interval '1 day')`,
      [identity.serial, nodeId, publicKeyHash(identity.keys.publicKey), identity.certificate],
    );
    await client.query(`INSERT INTO node_group (node_group_id, name) VALUES ($1, 'bench')`, [groupId]);
    await client.query('INSERT INTO node_group_node VALUES ($1, $2)', [groupId, nodeId]);
    await client.query(
      `INSERT INTO plan (tenant_id, plan_id, name, engines) VALUES ($1, $2, 'bench', '{xray}')`,
      [tenantId, planId],
    );
    await client.query('INSERT INTO plan_node_group VALUES ($1, $2, $3)', [tenantId, planId, groupId]);
    await client.query(
      `INSERT INTO subscription (tenant_id, subscription_id, plan_id, name, limit_bytes, engines, secret)
       SELECT $1, i.id, $2, 'bench', CASE WHEN i.nth >= $5 THEN $6::bigint END, '{xray}', i.secret
       FROM unnest($3::uuid[], $4::bytea[]) WITH ORDINALITY AS i (id, secret, nth)`,
      [tenantId, planId, ids, sealed, ROWS, LIMIT_BYTES.toString()],
    );
    await client.query(
      `INSERT INTO access_change (tenant_id, change_id, subscription_id, cause)
       SELECT tenant_id, gen_random_uuid(), subscription_id, 'edit' FROM subscription`,
    );
    await client.query('COMMIT');
    await client.query('ANALYZE');
  } finally {
    await client.end();
  }
  return { tenantId, busy: ids.slice(0, ROWS - 1), crossing: ids.slice(ROWS - 1) };
}

/**
 * Every crossing is a confirmed cut, and nobody else was cut: a fast wrong order counts for nothing. Returns where the
 * time went, from the rows' own times: until the change was left, until the revision was written, until it arrived.
 */
async function check(
  ground: Ground,
  customers: Customers,
  crossings: number,
  wall: ReadonlyMap<string, [sent: number, arrived: number]>,
): Promise<Record<string, number>> {
  const client = createClient(ground.database.superuserUrl, 'penstock-bench');
  await client.connect();
  try {
    await until('every cut is confirmed', async () => {
      const { rows } = await client.query<{ confirmed: bigint; others: bigint }>(
        `SELECT count(*) FILTER (WHERE state = 'confirmed' AND cause = 'crossing') AS confirmed,
                count(*) FILTER (WHERE subscription_id = ANY ($1)) AS others FROM enforcement WHERE kind = 'cut'`,
        [customers.busy],
      );
      if (rows[0]?.others !== 0n) throw new Error('somebody was cut who crossed nothing');
      return rows[0].confirmed === BigInt(crossings);
    });
    const { rows } = await client.query<{ id: string; caused: number; ordered: number }>(
      `SELECT subscription_id AS id, (extract(epoch FROM caused_at) * 1000)::float8 AS caused,
              (extract(epoch FROM ordered_at) * 1000)::float8 AS ordered FROM enforcement WHERE kind = 'cut'`,
    );
    const parts = { toChangeMs: [] as number[], toRevisionMs: [] as number[], toNodeMs: [] as number[] };
    for (const { id, caused, ordered } of rows) {
      const [sent, arrived] = wall.get(id.replaceAll('-', '')) ?? [];
      if (sent === undefined || arrived === undefined) continue;
      parts.toChangeMs.push(caused - sent);
      parts.toRevisionMs.push(ordered - caused);
      parts.toNodeMs.push(arrived - ordered);
    }
    return Object.fromEntries(Object.entries(parts).map(([name, samples]) => [name, round(median(samples))]));
  } finally {
    await client.end();
  }
}

async function startEcho(ground: Ground, identity: TestIdentity) {
  const port = await freePort();
  const files = writeTlsFiles(join(ground.dir, 'echo'), await ground.trust.service('scheduler'));
  const program = new URL('./order-echo.js', import.meta.url).pathname;
  ground.run(program, [
    files.certFile,
    files.keyFile,
    files.rootFile,
    ground.trust.trustDomain,
    String(port),
  ]);
  const client = connect(EnforcementServiceClient, `127.0.0.1:${port}`, {
    ...{
      tls: identity.tls,
      trustDomain: ground.trust.trustDomain,
      servers: ['scheduler'],
      log: { warn: () => undefined },
    },
  });
  await new Promise<void>((resolve, reject) => {
    client.waitForReady(Date.now() + 20_000, (error) => (error === undefined ? resolve() : reject(error)));
  });
  const stream = openBidi<SyncRequest, SyncResponse>((metadata, call) => client.sync(metadata, call));
  const answers = stream[Symbol.asyncIterator]();
  const ping = async (): Promise<number> => {
    const started = performance.now();
    const value = {
      appliedRevision: 1n,
      clockMs: 1n,
      engines: [],
      subscriptions: 1,
      walBytes: 1n,
      walFrames: 1,
      lastAcknowledgedSeq: 1n,
    };
    await stream.write({ message: { $case: 'heartbeat', value } });
    await answers.next();
    return performance.now() - started;
  };
  return {
    async roundTripMs(): Promise<number> {
      const samples: number[] = [];
      for (let n = 0; n < ANCHOR_ROUNDS; n++) samples.push(await ping());
      return median(samples);
    },
    close(): void {
      stream.cancel();
      client.close();
    },
  };
}

/** Median of appending a page and making it durable. */
function fdatasyncMs(dir: string): number {
  const file = openSync(join(dir, 'fdatasync'), 'a');
  const page = Buffer.alloc(8192, 1);
  const samples: number[] = [];
  for (let n = 0; n < ANCHOR_ROUNDS; n++) {
    const started = performance.now();
    writeSync(file, page);
    fdatasyncSync(file);
    samples.push(performance.now() - started);
  }
  closeSync(file);
  return median(samples);
}
