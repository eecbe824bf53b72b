// A database of its own with tenants, plans, nodes and subscriptions as control-api writes them, and schedulers over
// it. Everything is real but the engines behind the test agent (test-agent.ts).
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { createClient } from '@penstock/db/pool';
import { systemClock } from '@penstock/domain/clock';
import {
  newId,
  type DeviceId,
  type NodeGroupId,
  type NodeId,
  type PlanId,
  type SubscriptionId,
  type TenantId,
} from '@penstock/domain/ids';
import { publicKeyHash } from '@penstock/rpc/certificates';
import { EnforcementServiceService } from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import { createServer, type RpcServer } from '@penstock/rpc/server';
import { createLogger } from '@penstock/service/logger';
import { createMetrics } from '@penstock/service/metrics';
import { sealSecret } from '@penstock/service/secret-box';
import { testDatabase, type TestDatabase } from '@penstock/testkit/postgres';
import { createTestTrust, type TestIdentity, type TestTrust } from '@penstock/testkit/trust';
import { enforcementAllow } from '../src/enforcement/enforcement.rpc.js';
import { schedulerMetrics, type SchedulerMetrics } from '../src/metrics.js';
import { createScheduler, type Scheduler, type SchedulerOptions } from '../src/scheduler.js';
import { TestAgent } from './test-agent.js';

export const dataKey = randomBytes(32);

export interface RunningScheduler extends Scheduler {
  port: number;
  server: RpcServer;
  metrics: SchedulerMetrics;
}

export interface SubscriptionTerms {
  limitBytes?: bigint | null;
  period?: 'none' | 'day' | 'week' | 'month';
  engines?: string[];
  expiresAt?: Date | null;
  adminState?: 'active' | 'disabled' | 'deleted';
}

export interface MadeSubscription {
  tenantId: TenantId;
  subscriptionId: SubscriptionId;
  secret: Buffer;
}

/** Resolves when `probe` gives something; never sleeps longer than it has to. */
export async function eventually<T>(
  probe: () => Promise<T | false | null | undefined> | T | false | null | undefined,
  ms = 10_000,
): Promise<T> {
  const deadline = performance.now() + ms;
  for (;;) {
    const found = await probe();
    if (found !== false && found !== null && found !== undefined) return found;
    if (performance.now() > deadline)
      throw new Error(`not within ${ms} ms: ${probe.toString().slice(0, 200)}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

export class World {
  readonly agents: TestAgent[] = [];
  private readonly schedulers: RunningScheduler[] = [];
  private readonly identities = new Map<NodeId, TestIdentity>();

  private constructor(
    readonly database: TestDatabase,
    readonly admin: pg.Client,
    readonly trust: TestTrust,
  ) {}

  static async create(): Promise<World> {
    const database = await testDatabase();
    const admin = createClient(database.superuserUrl, 'penstock-test');
    await admin.connect();
    return new World(database, admin, await createTestTrust('penstock.test', systemClock.now()));
  }

  async close(): Promise<void> {
    for (const agent of this.agents) agent.close();
    for (const scheduler of this.schedulers) await this.stop(scheduler);
    await this.admin.end();
    await this.database.drop();
  }

  async scheduler(options: Partial<SchedulerOptions> = {}): Promise<RunningScheduler> {
    const registry = createMetrics();
    const metrics = schedulerMetrics(registry);
    const log = createLogger('scheduler', process.env['TEST_LOG'] ?? 'error');
    const scheduler = createScheduler({
      databaseUrl: this.database.url('penstock_scheduler'),
      partitionsDatabaseUrl: this.database.url('penstock_partitions'),
      ...{
        dataKey,
        heartbeatMs: 5_000,
        windowMs: 5_000,
        clock: systemClock,
        log,
        metrics,
        random: Math.random,
      },
      ...options,
    });
    const server = createServer({
      tls: (await this.trust.service('scheduler')).tls,
      trustDomain: this.trust.trustDomain,
      allow: enforcementAllow,
      services: [[EnforcementServiceService, scheduler.enforcement]],
      log,
      metrics: registry,
      clientCertificates: 'required',
    });
    const port = await server.listen('127.0.0.1', 0);
    scheduler.start();
    const running = { ...scheduler, port, server, metrics };
    this.schedulers.push(running);
    return running;
  }

  async stop(scheduler: RunningScheduler): Promise<void> {
    const at = this.schedulers.indexOf(scheduler);
    if (at >= 0) this.schedulers.splice(at, 1);
    await scheduler.server.close(0);
    await scheduler.close();
  }

  async query<Row extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<Row[]> {
    return (await this.admin.query<Row>(text, values)).rows;
  }

  async tenant(timeZone = 'UTC'): Promise<TenantId> {
    const tenantId = newId<TenantId>();
    await this.query(
      `INSERT INTO tenant (tenant_id, name, kind, time_zone) VALUES ($1, 'tenant', 'customer', $2)`,
      [tenantId, timeZone],
    );
    return tenantId;
  }

  async node(engines: ('xray' | 'wireguard')[] = ['xray'], subnet = '10.66.0.0/16'): Promise<NodeId> {
    const nodeId = newId<NodeId>();
    await this.query(`INSERT INTO node (node_id, name, address) VALUES ($1, 'node', 'node.test')`, [nodeId]);
    for (const engine of engines) {
      const settings =
        engine === 'xray'
          ? { protocol: 'vless', security: 'none' }
          : { subnets: [subnet], publicKey: 'cHVibGlj' };
      const place = { table: 'inbound', tenant: '', row: `${nodeId}/${engine}` };
      const secret =
        engine === 'xray' ? null : sealSecret(dataKey, Buffer.from('{"privateKey":"a2V5"}'), place);
      await this.query(
        'INSERT INTO inbound (node_id, tag, engine, port, settings, secret) VALUES ($1, $2, $2, $3, $4, $5)',
        [...[nodeId, engine, engine === 'xray' ? 443 : 51820, JSON.stringify(settings), secret]],
      );
    }
    await this.identity(nodeId);
    return nodeId;
  }

  async identity(nodeId: NodeId): Promise<TestIdentity> {
    const known = this.identities.get(nodeId);
    if (known !== undefined) return known;
    const identity = await this.trust.node(nodeId);
    this.identities.set(nodeId, identity);
    await this.query(
      `INSERT INTO certificate (serial, node_id, public_key_hash, der, not_before, not_after)
       VALUES ($1, $2, $3, $4, now(), now() + interval '1 day')`,
      [identity.serial, nodeId, publicKeyHash(identity.keys.publicKey), identity.certificate],
    );
    return identity;
  }

  /** A plan over these nodes. */
  async plan(tenantId: TenantId, nodes: readonly NodeId[]): Promise<PlanId> {
    const planId = newId<PlanId>();
    const groupId = newId<NodeGroupId>();
    await this.query(`INSERT INTO node_group (node_group_id, name) VALUES ($1, 'group')`, [groupId]);
    await this.query('INSERT INTO node_group_node SELECT $1, unnest($2::uuid[])', [groupId, nodes]);
    await this.query(
      `INSERT INTO plan (tenant_id, plan_id, name, engines) VALUES ($1, $2, 'plan', '{xray,wireguard}')`,
      [tenantId, planId],
    );
    await this.query('INSERT INTO plan_node_group VALUES ($1, $2, $3)', [tenantId, planId, groupId]);
    return planId;
  }

  /** A subscription and its access_change row, in one transaction. */
  async subscribe(
    tenantId: TenantId,
    planId: PlanId,
    terms: SubscriptionTerms = {},
    devices = 0,
  ): Promise<MadeSubscription> {
    const subscriptionId = newId<SubscriptionId>();
    const secret = randomBytes(32);
    const sealed = sealSecret(dataKey, secret, {
      table: 'subscription',
      tenant: tenantId,
      row: subscriptionId,
    });
    await this.admin.query('BEGIN');
    await this.query(
      `INSERT INTO subscription (tenant_id, subscription_id, plan_id, name, limit_bytes, period, engines, expires_at, secret, admin_state)
       VALUES ($1, $2, $3, 'subscription', $4, $5, $6, $7, $8, $9)`,
      [
        ...[tenantId, subscriptionId, planId, terms.limitBytes?.toString() ?? null, terms.period ?? 'none'],
        ...[terms.engines ?? ['xray'], terms.expiresAt ?? null, sealed, terms.adminState ?? 'active'],
      ],
    );
    for (let n = 0; n < devices; n++) await this.device(tenantId, subscriptionId);
    await this.changed(tenantId, subscriptionId);
    await this.admin.query('COMMIT');
    return { tenantId, subscriptionId, secret };
  }

  async device(tenantId: TenantId, subscriptionId: SubscriptionId): Promise<DeviceId> {
    const deviceId = newId<DeviceId>();
    await this.query(
      `INSERT INTO device (tenant_id, device_id, subscription_id, name, public_key) VALUES ($1, $2, $3, 'device', $4)`,
      [tenantId, deviceId, subscriptionId, randomBytes(32)],
    );
    return deviceId;
  }

  async changed(
    tenantId: TenantId,
    subscriptionId: SubscriptionId | null,
    cause = 'edit',
    nodeId: NodeId | null = null,
  ): Promise<void> {
    await this.query(
      'INSERT INTO access_change (tenant_id, change_id, subscription_id, node_id, cause) VALUES ($1, $2, $3, $4, $5)',
      [tenantId, newId(), subscriptionId, nodeId, cause],
    );
  }

  /** What a collector leaves: the total it saw, for the current period. */
  async crossing(sub: MadeSubscription, observedBytes: bigint): Promise<void> {
    await this.query(
      `INSERT INTO access_change (tenant_id, change_id, subscription_id, cause, period_id, observed_bytes)
       SELECT $1, $3, $2, 'crossing', period_id, $4 FROM usage_period
       WHERE tenant_id = $1 AND subscription_id = $2 AND (ends_at IS NULL OR ends_at > now()) AND started_at <= now()`,
      [sub.tenantId, sub.subscriptionId, newId(), observedBytes.toString()],
    );
  }

  async edit(sub: MadeSubscription, set: string, values: unknown[] = []): Promise<void> {
    await this.admin.query('BEGIN');
    await this.query(`UPDATE subscription SET ${set} WHERE tenant_id = $1 AND subscription_id = $2`, [
      sub.tenantId,
      sub.subscriptionId,
      ...values,
    ]);
    await this.changed(sub.tenantId, sub.subscriptionId);
    await this.admin.query('COMMIT');
  }

  async state(sub: MadeSubscription): Promise<string | undefined> {
    const rows = await this.query<{ state: string }>(
      'SELECT effective_state AS state FROM subscription_state WHERE tenant_id = $1 AND subscription_id = $2',
      [sub.tenantId, sub.subscriptionId],
    );
    return rows[0]?.state;
  }

  async idle(): Promise<void> {
    await eventually(async () => {
      const [row] = await this.query<{ n: bigint }>('SELECT count(*) AS n FROM access_change');
      return row?.n === 0n;
    });
  }

  async orders(
    sub: MadeSubscription,
  ): Promise<{ kind: string; state: string; cause: string; revision: bigint; reason: string }[]> {
    return this.query(
      `SELECT kind, state, cause, revision, reason FROM enforcement
       WHERE tenant_id = $1 AND subscription_id = $2 ORDER BY ordered_at, revision`,
      [sub.tenantId, sub.subscriptionId],
    );
  }

  async agent(scheduler: RunningScheduler, nodeId: NodeId): Promise<TestAgent> {
    const agent = new TestAgent(nodeId, (await this.identity(nodeId)).tls, this.trust.trustDomain);
    this.agents.push(agent);
    await agent.connect(scheduler.port);
    return agent;
  }
}
