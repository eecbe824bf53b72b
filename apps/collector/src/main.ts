// The collector process: accepts frames of nodes into the ledger and derives usage from them. Wiring only.
import { hostname } from 'node:os';
import { randomUUID } from 'node:crypto';
import { createPool } from '@penstock/db/pool';
import { listen } from '@penstock/db/listen';
import { run } from '@penstock/db/statement';
import { systemClock } from '@penstock/domain/clock';
import { createServer } from '@penstock/rpc/server';
import { UsageServiceService } from '@penstock/rpc/gen/penstock/usage/v1/usage';
import { requireGoodStanding, REVOKED_CHANNEL, watchRevocations } from '@penstock/rpc/revocation';
import { loadConfigOrExit } from '@penstock/service/config';
import { createLogger } from '@penstock/service/logger';
import { createMetrics } from '@penstock/service/metrics';
import { startOpsServer } from '@penstock/service/ops-server';
import { onShutdown } from '@penstock/service/shutdown';
import { cannotStart } from '@penstock/service/start-failure';
import { Collector, PERIOD_CHANNEL } from './collector.js';
import { collectorConfig, keyedSessions, WRITERS } from './config.js';
import { collectorMetrics } from './metrics.js';
import { findStanding, listRevoked } from './open.store.js';
import { usageAllow, usageService } from './usage.rpc.js';

const GRACE_MS = 2_000;

const config = loadConfigOrExit(collectorConfig);
const log = createLogger('collector', config.LOG_LEVEL);

await start().catch(cannotStart('collector'));

async function start(): Promise<void> {
  const metrics = createMetrics();
  const databaseUrl = keyedSessions(config.DATABASE_URL);
  const pool = createPool(databaseUrl, {
    applicationName: 'penstock-collector',
    max: config.DATABASE_CONNECTIONS,
    log,
  });
  const writers = createPool(databaseUrl, { applicationName: 'penstock-collector', max: WRITERS, log });
  const collector = new Collector({
    pool,
    writers,
    lookupsMax: config.DATABASE_CONNECTIONS - 2,
    clock: systemClock,
    log,
    metrics: collectorMetrics(metrics),
    holder: `${hostname()}/${process.pid}/${randomUUID()}`,
    flushMs: config.FLUSH_MS,
  });
  const server = createServer({
    tls: { certFile: config.TLS_CERT_FILE, keyFile: config.TLS_KEY_FILE, rootFile: config.TLS_ROOT_FILE },
    trustDomain: config.TRUST_DOMAIN,
    allow: usageAllow,
    services: [[UsageServiceService, usageService(collector, systemClock, log)]],
    log,
    metrics,
    clientCertificates: 'required',
    admit: async (peer) => requireGoodStanding(peer, (await run(pool, findStanding, [peer.serial]))[0]),
  });
  const revocations = watchRevocations(
    [server],
    async (serials) => (await run(pool, listRevoked, [serials])).map((row) => row.serial),
    log,
  );
  const onNotify = (channel: string, payload: string): void => {
    if (channel === PERIOD_CHANNEL) collector.periodsChanged(payload);
    else void revocations.poke();
  };
  const listener = listen(config.DATABASE_URL, [REVOKED_CHANNEL, PERIOD_CHANNEL], onNotify, log);
  const ops = await startOpsServer({
    host: config.OPS_HOST,
    port: config.OPS_PORT,
    allow: config.OPS_ALLOW,
    registry: metrics.registry,
    ready: () => collector.readiness(),
  });
  const port = await server.listen(config.GRPC_HOST, config.GRPC_PORT);
  collector.start();
  log.info({ port, host: config.GRPC_HOST, name: 'usage' }, 'listening');
  log.info({ port: ops.port, host: config.OPS_HOST, name: 'ops' }, 'listening');

  onShutdown(log, [
    { name: 'streams', run: () => collector.stop() },
    { name: 'rpc', run: () => server.close(GRACE_MS) },
    { name: 'revocations', run: async () => revocations.close() },
    { name: 'listen', run: () => listener.close() },
    { name: 'ops', run: () => ops.close() },
    { name: 'database', run: async () => void (await Promise.all([pool.end(), writers.end()])) },
  ]);
}
