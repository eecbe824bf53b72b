// V26: a node is who its certificate says. Node A that names node B in a body, in metadata, in a carried certificate
// or in a proof is refused by a code of its own and counted, and nothing of B changes.
import { sign } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { AppError } from '@penstock/domain/errors';
import type { NodeId } from '@penstock/domain/ids';
import { makeCsr, newKeyPair, privateKeyPem, type KeyPair } from '@penstock/rpc/certificates';
import { createPool, type Pool } from '@penstock/db/pool';
import { callUnary, connect, openBidi, openServerStream } from '@penstock/rpc/client';
import { pemOf, type TlsMaterial } from '@penstock/rpc/trust';
import { IdentityServiceClient } from '@penstock/rpc/gen/penstock/identity/v1/identity';
import {
  EnforcementServiceClient,
  EnforcementServiceService,
} from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import { SchedulerAdminServiceClient } from '@penstock/rpc/gen/penstock/scheduler_admin/v1/scheduler_admin';
import { UsageServiceClient, UsageServiceService } from '@penstock/rpc/gen/penstock/usage/v1/usage';
import { createMetrics } from '@penstock/service/metrics';
import { seedJoinToken, seedNode } from '@penstock/testkit/enrollment';
import {
  startIdentityEdges,
  log,
  TRUST_DOMAIN,
  type IdentityEdges,
} from '../../apps/scheduler/test/identity-edges.js';
import { Collector } from '../../apps/collector/src/collector.js';
import { collectorMetrics } from '../../apps/collector/src/metrics.js';
import { usageAllow, usageService } from '../../apps/collector/src/usage.rpc.js';
import { enforcementAllow } from '../../apps/scheduler/src/enforcement/enforcement.rpc.js';
import { schedulerMetrics } from '../../apps/scheduler/src/metrics.js';
import { createScheduler, type Scheduler } from '../../apps/scheduler/src/scheduler.js';

interface Node {
  nodeId: NodeId;
  keys: KeyPair;
  certificates: Buffer[];
  tls: TlsMaterial;
}

let edges: IdentityEdges;
let scheduler: Scheduler;
let collector: Collector;
let collectorPool: Pool;
let a: Node;
let b: Node;
const closing: { close(): void }[] = [];

beforeAll(async () => {
  edges = await startIdentityEdges({
    more: ({ database, clock, metrics }) => {
      scheduler = createScheduler({
        databaseUrl: database.url('penstock_scheduler'),
        partitionsDatabaseUrl: database.url('penstock_partitions'),
        ...{ dataKey: Buffer.alloc(32, 7), heartbeatMs: 5000, windowMs: 5000, random: Math.random },
        ...{ clock, log, metrics: schedulerMetrics(metrics) },
      });
      collectorPool = createPool(database.url('penstock_collector'), { applicationName: 'test' });
      collector = new Collector({
        ...{ pool: collectorPool, clock, log, metrics: collectorMetrics(createMetrics()), holder: 'test' },
      });
      return {
        services: [
          [EnforcementServiceService, scheduler.enforcement],
          [UsageServiceService, usageService(collector, clock, log)],
        ],
        allow: { ...enforcementAllow, ...usageAllow },
      };
    },
  });
  a = await enrolled();
  b = await enrolled();
});

afterAll(async () => {
  for (const client of closing) client.close();
  await Promise.all([scheduler.close(), collector.stop()]);
  await collectorPool.end();
  await edges.close();
});

function open<C extends { close(): void }>(make: () => C): C {
  const client = make();
  closing.push(client);
  return client;
}

const identityClient = (address: string, tls: TlsMaterial): IdentityServiceClient =>
  open(() =>
    connect(IdentityServiceClient, address, { tls, trustDomain: TRUST_DOMAIN, servers: ['scheduler'], log }),
  );
const trustOnly = (): TlsMaterial => ({ root: edges.tlsOf('scheduler').root });

async function enrolled(): Promise<Node> {
  const node = await seedNode(edges.database.superuserUrl);
  const { text } = await seedJoinToken(edges.database.superuserUrl, node, {
    rootFingerprint: edges.rootFingerprint,
    enroll: edges.enrollAddress,
    expiresAt: new Date(edges.clock.now() + 600_000),
  });
  const keys = newKeyPair();
  const client = identityClient(edges.enrollAddress, trustOnly());
  const answer = await callUnary(client, client.enroll, { joinToken: text, csr: await makeCsr(keys) });
  const tls = { cert: pemOf(answer.certificates), key: privateKeyPem(keys), root: trustOnly().root };
  return { nodeId: node.nodeId, keys, certificates: answer.certificates, tls };
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'served',
    (error: unknown) => (error instanceof AppError ? error.code : String(error)),
  );
}

async function failures(code: string): Promise<number> {
  const text = await edges.metrics.registry.metrics();
  return Number(new RegExp(`rpc_failures_total\\{code="${code}"\\} (\\d+)`).exec(text)?.[1] ?? 0);
}

async function certificatesOf(nodeId: NodeId): Promise<number> {
  const result = await edges.pool.query('SELECT serial FROM certificate WHERE node_id = $1', [nodeId]);
  return result.rows.length;
}

async function sync(tls: TlsMaterial, nodeId: string): Promise<string> {
  const options = { tls, trustDomain: TRUST_DOMAIN, servers: ['scheduler' as const], log };
  const client = open(() => connect(EnforcementServiceClient, edges.nodeAddress, options));
  const stream = openBidi((metadata, callOptions) => client.sync(metadata, callOptions));
  const hello = {
    ...{ nodeId, agentVersion: '1', appliedRevision: 0n, appliedDigest: Buffer.alloc(0), fence: 0n },
    ...{ engines: ['xray'], clockMs: BigInt(edges.clock.now()), pending: [] },
  };
  await stream.write({ message: { $case: 'hello', value: hello } });
  const first = stream[Symbol.asyncIterator]().next();
  const code = await codeOf(first);
  stream.cancel();
  return code;
}

function usageClient(tls: TlsMaterial): UsageServiceClient {
  const options = { tls, trustDomain: TRUST_DOMAIN, servers: ['scheduler' as const], log };
  return open(() => connect(UsageServiceClient, edges.nodeAddress, options));
}

/** Opens node `nodeId`'s stream into the ledger. */
async function ingest(tls: TlsMaterial, nodeId: string): Promise<string> {
  const client = usageClient(tls);
  const stream = openBidi((metadata, callOptions) => client.ingest(metadata, callOptions));
  const value = {
    ...{ nodeId, agentVersion: '1', epoch: 0, seq: 0n, digest: Buffer.alloc(0) },
    ...{ clockMs: BigInt(edges.clock.now()), oldestSeq: 0n },
  };
  await stream.write({ message: { $case: 'open', value } });
  const code = await codeOf(stream[Symbol.asyncIterator]().next());
  stream.cancel();
  return code;
}

async function baselines(tls: TlsMaterial, nodeId: string): Promise<string> {
  const client = usageClient(tls);
  const answers = openServerStream((metadata, callOptions) =>
    client.baselines({ nodeId }, metadata, callOptions),
  );
  return codeOf(answers[Symbol.asyncIterator]().next());
}

describe('V26 node A with the name of node B', () => {
  test('in the body of a stream is refused and counted, and B has no lease', async () => {
    const before = await failures('node_mismatch');
    expect(await sync(a.tls, b.nodeId)).toBe('node_mismatch');
    expect(await failures('node_mismatch')).toBe(before + 1);
    const leases = await edges.pool.query('SELECT node_id FROM node_lease WHERE node_id = $1', [b.nodeId]);
    expect(leases.rows).toEqual([]);
    expect(await sync(a.tls, a.nodeId)).toBe('served');
  });

  test('in the body of the ledger is refused and counted, and B has no stream', async () => {
    const before = await failures('node_mismatch');
    expect(await ingest(a.tls, b.nodeId)).toBe('node_mismatch');
    expect(await baselines(a.tls, b.nodeId)).toBe('node_mismatch');
    expect(await failures('node_mismatch')).toBe(before + 2);
    const heads = await edges.pool.query('SELECT node_id FROM stream_head WHERE node_id = $1', [b.nodeId]);
    expect(heads.rows).toEqual([]);
    expect(await ingest(a.tls, a.nodeId)).toBe('served');
  });

  test('in metadata is refused where it is a certificate and ignored where it is only a word', async () => {
    const client = identityClient(edges.nodeAddress, a.tls);
    const before = await failures('forbidden');
    const carried = {
      'x-penstock-client-certificate': Buffer.from(b.certificates[0] ?? []).toString('base64'),
    };
    const csr = await makeCsr(a.keys);
    expect(await codeOf(callUnary(client, client.renew, { csr }, { headers: carried }))).toBe('forbidden');
    expect(await failures('forbidden')).toBe(before + 1);
    // Renewed as B this key would be new; as A it is the old one, which is refused.
    const words = {
      'x-node-id': b.nodeId,
      'x-forwarded-client-cert': carried['x-penstock-client-certificate'],
    };
    expect(await codeOf(callUnary(client, client.renew, { csr }, { headers: words }))).toBe('invalid_input');
    expect(await certificatesOf(b.nodeId)).toBe(1);
  });

  test('cannot re-attest for B: the proof is by the wrong key', async () => {
    const client = identityClient(edges.enrollAddress, trustOnly());
    const before = await certificatesOf(b.nodeId);
    const csr = await makeCsr(newKeyPair());
    const proof = sign('sha256', csr, a.keys.privateKey);
    const certificate = b.certificates[0] ?? Buffer.alloc(0);
    expect(await codeOf(callUnary(client, client.reattest, { certificate, csr, proof }))).toBe(
      'certificate_invalid',
    );
    expect(await certificatesOf(b.nodeId)).toBe(before);
  });

  test('renews only itself', async () => {
    const client = identityClient(edges.nodeAddress, a.tls);
    const before = await certificatesOf(b.nodeId);
    edges.clock.advance(1000);
    const csr = await makeCsr(newKeyPair());
    await callUnary(client, client.renew, { csr });
    expect(await certificatesOf(b.nodeId)).toBe(before);
    expect(await certificatesOf(a.nodeId)).toBe(2);
  });

  test('cannot call what is for services, and no method mints a certificate for a name', async () => {
    const options = { tls: a.tls, trustDomain: TRUST_DOMAIN, servers: ['scheduler' as const], log };
    const admin = open(() => connect(SchedulerAdminServiceClient, edges.nodeAddress, options));
    const before = await failures('forbidden');
    expect(await codeOf(callUnary(admin, admin.revokeNode, { nodeId: b.nodeId, reason: 'mine now' }))).toBe(
      'forbidden',
    );
    const identity = identityClient(edges.nodeAddress, a.tls);
    const csr = await makeCsr(newKeyPair());
    expect(await codeOf(callUnary(identity, identity.enroll, { joinToken: 'pst1.x', csr }))).toBe(
      'forbidden',
    );
    expect(await failures('forbidden')).toBe(before + 2);
    expect(await sync(b.tls, b.nodeId)).toBe('served');
  });
});

test('a stolen certificate without its key opens nothing', () => {
  const mixed = { ...b.tls, key: a.tls.key ?? '' };
  expect(() => identityClient(edges.nodeAddress, mixed)).toThrow(/does not belong/);
});
