// Tenants, nodes with certificates, assigned subscriptions with open periods: what a collector needs to find, inserted
// in sets as a superuser would.
import { createClient } from '@penstock/db/pool';
import { newId, type NodeId, type SubscriptionId, type TenantId } from '@penstock/domain/ids';
import { publicKeyHash } from '@penstock/rpc/certificates';
import type { TestIdentity, TestTrust } from './trust.js';

export interface SeededTenant {
  tenantId: TenantId;
  subscriptions: SubscriptionId[];
}

export interface SeededUsageNode {
  nodeId: NodeId;
  identity: TestIdentity;
}

export interface UsageSeed {
  tenants: SeededTenant[];
  nodes: SeededUsageNode[];
}

export interface UsageSeedOptions {
  tenants: number;
  /** Of each tenant. */
  subscriptions: number;
  nodes: number;
  /** null: unlimited. */
  limitBytes: bigint | null;
  /** Which nodes serve a subscription (its number over all tenants); every node when absent. */
  nodesOf?: (subscription: number) => number[];
  multiplierPerMille?: number;
  linkMbps?: number;
}

export async function seedUsage(
  superuserUrl: string,
  trust: TestTrust,
  options: UsageSeedOptions,
): Promise<UsageSeed> {
  const client = createClient(superuserUrl, 'penstock-testkit');
  await client.connect();
  try {
    const tenants: SeededTenant[] = [];
    for (let t = 0; t < options.tenants; t++) {
      const subscriptions = Array.from({ length: options.subscriptions }, () => newId<SubscriptionId>());
      tenants.push({ tenantId: newId<TenantId>(), subscriptions });
    }
    const nodes: SeededUsageNode[] = [];
    for (let n = 0; n < options.nodes; n++) {
      const nodeId = newId<NodeId>();
      nodes.push({ nodeId, identity: await trust.node(nodeId) });
    }
    await client.query('BEGIN');
    await client.query(
      `INSERT INTO tenant (tenant_id, name, kind) SELECT t, 'test', 'customer' FROM unnest($1::uuid[]) AS t`,
      [tenants.map((t) => t.tenantId)],
    );
    await client.query(
      `INSERT INTO node (node_id, name, address, multiplier_per_mille, link_mbps)
       SELECT n, 'test', '127.0.0.1', $2, $3 FROM unnest($1::uuid[]) AS n`,
      [nodes.map((n) => n.nodeId), options.multiplierPerMille ?? 1000, options.linkMbps ?? 100_000],
    );
    for (const { nodeId, identity } of nodes) await insertCertificate(client, nodeId, identity);
    const all = tenants.flatMap((t) =>
      t.subscriptions.map((s) => ({ tenantId: t.tenantId, subscriptionId: s })),
    );
    await insertSubscriptions(client, tenants, all, options.limitBytes);
    const every = nodes.map((_, n) => n);
    const assigned = all.flatMap((row, i) =>
      (options.nodesOf?.(i) ?? every).map((n) => ({ ...row, node: nodes[n]?.nodeId })),
    );
    await client.query(
      `INSERT INTO assignment (tenant_id, node_id, subscription_id, assigned_at)
       SELECT t, n, s, now() - interval '1 hour' FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS i (t, n, s)`,
      [assigned.map((a) => a.tenantId), assigned.map((a) => a.node), assigned.map((a) => a.subscriptionId)],
    );
    await client.query('COMMIT');
    return { tenants, nodes };
  } finally {
    await client.end();
  }
}

export async function insertCertificate(
  client: { query(text: string, values: unknown[]): Promise<unknown> },
  nodeId: NodeId,
  identity: TestIdentity,
): Promise<void> {
  await client.query(
    `INSERT INTO certificate (serial, node_id, public_key_hash, der, not_before, not_after)
     VALUES ($1, $2, $3, $4, now() - interval '1 hour', now() + interval '1 day')`,
    [identity.serial, nodeId, publicKeyHash(identity.keys.publicKey), identity.certificate],
  );
}

async function insertSubscriptions(
  client: ReturnType<typeof createClient>,
  tenants: readonly SeededTenant[],
  all: readonly { tenantId: TenantId; subscriptionId: SubscriptionId }[],
  limitBytes: bigint | null,
): Promise<void> {
  const plans = tenants.map(() => newId());
  await client.query(
    `INSERT INTO plan (tenant_id, plan_id, name, engines) SELECT t, p, 'test', '{xray,wireguard}'
     FROM unnest($1::uuid[], $2::uuid[]) AS i (t, p)`,
    [tenants.map((t) => t.tenantId), plans],
  );
  const ids = [all.map((a) => a.tenantId), all.map((a) => a.subscriptionId)];
  await client.query(
    `INSERT INTO subscription (tenant_id, subscription_id, plan_id, name, limit_bytes, engines, secret)
     SELECT p.tenant_id, i.s, p.plan_id, 'test', $3, '{xray,wireguard}', ''
     FROM unnest($1::uuid[], $2::uuid[]) AS i (t, s) JOIN plan p ON p.tenant_id = i.t`,
    [...ids, limitBytes?.toString() ?? null],
  );
  await client.query(
    `INSERT INTO usage_period (tenant_id, subscription_id, period_id, started_at, limit_bytes)
     SELECT t, s, gen_random_uuid(), now() - interval '1 hour', $3 FROM unnest($1::uuid[], $2::uuid[]) AS i (t, s)`,
    [...ids, limitBytes?.toString() ?? null],
  );
}
