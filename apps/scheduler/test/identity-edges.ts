// The identity part of a scheduler for tests: a real database, a trust made by make-trust, both edges listening.
import { createHash, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createPool, type Pool } from '@penstock/db/pool';
import { listen } from '@penstock/db/listen';
import { FakeClock, type Clock } from '@penstock/domain/clock';
import { createServer, type RpcServer } from '@penstock/rpc/server';
import { REVOKED_CHANNEL, watchRevocations } from '@penstock/rpc/revocation';
import type { ServiceName } from '@penstock/rpc/identity';
import { readTlsFiles, type TlsFiles, type TlsMaterial } from '@penstock/rpc/trust';
import { IdentityServiceService } from '@penstock/rpc/gen/penstock/identity/v1/identity';
import { SchedulerAdminServiceService } from '@penstock/rpc/gen/penstock/scheduler_admin/v1/scheduler_admin';
import { createLogger } from '@penstock/service/logger';
import { createMetrics, type Metrics } from '@penstock/service/metrics';
import { testDatabase, type TestDatabase } from '@penstock/testkit/postgres';
import type { ServerOptions } from '@penstock/rpc/server';
import type { LimitRule } from '../src/identity/address-limit.js';
import { loadCa, type Ca } from '../src/identity/ca.js';
import { findRevoked } from '../src/identity/identity.store.js';
import {
  admitNode,
  identityAllow,
  identityService,
  schedulerAdminService,
} from '../src/identity/identity.rpc.js';
import { makeTrust } from '../src/identity/make-trust.js';

export const TRUST_DOMAIN = 'penstock.test';
export const log = createLogger('test', 'silent');

export interface IdentityEdges {
  database: TestDatabase;
  pool: Pool;
  /** The identity service's; connections have the machine's, since TLS has. */
  clock: FakeClock;
  ca: Ca;
  trustDir: string;
  metrics: Metrics;
  enrollAddress: string;
  nodeAddress: string;
  nodeEdge: RpcServer;
  rootFingerprint: string;
  tlsOf(service: ServiceName): TlsMaterial;
  filesOf(service: ServiceName): TlsFiles;
  remint(): Promise<string[]>;
  close(): Promise<void>;
}

export interface EdgeOptions {
  enrollLimit?: LimitRule;
  /** Further services of the node edge. */
  more?(context: {
    database: TestDatabase;
    clock: Clock;
    metrics: Metrics;
  }): Pick<ServerOptions, 'services' | 'allow'>;
}

const services = ['scheduler', 'control-api', 'collector', 'caddy'] as const;

export async function startIdentityEdges(options: EdgeOptions = {}): Promise<IdentityEdges> {
  const database = await testDatabase();
  const pool = createPool(database.url('penstock_scheduler'), { applicationName: 'test', max: 10 });
  const clock = new FakeClock(Date.now());
  const trustDir = mkdtempSync(join(tmpdir(), 'penstock-trust-'));
  const remint = (): Promise<string[]> =>
    makeTrust({ dir: trustDir, trustDomain: TRUST_DOMAIN, services, dnsNames: [], clock });
  await remint();
  const ca = loadCa(join(trustDir, 'ca'), TRUST_DOMAIN, clock);
  const metrics = createMetrics();
  const filesOf = (service: ServiceName): TlsFiles => ({
    certFile: join(trustDir, service, 'cert.pem'),
    keyFile: join(trustDir, service, 'key.pem'),
    rootFile: join(trustDir, service, 'root.pem'),
  });
  const deps = {
    pool,
    ca,
    clock,
    log,
    metrics,
    ...(options.enrollLimit && { enrollLimit: options.enrollLimit }),
  };
  const identity = identityService(deps);
  const common = { tls: filesOf('scheduler'), trustDomain: TRUST_DOMAIN, log, metrics };
  const more = options.more?.({ database, clock, metrics });
  const nodeEdge: RpcServer = createServer({
    ...common,
    clientCertificates: 'required',
    allow: { ...identityAllow.nodeEdge, ...identityAllow.admin, ...more?.allow },
    services: [
      [IdentityServiceService, identity],
      [
        SchedulerAdminServiceService,
        schedulerAdminService({ ...deps, onRevoked: (id) => nodeEdge.closePeer(id) }),
      ],
      ...(more?.services ?? []),
    ],
    admit: admitNode(pool),
  });
  const enrollEdge = createServer({
    ...common,
    clientCertificates: 'none',
    allow: identityAllow.enrollmentEdge,
    services: [[IdentityServiceService, identity]],
  });
  const watch = watchRevocations([nodeEdge], (serials) => findRevoked(pool, serials), log);
  const listener = listen(
    database.url('penstock_scheduler'),
    [REVOKED_CHANNEL],
    () => void watch.poke(),
    log,
  );
  return {
    database,
    pool,
    clock,
    ca,
    trustDir,
    metrics,
    nodeEdge,
    nodeAddress: `127.0.0.1:${await nodeEdge.listen('127.0.0.1', 0)}`,
    enrollAddress: `127.0.0.1:${await enrollEdge.listen('127.0.0.1', 0)}`,
    rootFingerprint: createHash('sha256')
      .update(new X509Certificate(readFileSync(join(trustDir, 'ca', 'root.pem'))).raw)
      .digest('hex'),
    tlsOf: (service) => readTlsFiles(filesOf(service)),
    filesOf,
    remint,
    async close() {
      watch.close();
      await listener.close();
      await Promise.all([nodeEdge.close(100), enrollEdge.close(100)]);
      await pool.end();
      await database.drop();
      rmSync(trustDir, { recursive: true });
    },
  };
}
