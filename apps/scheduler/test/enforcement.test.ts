import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { presharedKey, vlessId } from '@penstock/domain/credentials';
import {
  newId,
  type DeviceId,
  type NodeId,
  type PlanId,
  type SubscriptionId,
  type TenantId,
} from '@penstock/domain/ids';
import { NodeConfig } from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import { findPendingChanges } from '../src/enforcement/desired.store.js';
import { settleChanges, writeAcknowledgement, writeRevision } from '../src/enforcement/enforcement.store.js';
import { planDelta } from '../src/enforcement/plan.js';
import { sealSecret } from '@penstock/service/secret-box';
import { dataKey, eventually, World, type RunningScheduler } from './world.js';
import type { TestAgent } from './test-agent.js';

let world: World;
let scheduler: RunningScheduler;

beforeAll(async () => {
  world = await World.create();
  scheduler = await world.scheduler({
    rules: { resend: { firstMs: 100, maxMs: 400 }, reorder: { firstMs: 50, maxMs: 200 } },
  });
});
afterAll(() => world.close());

interface Place {
  tenantId: TenantId;
  planId: PlanId;
  nodeId: NodeId;
  agent: TestAgent;
}

async function place(engines: ('xray' | 'wireguard')[] = ['xray'], subnet?: string): Promise<Place> {
  const tenantId = await world.tenant();
  const nodeId = await world.node(engines, subnet);
  const planId = await world.plan(tenantId, [nodeId]);
  return { tenantId, planId, nodeId, agent: await world.agent(scheduler, nodeId) };
}

describe('a node is told who has access', () => {
  it('gets a snapshot with credentials derived for it alone, and confirms', async () => {
    const tenantId = await world.tenant();
    const nodeId = await world.node(['xray', 'wireguard']);
    const planId = await world.plan(tenantId, [nodeId]);
    const sub = await world.subscribe(tenantId, planId, { engines: ['xray', 'wireguard'] }, 2);
    await eventually(async () => (await world.state(sub)) === 'active');
    const agent = await world.agent(scheduler, nodeId);
    await eventually(() => agent.has(sub.subscriptionId));
    expect(agent.arrivals[0]?.kind).toBe('snapshot');
    const access = agent.access(sub.subscriptionId);
    expect(access?.xray?.vlessId).toBe(vlessId(sub.secret, nodeId));
    expect(access?.wireguard.map((peer) => peer.allowedIps[0])).toEqual(['10.66.0.2/32', '10.66.0.3/32']);
    const devices = await world.query<{ device_id: DeviceId }>(
      'SELECT device_id FROM device WHERE subscription_id = $1 ORDER BY device_id',
      [sub.subscriptionId],
    );
    expect(access?.wireguard.map((peer) => peer.presharedKey.toString('base64'))).toEqual(
      devices.map((device) => presharedKey(sub.secret, nodeId, device.device_id)),
    );
    const config = NodeConfig.decode(agent.config);
    expect(config.windowMs).toBe(5_000);
    const settings = config.inbounds.map(
      (inbound) => JSON.parse(inbound.settings) as Record<string, unknown>,
    );
    expect(settings.find((s) => s['subnets'] !== undefined)).toMatchObject({ privateKey: 'a2V5' });
    await eventually(async () => (await world.orders(sub))[0]?.state === 'confirmed');
    expect(await world.orders(sub)).toHaveLength(1);
  });

  it('gets a delta for a new subscription and a removal for a crossing, within milliseconds', async () => {
    const { tenantId, planId, agent } = await place();
    const sub = await world.subscribe(tenantId, planId, { limitBytes: 1_000n });
    const other = await world.subscribe(tenantId, planId, { limitBytes: 1_000n });
    await eventually(() => agent.has(sub.subscriptionId) && agent.has(other.subscriptionId));
    expect(agent.arrivals.at(-1)?.kind).toBe('delta');
    await eventually(async () => (await world.orders(other))[0]?.state === 'confirmed');
    const started = performance.now();
    await world.crossing(sub, 1_000n);
    await eventually(() => !agent.has(sub.subscriptionId));
    const ms = (agent.arrivals.at(-1)?.at ?? Infinity) - started;
    expect(ms).toBeLessThan(500);
    expect(agent.arrivals.at(-1)).toMatchObject({
      upserts: [],
      removals: [sub.subscriptionId.replaceAll('-', '')],
    });
    expect(agent.has(other.subscriptionId)).toBe(true);
    const cut = await eventually(async () =>
      (await world.orders(sub)).find((o) => o.kind === 'cut' && o.state === 'confirmed'),
    );
    expect(cut).toMatchObject({ cause: 'crossing', reason: '' });
    const [row] = await world.query(
      `SELECT e.sessions_ended, e.cut_us, e.proven_us, e.acknowledged_at >= e.ordered_at AS after, e.ordered_at >= e.caused_at AS caused,
              r.applied_at IS NOT NULL AS applied, r.sent_at IS NOT NULL AS sent
       FROM enforcement e JOIN revision r USING (node_id, revision) WHERE e.subscription_id = $1 AND e.kind = 'cut'`,
      [sub.subscriptionId],
    );
    expect(row).toEqual({
      sessions_ended: 2,
      cut_us: 1200,
      proven_us: 230_000,
      after: true,
      caused: true,
      applied: true,
      sent: true,
    });
  });

  it('two tenants on one node get their own entries, and one is cut without the other', async () => {
    const { tenantId, planId, nodeId, agent } = await place();
    const secondTenant = await world.tenant();
    const secondPlan = await world.plan(secondTenant, [nodeId]);
    const mine = await world.subscribe(tenantId, planId, { limitBytes: 10n });
    const theirs = await world.subscribe(secondTenant, secondPlan);
    await eventually(() => agent.has(mine.subscriptionId) && agent.has(theirs.subscriptionId));
    expect(agent.access(theirs.subscriptionId)?.tenantId.toString('hex')).toBe(
      secondTenant.replaceAll('-', ''),
    );
    await world.query(`UPDATE tenant SET state = 'suspended' WHERE tenant_id = $1`, [secondTenant]);
    await world.changed(secondTenant, null);
    await eventually(() => !agent.has(theirs.subscriptionId));
    expect(agent.has(mine.subscriptionId)).toBe(true);
    expect(
      await world.query('SELECT reason FROM subscription_state WHERE subscription_id = $1', [
        theirs.subscriptionId,
      ]),
    ).toEqual([{ reason: 'tenant_suspended' }]);
  });

  it("another tenant's node is never assigned, also when its group is in the plan", async () => {
    const { tenantId, planId, nodeId, agent } = await place();
    const owner = await world.tenant();
    await world.query('UPDATE node SET owner_tenant_id = $2 WHERE node_id = $1', [nodeId, owner]);
    const sub = await world.subscribe(tenantId, planId);
    await eventually(async () => (await world.state(sub)) === 'active');
    expect(
      await world.query('SELECT FROM assignment WHERE subscription_id = $1', [sub.subscriptionId]),
    ).toEqual([]);
    expect(agent.has(sub.subscriptionId)).toBe(false);
  });

  it('a node that missed three revisions converges with one', async () => {
    const { tenantId, planId, agent } = await place();
    const gone = await world.subscribe(tenantId, planId, { limitBytes: 5n });
    const stays = await world.subscribe(tenantId, planId);
    await eventually(() => agent.has(gone.subscriptionId) && agent.has(stays.subscriptionId));
    await eventually(async () => (await world.orders(stays))[0]?.state === 'confirmed');
    // Three changes, each of which becomes a revision that never arrives: the stream breaks before each acknowledgement.
    const have = agent.revision;
    for (const act of [
      () => world.crossing(gone, 5n),
      () => world.subscribe(tenantId, planId),
      () => world.subscribe(tenantId, planId),
    ]) {
      agent.silent = true;
      const seen = agent.arrivals.length;
      await act();
      await eventually(() => agent.arrivals.length > seen);
      await agent.connect(scheduler.port);
    }
    agent.close();
    agent.silent = false;
    const before = agent.arrivals.length;
    const [last] = await world.query<{ revision: bigint }>(
      'SELECT max(revision) AS revision FROM revision WHERE node_id = $1',
      [agent.nodeId],
    );
    expect(last?.revision).toBeGreaterThanOrEqual(have + 3n);
    await agent.connect(scheduler.port);
    await eventually(() => agent.entries.size === 3 && !agent.has(gone.subscriptionId));
    await eventually(
      async () =>
        (
          await world.query(`SELECT FROM enforcement WHERE node_id = $1 AND state <> 'confirmed'`, [
            agent.nodeId,
          ])
        ).length === 0,
    );
    expect(agent.arrivals.slice(before).map((a) => [a.kind, a.base])).toEqual([['delta', have]]);
    expect(await world.orders(gone)).toHaveLength(2);
  });

  it('is sent an unacknowledged revision again until it acknowledges, and only then the next', async () => {
    const { tenantId, planId, agent } = await place();
    await eventually(() => agent.revision > 0n);
    agent.silent = true;
    const first = await world.subscribe(tenantId, planId);
    await eventually(() => agent.arrivals.filter((a) => a.upserts.length === 1).length >= 3);
    const second = await world.subscribe(tenantId, planId);
    const third = await world.subscribe(tenantId, planId);
    await eventually(async () => (await world.state(third)) === 'active');
    const revisions = new Set(agent.arrivals.filter((a) => a.upserts.length > 0).map((a) => a.revision));
    expect(revisions.size).toBe(1);
    agent.silent = false;
    await eventually(() => [first, second, third].every((sub) => agent.has(sub.subscriptionId)));
    // What came meanwhile went out together.
    const last = agent.arrivals.at(-1);
    expect(last?.upserts).toHaveLength(2);
    for (const sub of [first, second, third])
      await eventually(async () => (await world.orders(sub))[0]?.state === 'confirmed');
  });

  it('an unproven cut is ordered again until it is proven, as one order', async () => {
    const { tenantId, planId, agent } = await place();
    const sub = await world.subscribe(tenantId, planId, { limitBytes: 5n });
    await eventually(() => agent.has(sub.subscriptionId));
    agent.proves = false;
    await world.crossing(sub, 5n);
    await eventually(async () =>
      (await world.orders(sub)).find((o) => o.state === 'unproven' && o.reason === 'a socket is open'),
    );
    const key = sub.subscriptionId.replaceAll('-', '');
    await eventually(() => agent.arrivals.filter((a) => a.removals.includes(key)).length >= 3);
    agent.proves = true;
    await eventually(async () =>
      (await world.orders(sub)).find((o) => o.kind === 'cut' && o.state === 'confirmed'),
    );
    expect((await world.orders(sub)).map((o) => o.kind)).toEqual(['grant', 'cut']);
  });

  it('a digest that differs is answered with a snapshot', async () => {
    const { tenantId, planId, agent } = await place();
    const first = await world.subscribe(tenantId, planId);
    await eventually(async () => (await world.orders(first))[0]?.state === 'confirmed');
    agent.spoilDigest = true;
    const before = agent.arrivals.length;
    const second = await world.subscribe(tenantId, planId);
    // The node's very first message may have been a snapshot too: only what comes now counts.
    await eventually(() => agent.arrivals.slice(before).some(({ kind }) => kind === 'snapshot'));
    agent.spoilDigest = false;
    await eventually(async () => (await world.orders(second))[0]?.state === 'confirmed');
    const [row] = await world.query<{ n: bigint }>(
      `SELECT count(*) AS n FROM revision WHERE node_id = $1 AND error_code = 'digest_mismatch'`,
      [agent.nodeId],
    );
    expect(row?.n).toBeGreaterThan(0n);
  });

  it('an entry that an engine cannot take delays and unproves nobody else', async () => {
    const { tenantId, planId, agent } = await place();
    const neighbour = await world.subscribe(tenantId, planId, { limitBytes: 5n });
    await eventually(() => agent.has(neighbour.subscriptionId));
    // From here on what is read back is never what was asked for.
    agent.spoilDigest = true;
    const bad = await world.subscribe(tenantId, planId);
    await eventually(() => agent.has(bad.subscriptionId));
    await eventually(() => agent.arrivals.filter((a) => a.kind === 'snapshot').length >= 3);
    const before = agent.arrivals.length;
    await world.crossing(neighbour, 5n);
    await eventually(() => !agent.has(neighbour.subscriptionId));
    const key = neighbour.subscriptionId.replaceAll('-', '');
    expect(agent.arrivals.slice(before).some((a) => a.kind === 'delta' && a.removals.includes(key))).toBe(
      true,
    );
    await eventually(async () =>
      (await world.orders(neighbour)).find((o) => o.kind === 'cut' && o.state === 'confirmed'),
    );
    expect((await world.orders(bad))[0]).toMatchObject({ state: 'unproven', reason: 'digest_mismatch' });
  });

  it('a node whose state nobody can prove gets a snapshot', async () => {
    const { tenantId, planId, agent } = await place();
    const sub = await world.subscribe(tenantId, planId);
    await eventually(async () => (await world.orders(sub))[0]?.state === 'confirmed');
    const before = agent.arrivals.length;
    await agent.connect(scheduler.port);
    await agent.heartbeat();
    await eventually(
      async () =>
        (await world.query('SELECT FROM node_status WHERE node_id = $1', [agent.nodeId])).length === 1,
    );
    expect(agent.arrivals).toHaveLength(before);
    agent.entries = new Map();
    await agent.connect(scheduler.port, { appliedDigest: Buffer.alloc(32, 7) });
    await eventually(() => agent.arrivals.at(-1)?.kind === 'snapshot' && agent.has(sub.subscriptionId));
  });

  it('acknowledgements that did not get through count when the node comes back', async () => {
    const { tenantId, planId, agent } = await place();
    const sub = await world.subscribe(tenantId, planId);
    await eventually(() => agent.has(sub.subscriptionId));
    await eventually(async () => (await world.orders(sub))[0]?.state === 'confirmed');
    const original = agent.acknowledge.bind(agent);
    agent.acknowledge = () => Promise.resolve();
    await world.edit(sub, `admin_state = 'disabled'`);
    await eventually(() => !agent.has(sub.subscriptionId));
    agent.acknowledge = original;
    const now = BigInt(Date.now());
    const results = [
      {
        subscriptionId: Buffer.from(sub.subscriptionId.replaceAll('-', ''), 'hex'),
        kind: 2,
        ended: true,
        sessionsEnded: 1,
        cutUs: 5,
        provenUs: 9,
        reason: '',
        engine: 'xray',
      },
    ];
    const pending = [
      {
        revision: agent.revision,
        digest: agent.digest,
        receivedAtMs: now,
        appliedAtMs: now,
        results,
        errorCode: '',
        errorMessage: '',
      },
    ];
    const before = agent.arrivals.length;
    await agent.connect(scheduler.port, { pending });
    await eventually(async () =>
      (await world.orders(sub)).find((o) => o.kind === 'cut' && o.state === 'confirmed'),
    );
    expect(agent.arrivals).toHaveLength(before);
  });

  it('a snapshot larger than one message comes in parts', async () => {
    const tenantId = await world.tenant();
    const nodeId = await world.node(['xray', 'wireguard'], '10.64.0.0/12');
    const planId = await world.plan(tenantId, [nodeId]);
    const ids = Array.from({ length: 12_000 }, () => newId<SubscriptionId>());
    const secrets = ids.map((row) =>
      sealSecret(dataKey, Buffer.alloc(32, 5), { table: 'subscription', tenant: tenantId, row }),
    );
    await world.query(
      `INSERT INTO subscription (tenant_id, subscription_id, plan_id, name, engines, secret)
       SELECT $1, i.id, $2, 'many', '{xray}', i.secret FROM unnest($3::uuid[], $4::bytea[]) AS i (id, secret)`,
      [tenantId, planId, ids, secrets],
    );
    await world.changed(tenantId, null, 'node', nodeId);
    const count = async (text: string): Promise<number> =>
      Number((await world.query<{ n: bigint }>(text, [nodeId]))[0]?.n);
    const assigned = 'SELECT count(*) AS n FROM assignment WHERE node_id = $1';
    await eventually(async () => (await count(assigned)) === 12_000, 90_000);
    await world.idle();
    const agent = await world.agent(scheduler, nodeId);
    await eventually(() => agent.entries.size === 12_000, 90_000);
    expect(agent.arrivals).toHaveLength(1);
    const confirmed = `SELECT count(*) AS n FROM enforcement WHERE node_id = $1 AND state = 'confirmed'`;
    await eventually(async () => (await count(confirmed)) === 12_000, 90_000);
  }, 240_000);
});

it('a change that comes while a node comes back has its order, and its proof', async () => {
  const tenantId = await world.tenant();
  const nodeId = await world.node();
  const planId = await world.plan(tenantId, [nodeId]);
  const agent = await world.agent(scheduler, nodeId);
  for (let n = 0; n < 15; n++) {
    const [sub] = await Promise.all([
      world.subscribe(tenantId, planId),
      agent.connect(scheduler.port, n % 2 === 0 ? {} : { appliedDigest: Buffer.alloc(32, n) }),
    ]);
    await eventually(() => agent.has(sub.subscriptionId));
    await eventually(async () => (await world.orders(sub))[0]?.state === 'confirmed');
  }
});

it('nodes that come back all at once are admitted bit by bit, and every one of them converges', async () => {
  const narrow = await world.scheduler({ admission: { openMax: 2, queueMax: 10, retryMs: 20 } });
  const tenantId = await world.tenant();
  const nodes = [];
  for (let n = 0; n < 40; n++) nodes.push(await world.node());
  const planId = await world.plan(tenantId, nodes);
  const sub = await world.subscribe(tenantId, planId);
  await eventually(async () => (await world.state(sub)) === 'active');
  let sentAway = 0;
  const agents = await Promise.all(nodes.map((nodeId) => world.agent(narrow, nodeId)));
  await Promise.all(
    agents.map(async (agent) => {
      while (agent.error !== undefined) {
        expect(agent.error.code).toBe('unavailable');
        sentAway++;
        await new Promise((resolve) => setTimeout(resolve, agent.error?.retryAfterMs));
        await agent.connect(narrow.port);
      }
    }),
  );
  await eventually(() => agents.every((agent) => agent.has(sub.subscriptionId)));
  expect(sentAway).toBeGreaterThan(0);
  await eventually(
    async () => (await world.orders(sub)).filter((o) => o.state === 'confirmed').length === 40,
  );
  for (const agent of agents) agent.close();
  await world.stop(narrow);
});

describe('the lease', () => {
  it('a newer stream of the same node ends the older, in this process and in another [R1-20]', async () => {
    const { tenantId, planId, nodeId, agent } = await place();
    const other = await world.scheduler();
    const second = await world.agent(other, nodeId);
    expect(second.fence).toBeGreaterThan(agent.fence);
    await eventually(() => agent.error?.code === 'fenced');
    const sub = await world.subscribe(tenantId, planId);
    await eventually(() => second.has(sub.subscriptionId));
    expect(agent.has(sub.subscriptionId)).toBe(false);
    const third = await world.agent(other, nodeId);
    await eventually(() => second.error?.code === 'fenced');
    await eventually(() => third.has(sub.subscriptionId));
    const fences = await world.query<{ fence: bigint }>(
      'SELECT DISTINCT fence FROM revision WHERE node_id = $1 ORDER BY 1',
      [nodeId],
    );
    expect(fences.at(-1)?.fence).toBe(third.fence);
    await world.stop(other);
  });

  it('under an older fence no revision, proof or settlement is written [R1-20]', async () => {
    const { tenantId, planId, nodeId, agent } = await place();
    const sub = await world.subscribe(tenantId, planId);
    await eventually(async () => (await world.orders(sub))[0]?.state === 'confirmed');
    const written = () =>
      world.query('SELECT * FROM revision WHERE node_id = $1 ORDER BY revision', [nodeId]);
    const before = await written();
    const old = { nodeId, fence: agent.fence - 1n };
    const plan = planDelta(new Map(), [], [], [], 1_000);
    const write = { ...old, above: 0n, digest: Buffer.alloc(32), plan, upserts: 0, removals: 0 };
    expect(await writeRevision(scheduler.pool, write)).toBeNull();
    const ack = { revision: agent.revision, sentAt: null, appliedAt: new Date(), errorCode: 'internal' };
    expect(
      await writeAcknowledgement(scheduler.pool, { ...old, ...ack, errorMessage: '', outcomes: [] }),
    ).toBe(false);
    expect(await settleChanges(scheduler.pool, nodeId, old.fence, [])).toBe(false);
    expect(await findPendingChanges(scheduler.pool, nodeId, old.fence, 10)).toBeNull();
    expect(await written()).toEqual(before);
  });

  it('is raised above what the node has seen, so a restored database is not refused', async () => {
    const { agent } = await place();
    const seen = agent.fence + 1_000n;
    await agent.connect(scheduler.port, { fence: seen });
    expect(agent.fence).toBeGreaterThan(seen);
  });

  it("a node id that is not the certificate's is refused", async () => {
    const { agent } = await place();
    const foreign = await world.node();
    await agent.connect(scheduler.port, { nodeId: foreign });
    expect(agent.error?.code).toBe('node_mismatch');
    expect(await world.query('SELECT FROM node_lease WHERE node_id = $1', [foreign])).toEqual([]);
  });

  it('a revoked certificate, a revoked node and an unknown certificate are refused [V27]', async () => {
    const { agent, nodeId } = await place();
    await world.query('UPDATE certificate SET revoked_at = now() WHERE node_id = $1', [nodeId]);
    await agent.connect(scheduler.port);
    expect(agent.error?.code).toBe('certificate_revoked');
    await world.query('UPDATE certificate SET revoked_at = NULL WHERE node_id = $1', [nodeId]);
    await world.query(`UPDATE node SET state = 'revoked' WHERE node_id = $1`, [nodeId]);
    await agent.connect(scheduler.port);
    expect(agent.error?.code).toBe('certificate_revoked');
    await world.query(`UPDATE node SET state = 'active' WHERE node_id = $1`, [nodeId]);
    await world.query('DELETE FROM certificate WHERE node_id = $1', [nodeId]);
    await agent.connect(scheduler.port);
    expect(agent.error?.code).toBe('certificate_invalid');
  });

  it('malformed messages end the stream with invalid_input and change nothing', async () => {
    const { agent } = await place();
    await agent.acknowledge([], { digest: Buffer.alloc(5) });
    await eventually(() => agent.error?.code === 'invalid_input');
    await agent.connect(scheduler.port, { appliedDigest: Buffer.alloc(3) });
    expect(agent.error?.code).toBe('invalid_input');
  });
});
