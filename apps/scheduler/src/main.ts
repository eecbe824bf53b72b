// scheduler: who has access, node identity, periodic tasks. Configuration, CA, database, two gRPC edges; ends in the
// reverse order. Any order of starts is good: without the database it is not ready, and goes on when it is there.
import { systemClock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import type { NodeId } from '@penstock/domain/ids';
import { EnforcementServiceService } from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import { IdentityServiceService } from '@penstock/rpc/gen/penstock/identity/v1/identity';
import { SchedulerAdminServiceService } from '@penstock/rpc/gen/penstock/scheduler_admin/v1/scheduler_admin';
import { REVOKED_CHANNEL, watchRevocations } from '@penstock/rpc/revocation';
import { createServer, type RpcServer } from '@penstock/rpc/server';
import { loadConfigOrExit } from '@penstock/service/config';
import { createLogger } from '@penstock/service/logger';
import { createMetrics } from '@penstock/service/metrics';
import { startOpsServer } from '@penstock/service/ops-server';
import { onShutdown } from '@penstock/service/shutdown';
import { cannotStart } from '@penstock/service/start-failure';
import { configSchema } from './config.js';
import { enforcementAllow } from './enforcement/enforcement.rpc.js';
import { loadCa } from './identity/ca.js';
import { admitNode, identityAllow, identityService, schedulerAdminService } from './identity/identity.rpc.js';
import { findRevoked } from './identity/identity.store.js';
import { schedulerMetrics } from './metrics.js';
import { createScheduler } from './scheduler.js';

/** Unary calls that run when the process is asked to stop get this long. */
const CLOSE_GRACE_MS = 2_000;

const config = loadConfigOrExit(configSchema);
const clock = systemClock;
const log = createLogger('scheduler', config.LOG_LEVEL);
const metrics = createMetrics();
const reasons = new Set(['starting']);

await start().catch(cannotStart('scheduler'));

async function start(): Promise<void> {
  const ca = loadCa(config.CA_DIR, config.TRUST_DOMAIN, clock);
  const scheduler = createScheduler({
    databaseUrl: config.DATABASE_URL,
    partitionsDatabaseUrl: config.PARTITIONS_DATABASE_URL,
    dataKey: config.DATA_KEY,
    heartbeatMs: config.HEARTBEAT_MS,
    windowMs: config.WINDOW_MS,
    auditHeadsFile: config.AUDIT_HEADS_FILE,
    webhookEgress: { allow: config.WEBHOOK_EGRESS_ALLOW },
    ...{ clock, log, metrics: schedulerMetrics(metrics), random: Math.random },
    channels: { [REVOKED_CHANNEL]: () => void revocations.poke() },
  });
  const { pool, streams } = scheduler;
  const reattestAutomaticMs = config.REATTEST_AUTOMATIC_HOURS * 3_600_000;
  const identity = identityService({ pool, ca, clock, log, metrics, reattestAutomaticMs });
  const onRevoked = (nodeId: NodeId): void => {
    streams.closeNode(nodeId, 'revoked', new AppError('certificate_revoked', 'the node is revoked'));
    edge.closePeer(nodeId);
  };
  const edge = openEdge({
    allow: { ...enforcementAllow, ...identityAllow.nodeEdge, ...identityAllow.admin },
    services: [
      [EnforcementServiceService, scheduler.enforcement],
      [IdentityServiceService, identity],
      [SchedulerAdminServiceService, schedulerAdminService({ pool, ca, clock, log, onRevoked })],
    ],
    clientCertificates: 'required',
    admit: admitNode(pool),
  });
  const enrollment = openEdge({
    allow: identityAllow.enrollmentEdge,
    services: [[IdentityServiceService, identity]],
    clientCertificates: 'none',
  });
  const revocations = watchRevocations([edge], (serials) => findRevoked(pool, serials), log);

  const ops = await startOpsServer({
    ...{ host: config.OPS_HOST, port: config.OPS_PORT, allow: config.OPS_ALLOW, registry: metrics.registry },
    ready: () => {
      const all = scheduler.isReady() ? [...reasons] : [...reasons, 'database'];
      return { ready: all.length === 0, reasons: all };
    },
  });
  scheduler.start();
  const grpcPort = await edge.listen(config.GRPC_HOST, config.GRPC_PORT);
  const enrollPort = await enrollment.listen(config.ENROLL_HOST, config.ENROLL_PORT);
  reasons.delete('starting');
  log.info({ host: config.GRPC_HOST, port: grpcPort, edge: 'node' }, 'serving gRPC');
  log.info({ host: config.ENROLL_HOST, port: enrollPort, edge: 'enrollment' }, 'serving gRPC');
  log.info({ host: config.OPS_HOST, port: ops.port }, 'serving operations');

  onShutdown(log, [
    {
      name: 'edges',
      run: async () => {
        reasons.add('stopping');
        revocations.close();
        await Promise.all([edge.close(CLOSE_GRACE_MS), enrollment.close(CLOSE_GRACE_MS)]);
      },
    },
    { name: 'scheduler', run: () => scheduler.close() },
    { name: 'ops', run: () => ops.close() },
  ]);
}

function openEdge(
  options: Pick<Parameters<typeof createServer>[0], 'allow' | 'services' | 'clientCertificates' | 'admit'>,
): RpcServer {
  return createServer({
    ...options,
    tls: { certFile: config.TLS_CERT_FILE, keyFile: config.TLS_KEY_FILE, rootFile: config.TLS_ROOT_FILE },
    trustDomain: config.TRUST_DOMAIN,
    ...{ log, metrics, clock },
  });
}
