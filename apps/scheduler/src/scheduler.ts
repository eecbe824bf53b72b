// The scheduler without its edges: consumer, streams and tasks, wired. main.ts adds the servers; tests start several of
// them over one database.
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { createPool, type Pool } from '@penstock/db/pool';
import { listen, type Listener } from '@penstock/db/listen';
import type { Clock } from '@penstock/domain/clock';
import type { NodeId } from '@penstock/domain/ids';
import type { Logger } from '@penstock/service/logger';
import { ChangeConsumer } from './changes/consumer.js';
import { Admission, ADMISSION, type AdmissionRule } from './enforcement/admission.js';
import { DesiredReader } from './enforcement/desired-reader.js';
import { enforcementService } from './enforcement/enforcement.rpc.js';
import type { EnforcementServiceServer } from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import { STREAM_RULES, type StreamRules } from './enforcement/node-stream.js';
import { NodeStreams } from './enforcement/streams.js';
import { StatusWriter } from './heartbeat/status-writer.js';
import type { SchedulerMetrics } from './metrics.js';
import { TaskDriver, type Task } from './tasks/driver.js';
import { auditHeads } from './tasks/audit-heads.js';
import { expirySweep } from './tasks/expiry-sweep.js';
import { idempotencyKeeper } from './tasks/idempotency-keeper.js';
import { nodeLiveness } from './tasks/node-liveness.js';
import { eventKeeper } from './tasks/event-keeper.js';
import { partitionKeeper } from './tasks/partition-keeper.js';
import { periodRoll } from './tasks/period-roll.js';
import { poolWatch } from './tasks/pool-watch.js';
import { signInKeeper } from './tasks/sign-in-keeper.js';
import { statementClose } from './tasks/statement-close.js';
import { usageRollup } from './tasks/usage-rollup.js';
import { WebhookDispatcher } from './webhooks/dispatcher.js';
import { Egress, type EgressOptions } from './webhooks/egress.js';

/** access_change rows that no notification announced are found within this. */
export const CHANGE_SWEEP_INTERVAL_MS = 2_000;

export interface SchedulerOptions {
  databaseUrl: string;
  partitionsDatabaseUrl: string;
  dataKey: Buffer;
  heartbeatMs: number;
  windowMs: number;
  /** Where the ends of the audit chains are kept outside the database. */
  auditHeadsFile?: string | undefined;
  clock: Clock;
  log: Logger;
  metrics: SchedulerMetrics;
  /** Further channels on the one listen connection: called with the payload, and with '' after each (re)connect. */
  channels?: Readonly<Record<string, (payload: string) => void>>;
  rules?: StreamRules;
  admission?: AdmissionRule;
  /** Whom webhooks may reach beyond the public internet: CIDRs of the operator. */
  webhookEgress?: Omit<EgressOptions, 'clock'>;
  /** [0, 1), for jitter. */
  random: () => number;
}

export interface Scheduler {
  pool: Pool;
  streams: NodeStreams;
  consumer: ChangeConsumer;
  tasks: TaskDriver;
  enforcement: EnforcementServiceServer;
  /** False while the database does not answer. */
  isReady(): boolean;
  start(): void;
  close(): Promise<void>;
}

export function createScheduler(options: SchedulerOptions): Scheduler {
  const { clock, log, metrics, heartbeatMs, random } = options;
  const pool = createPool(options.databaseUrl, { applicationName: 'penstock-scheduler', max: 20, log });
  // Decisions never wait for a connection behind nodes that come back. Their commits need not wait for the disk either:
  // one that a crash of the server takes back brings its access_change rows back with it, and an order goes out only
  // after the commit of its revision, which makes everything before it durable.
  const decisions = createPool(withSetting(options.databaseUrl, 'synchronous_commit=off'), {
    applicationName: 'penstock-decisions',
    max: 2,
    log,
  });
  const partitionsPool = createPool(options.partitionsDatabaseUrl, {
    applicationName: 'penstock-partitions',
    max: 1,
    statementTimeoutMs: 60_000,
    log,
  });
  const streams = new NodeStreams({ pool, clock, log, metrics, heartbeatMs });
  const statuses = new StatusWriter(pool, log);
  const consumer = new ChangeConsumer({
    pool: decisions,
    clock,
    log,
    metrics,
    isHeld: (nodeId) => streams.isHeld(nodeId),
    poke: (nodeId) => streams.poke(nodeId),
  });
  const admission = new Admission(options.admission ?? ADMISSION, random, (waiting) =>
    metrics.queueDepth.set({ queue: 'stream_admission' }, waiting),
  );
  const enforcement = enforcementService({
    ...{ pool, clock, log, metrics, streams, statuses, admission, random, heartbeatMs },
    reader: new DesiredReader({ pool, dataKey: options.dataKey, log, metrics, windowMs: options.windowMs }),
    rules: options.rules ?? STREAM_RULES,
    holder: `${hostname()}/${process.pid}/${randomUUID().slice(0, 8)}`,
  });
  const webhookPool = createPool(options.databaseUrl, {
    ...{ applicationName: 'penstock-webhooks', max: 4, log },
  });
  const webhooks = new WebhookDispatcher({
    ...{ pool: webhookPool, clock, log, metrics, random, dataKey: options.dataKey },
    egress: new Egress({ clock, ...options.webhookEgress }),
  });
  const tasks = new TaskDriver({ pool, clock, log, metrics });
  const readiness = { ok: false };
  let listener: Listener | undefined;
  let sweep: NodeJS.Timeout | undefined;

  const check = (): void => {
    pool.query('SELECT 1').then(
      () => (readiness.ok = true),
      () => (readiness.ok = false),
    );
  };

  return {
    pool,
    streams,
    consumer,
    tasks,
    enforcement,
    isReady: () => readiness.ok,
    start() {
      check();
      const channels: Record<string, (payload: string) => void> = {
        ...options.channels,
        access_change: () => consumer.poke(),
        event: () => webhooks.poke(),
        node_change: (payload) => (payload === '' ? streams.pokeWaiting() : streams.poke(payload as NodeId)),
      };
      const onNotify = (channel: string, payload: string): void => channels[channel]?.(payload);
      listener = listen(options.databaseUrl, Object.keys(channels), onNotify, log);
      // Not a task of one process: whoever is free takes what is there, SKIP LOCKED keeps them apart.
      sweep = setInterval(() => {
        consumer.poke();
        check();
      }, CHANGE_SWEEP_INTERVAL_MS);
      sweep.unref();
      streams.start();
      statuses.start();
      webhooks.start();
      const list: Task[] = [
        expirySweep(clock),
        periodRoll(clock),
        poolWatch(),
        partitionKeeper(partitionsPool, metrics),
        eventKeeper(clock),
        signInKeeper(clock),
        idempotencyKeeper(),
        auditHeads(clock, options.auditHeadsFile),
        nodeLiveness(metrics, heartbeatMs),
        usageRollup({ pool, log, metrics }),
        statementClose({ pool, log, metrics, dataKey: options.dataKey }, clock),
      ];
      tasks.start(list);
    },
    async close() {
      clearInterval(sweep);
      await listener?.close();
      await webhooks.close();
      await streams.close();
      await consumer.close();
      await tasks.close();
      await statuses.close();
      await partitionsPool.end();
      await decisions.end();
      await webhookPool.end();
      await pool.end();
    },
  };
}

/** The same address with a server setting for its sessions. */
function withSetting(url: string, setting: string): string {
  const parsed = new URL(url);
  const before = parsed.searchParams.get('options');
  parsed.searchParams.set('options', `${before === null ? '' : `${before} `}-c ${setting}`);
  return parsed.href;
}
