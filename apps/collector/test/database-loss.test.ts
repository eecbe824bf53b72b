// PostgreSQL goes away under load, again and again: by kill -9, by a fast restart, by cut connections (so that COMMITs
// are left unknown). Whatever was acknowledged is there, and everything is counted exactly once.
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { bootstrap, migrate, serviceRoles, type ServiceRole } from '@penstock/db/migrate';
import { createClient } from '@penstock/db/pool';
import { makeDirectory } from '@penstock/stack/files';
import { stackPaths } from '@penstock/stack/paths';
import { PortBook } from '@penstock/stack/ports';
import { PostgresServer } from '@penstock/stack/postgres';
import type { SealedFrame } from '@penstock/testkit/journal';
import { createTestTrust, type TestTrust } from '@penstock/testkit/trust';
import { seedUsage, type UsageSeed } from '@penstock/testkit/usage-seed';
import { Agent, eventually, startCollector, testNode, type RunningCollector } from './support.js';

const FRAMES = 200;
const DATABASE = 'penstock';
let parent: string;
let server: PostgresServer;
let trust: TestTrust;
let seed: UsageSeed;
let running: RunningCollector | undefined;
const password = randomBytes(16).toString('hex');

beforeAll(async () => {
  parent = await mkdtemp(join(tmpdir(), 'penstock-loss-'));
  const asRoot = process.getuid?.() === 0;
  const paths = stackPaths(join(parent, '.penstock'), asRoot);
  for (const dir of [paths.dir, paths.logs]) await makeDirectory(dir);
  server = new PostgresServer({
    home: paths.postgresHome,
    sharedBinaries: paths.sharedBinaries,
    logFile: join(paths.logs, 'postgresql.log'),
    superuserPassword: password,
    ports: await PortBook.open(paths.portsFile),
  });
  await server.start();
  const passwords = Object.fromEntries(serviceRoles.map((role) => [role, password])) as Record<
    ServiceRole,
    string
  >;
  await bootstrap(server.superuserUrl(), DATABASE, passwords);
  await migrate(server.superuserUrl(), DATABASE);
  trust = await createTestTrust();
  seed = await seedUsage(server.superuserUrl(DATABASE), trust, {
    tenants: 2,
    subscriptions: 10,
    nodes: 3,
    limitBytes: null,
  });
});
afterAll(async () => {
  await running?.kill();
  await server?.destroy();
  await rm(parent, { recursive: true, force: true });
});

async function ask(sql: string): Promise<Record<string, string>> {
  const client = createClient(server.superuserUrl(DATABASE), 'test');
  await client.connect();
  try {
    return (await client.query<Record<string, string>>(sql)).rows[0] ?? {};
  } finally {
    await client.end();
  }
}

async function restart(): Promise<void> {
  await server.kill('SIGKILL');
  await eventually(
    () =>
      server.start().then(
        () => true,
        () => false,
      ),
    'PostgreSQL to be back',
    30_000,
  );
}

it('loses and doubles nothing when PostgreSQL is killed and restarted under load [R3-19]', async () => {
  running = await startCollector({ url: (role) => server.url(role, password, DATABASE) }, trust, {
    flushMs: 30,
    metersFlushMs: 100,
    behindMs: 200,
  });
  const { address, collector } = running;
  let n = 0;
  const use = (tenant: number, up: bigint) => ({
    tenantId: seed.tenants[tenant]?.tenantId as string,
    subscriptionId: seed.tenants[tenant]?.subscriptions[n++ % 10] as string,
    up,
    down: 1n,
  });
  const agents = seed.nodes.map((_, i) => {
    const node = testNode(seed, i, trust);
    return new Agent(
      node,
      () => [address],
      (): SealedFrame => node.journal.seal([use(0, 5n), use(1, 2n)]),
      FRAMES,
    );
  });
  const runs = Promise.all(agents.map((agent) => agent.run()));
  const progress = (): bigint => agents.reduce((sum, agent) => sum + agent.node.journal.seq, 0n);
  const all = BigInt(agents.length * FRAMES);
  for (const [i, at] of [60n, 150n, 240n, 330n, 420n, 500n].entries()) {
    await eventually(() => Promise.resolve(progress() >= (at < all ? at : all)), 'progress', 60_000);
    if (i % 2 === 0) await restart();
    else
      await ask(
        `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'penstock_collector'`,
      );
  }
  await runs;
  const sealed = agents.reduce((sum, agent) => {
    for (const meter of agent.node.journal.meters.values()) sum += meter.up + meter.down;
    return sum;
  }, 0n);
  const counted = async (): Promise<bigint> =>
    BigInt(
      (await ask('SELECT coalesce(sum(up_bytes + down_bytes), 0)::text AS sum FROM usage_counter'))['sum'] ??
        0,
    );
  await eventually(async () => (await counted()) === sealed, `all ${sealed} bytes to be counted`, 30_000);
  await collector.flush(true);
  expect(await counted()).toBe(sealed);
  expect(
    await ask(
      `SELECT (SELECT sum(up_bytes + down_bytes) FROM usage_hour)::text AS hours,
              (SELECT sum(up_bytes + down_bytes) FROM usage_node_hour)::text AS nodes`,
    ),
  ).toEqual({ hours: sealed.toString(), nodes: sealed.toString() });
  expect(
    await ask(
      'SELECT count(*)::text AS n, count(DISTINCT (node_id, epoch, seq))::text AS d FROM ledger_frame',
    ),
  ).toEqual({
    n: all.toString(),
    d: all.toString(),
  });
  expect(agents.some((agent) => agent.reconnects > 2)).toBe(true);
  for (const agent of agents) await agent.node.close();
}, 240_000);
