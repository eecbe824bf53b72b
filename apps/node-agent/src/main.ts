// The node-agent: runs beside the engines of one node, listens to nobody but its own ops port. Wiring only: identity →
// desired state on disk → engines → accounting → streams to scheduler and collector. The engines are processes of
// their own that outlive it; a restart adopts them and loses nothing.
import { accessSync, chmodSync, constants, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '@penstock/domain/clock';
import { engines as engineNames, type Engine as EngineName } from '@penstock/domain/terms';
import type { SubscriptionId, TenantId } from '@penstock/domain/ids';
import { connect } from '@penstock/rpc/client';
import { EnforcementServiceClient } from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import { UsageServiceClient } from '@penstock/rpc/gen/penstock/usage/v1/usage';
import type { ServiceName } from '@penstock/rpc/identity';
import { loadConfigOrExit } from '@penstock/service/config';
import { createLogger } from '@penstock/service/logger';
import { createMetrics } from '@penstock/service/metrics';
import { startOpsServer } from '@penstock/service/ops-server';
import { onShutdown } from '@penstock/service/shutdown';
import { cannotStart } from '@penstock/service/start-failure';
import { createAccounting } from './accounting/accounting.js';
import { configSchema } from './config.js';
import { EngineHost } from './engines/host.js';
import { engineFactories } from './engines/make.js';
import { Enforcer } from './enforcement/apply.js';
import { DesiredStore } from './enforcement/desired.store.js';
import { Sync } from './enforcement/sync.js';
import { openIdentity } from './enrollment/enroll.js';
import { createRenewal } from './enrollment/renewal.js';
import { agentMetrics } from './metrics.js';

const AGENT_VERSION = '0.1.0';
/** An engine that died is started again after this, doubled each time up to the maximum. */
const ENGINE_RESTART_MIN_MS = 100;
const ENGINE_RESTART_MAX_MS = 30_000;

const config = loadConfigOrExit(configSchema);
const log = createLogger('node-agent', config.LOG_LEVEL);
const clock = systemClock;
process.umask(0o077);
const unusable = cannotStart('node-agent');
try {
  mkdirSync(config.AGENT_DIR, { recursive: true, mode: 0o700 });
  chmodSync(config.AGENT_DIR, 0o700);
  // A path that was given and leads nowhere is a mistake to tell; without one an engine may arrive later.
  for (const program of [config.XRAY_BIN, config.WIREGUARD_GO_BIN]) {
    if (program?.includes('/') === true) accessSync(program, constants.X_OK);
  }
} catch (error) {
  unusable(error);
}

const starting = new AbortController();
const metrics = createMetrics();
let reasons: () => string[] = () => ['not_enrolled'];
const ops = await startOpsServer({
  host: config.OPS_HOST,
  port: config.OPS_PORT,
  allow: config.OPS_ALLOW,
  registry: metrics.registry,
  ready: () => ({ ready: reasons().length === 0, reasons: reasons() }),
}).catch(unusable);

const enrollment = await openIdentity({
  agentDir: config.AGENT_DIR,
  trustDomain: config.TRUST_DOMAIN,
  joinToken: config.JOIN_TOKEN,
  clock,
  log,
  random: Math.random,
  signal: starting.signal,
}).catch((error: unknown) => {
  log.error({ error }, 'this node has no identity');
  process.exit(1);
});
const { nodeId } = enrollment.currentIdentity();
const { edge } = enrollment;
const connectTo = (servers: readonly ServiceName[]) => ({
  tls: () => enrollment.currentIdentity().tls,
  trustDomain: config.TRUST_DOMAIN,
  servers,
  log,
  clock,
  ...(edge.serverName === undefined ? {} : { serverName: edge.serverName }),
});

const desired = await DesiredStore.open(join(config.AGENT_DIR, 'desired'));
/** Tenants of subscriptions that were removed while this process ran: their late usage still needs one. */
const pastTenants = new Map<SubscriptionId, TenantId>();
const PAST_TENANTS_MAX = 100_000;

const host = new EngineHost(
  engineFactories({ config, clock, log, onDied: (name) => void revive(name) }),
  log,
);
const usageClient = connect(UsageServiceClient, edge.usage, connectTo(['collector', 'caddy']));
const accounting = await createAccounting({
  nodeId,
  agentVersion: AGENT_VERSION,
  bufferMode: config.BUFFER_MODE ?? 'wal',
  directory: join(config.AGENT_DIR, 'journal'),
  capBytes: config.BUFFER_BYTES_MAX,
  windowMs: config.WINDOW_MS,
  engines: engineNames.map((name) => ({
    name,
    counters: async () => (await host.get(name)?.counters()) ?? [],
  })),
  client: usageClient,
  identity: () => enrollment.currentIdentity(),
  tenantOf: (id) => desired.state.entries.get(id)?.access.tenantId ?? pastTenants.get(id) ?? null,
  clock,
  log,
}).catch((error: unknown) => {
  log.error({ error }, 'the journal cannot be used');
  process.exit(1);
});

const enforcer = new Enforcer({
  store: desired,
  engines: host,
  beforeRemoval: () => accounting.beforeRemoval(),
  engineStopped: (name) => accounting.engineStopped(name),
  onRemoved: ({ subscriptionId, tenantId }) => {
    pastTenants.set(subscriptionId, tenantId);
    const oldest = pastTenants.keys().next().value;
    if (pastTenants.size > PAST_TENANTS_MAX && oldest !== undefined) pastTenants.delete(oldest);
  },
  clock,
  log,
});
const sync = new Sync({
  nodeId,
  agentVersion: AGENT_VERSION,
  store: desired,
  enforcer,
  connect: () => connect(EnforcementServiceClient, edge.enforcement, connectTo(['scheduler', 'caddy'])),
  heartbeat: async () => {
    const status = accounting.status();
    return {
      engines: await host.status(),
      subscriptions: desired.state.entries.size,
      walBytes: BigInt(status.journalBytes),
      walFrames: status.frames,
      lastAcknowledgedSeq: status.ackedSeq,
    };
  },
  onServerTime: (ms) => accounting.onServerTime(ms),
  clock,
  log,
});
const renewal = createRenewal({
  enrollment,
  trustDomain: config.TRUST_DOMAIN,
  clock,
  log,
  random: Math.random,
  onRenewed: () => sync.reconnect(),
});

/** An engine died: what nobody can know is marked once, then everybody gets his access again. */
async function revive(name: EngineName): Promise<void> {
  log.error({ engine: name }, 'engine died');
  await accounting.engineDied(name, clock.now());
  await restore(name, ENGINE_RESTART_MIN_MS);
}

async function restore(name: EngineName, delayMs: number): Promise<void> {
  try {
    await enforcer.restoreEngine(name);
    log.info({ engine: name }, 'engine is back');
  } catch (error) {
    log.error({ engine: name, error, delayMs }, 'engine could not be started again');
    setTimeout(() => void restore(name, Math.min(delayMs * 2, ENGINE_RESTART_MAX_MS)), delayMs);
  }
}

await enforcer.resume();
accounting.start();
renewal.start();
void sync.run();
agentMetrics(metrics, () => ({ accounting: accounting.status(), connected: sync.isConnected() }));
reasons = () => [
  ...(sync.isConnected() ? [] : ['scheduler_unreachable']),
  ...accounting.status().degraded,
  ...(renewal.problem() === '' ? [] : ['certificate_not_renewed']),
];
log.info({ nodeId, port: ops.port, mode: config.BUFFER_MODE ?? 'wal' }, 'node-agent runs');

onShutdown(
  log,
  [
    { name: 'enforcement', run: async () => sync.stop() },
    // With the engines: everybody's sessions end first, so that the last reading is the last byte.
    {
      name: 'quiesce',
      run: async () => (config.AGENT_STOP_ENGINES === '1' ? enforcer.quiesce() : undefined),
    },
    { name: 'accounting', run: () => accounting.stop() },
    { name: 'engines', run: () => (config.AGENT_STOP_ENGINES === '1' ? host.stopAll() : host.detachAll()) },
    { name: 'renewal', run: async () => renewal.close() },
    { name: 'desired', run: () => desired.close() },
    { name: 'clients', run: async () => usageClient.close() },
    { name: 'ops', run: () => ops.close() },
  ],
  15_000,
);
