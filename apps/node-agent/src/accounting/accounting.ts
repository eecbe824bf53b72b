// Exact accounting of this node: every byte that an engine's counter has shown is journalled, sealed, sent and kept
// until the ledger has it. This folder owns meters, frames' making and the journal (wal*.ts, record*.ts); the engines
// own their counters; enforcement/ and main.ts call what createAccounting returns, above all `beforeRemoval`.
import type { KeyObject } from 'node:crypto';
import type { Clock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import { idBytes, type NodeId, type SubscriptionId, type TenantId } from '@penstock/domain/ids';
import type { Engine as EngineName } from '@penstock/domain/terms';
import type { UsageServiceClient } from '@penstock/rpc/gen/penstock/usage/v1/usage';
import type { Engine } from '../engines/engine.js';
import { Mutex } from '../engines/wireguard/mutex.js';
import { Sampler } from './sampler.js';
import { Sender } from './sender.js';
import { systemTimers, type Timers } from './timers.js';
import { Wal, type SigningIdentity } from './wal.js';
import { openDiskFiles, openMemoryFiles } from './wal-files.js';
import { lockDirectory } from './wal-lock.js';
import { WINDOW_MS_LONGEST, WINDOW_MS_MIN } from './window.js';

export type BufferMode = 'wal' | 'amnesia';

export interface AccountingDeps {
  nodeId: NodeId;
  agentVersion: string;
  bufferMode: BufferMode;
  /** Directory of the journal alone, made 0700 when missing. Not touched in mode `amnesia`. */
  directory: string;
  /** Bytes the journal may take; CAP_BYTES_DEFAULT when absent. */
  capBytes?: number;
  /** 1,000 to 60,000. */
  windowMs: number;
  engines: readonly Pick<Engine, 'name' | 'counters'>[];
  /** Client of the collector; reconnects and follows renewed certificates by itself. */
  client: UsageServiceClient;
  /** Certificate in use: 16-byte serial and key; null while the node has none (values are journalled, not sealed). */
  identity(): { serial: Buffer; privateKey: KeyObject } | null;
  /** Tenant of a subscription in the desired state; null when it is not there. Remembered with the first bytes. */
  tenantOf(subscriptionId: SubscriptionId): TenantId | null;
  clock: Clock;
  timers?: Timers;
  random?: () => number;
  log: {
    info(fields: object, msg: string): void;
    warn(fields: object, msg: string): void;
    error(fields: object, msg: string): void;
  };
}

export interface AccountingStatus {
  mode: BufferMode;
  journalBytes: number;
  journalCapBytes: number;
  /** Frames that nobody acknowledged yet. */
  frames: number;
  /** 0 while no epoch was granted. */
  epoch: number;
  /** Last sealed and last acknowledged seq of the epoch. */
  headSeq: bigint;
  ackedSeq: bigint;
  windowMs: number;
  connected: boolean;
  reconnects: number;
  meters: number;
  corruptRecords: number;
  fallenCounters: number;
  /** Closed list of reason words; empty when all is well. */
  degraded: DegradedReason[];
}

export type DegradedReason =
  | 'engine_unreadable'
  | 'journal_full'
  | 'journal_filling'
  | 'journal_unwritable'
  | 'journal_slow'
  | 'tenant_unknown'
  | 'counter_saturated'
  | 'collector_unreachable'
  | 'stream_refused';

export interface Accounting {
  /** Begins to read, seal and send. */
  start(): void;
  /** Reads all engines and seals; resolves when it is journalled. */
  readAndSeal(): Promise<void>;
  /**
   * The same, to be awaited before any counter can vanish (removal, cut, restart of an engine). Never throws: values
   * that could not be journalled stay in memory and `status().degraded` says so.
   */
  beforeRemoval(): Promise<void>;
  /** An engine died at `atMs` (this node's clock): marks what nobody can know, and seals at once. */
  engineDied(engine: EngineName, atMs: number): Promise<void>;
  /** An engine was ended on purpose after `beforeRemoval`: its next life is not taken for a death. */
  engineStopped(engine: EngineName): Promise<void>;
  /** Another stream saw the server's time. */
  onServerTime(serverTimeMs: number): void;
  /** This node's clock corrected by the server's. */
  correctedNow(): number;
  /** Reads, seals, sends what it can within DRAIN_MS, closes the journal. */
  stop(): Promise<void>;
  status(): AccountingStatus;
}

export const CAP_BYTES_DEFAULT = 64 * 1024 * 1024;
const CAP_BYTES_MIN = 256 * 1024;
const DRAIN_MS = 3000;
/** Fill above which the journal is told to be filling, and below which that ends. */
const FILLING_ABOVE = 0.8;
const FILLING_BELOW = 0.75;

/**
 * Opens the journal (throws failed_precondition with one clear sentence when it cannot be used) and puts the parts
 * together. Nothing runs before `start`.
 */
export async function createAccounting(deps: AccountingDeps): Promise<Accounting> {
  const capBytes = deps.capBytes ?? CAP_BYTES_DEFAULT;
  if (deps.windowMs < WINDOW_MS_MIN || deps.windowMs > WINDOW_MS_LONGEST) {
    throw new AppError('invalid_input', 'WINDOW_MS must be 1000 to 60000', { field: 'WINDOW_MS' });
  }
  if (capBytes < CAP_BYTES_MIN) {
    throw new AppError('invalid_input', 'the journal needs at least 256 KiB', { field: 'capBytes' });
  }
  const { clock, log } = deps;
  const timers = deps.timers ?? systemTimers;
  const { wal, unlock } = await openJournal(deps, capBytes);
  let offsetMs = 0;
  const correctedNow = (): number => clock.now() + offsetMs;
  const onServerTime = (serverTimeMs: number): void => {
    if (serverTimeMs > 0) offsetMs = serverTimeMs - clock.now();
  };
  const nodeBytes = Buffer.from(idBytes(deps.nodeId));
  const identity = (): SigningIdentity | null => {
    const own = deps.identity();
    return own === null
      ? null
      : { nodeId: nodeBytes, certificateSerial: own.serial, privateKey: own.privateKey };
  };
  const sampler: Sampler = new Sampler({
    engines: deps.engines,
    wal,
    windowMs: deps.windowMs,
    clock,
    timers,
    correctedNow,
    identity,
    tenantOf: deps.tenantOf.bind(deps),
    onSealed: () => sender.notify(),
    log,
  });
  const sender: Sender = new Sender({
    wal,
    client: deps.client,
    nodeId: deps.nodeId,
    agentVersion: deps.agentVersion,
    identity,
    clock,
    timers,
    correctedNow,
    onServerTime,
    onEpoch: () => void sampler.seal(false),
    random: deps.random ?? Math.random,
    log,
  });
  let filling = false;
  return {
    start() {
      if (wal.corruptRecords > 0) log.error({ count: wal.corruptRecords }, 'the journal has damaged records');
      if (deps.bufferMode === 'amnesia')
        log.warn({}, 'buffer mode amnesia: unsent usage goes with this process');
      sampler.start();
      sender.start();
    },
    readAndSeal: () => sampler.readAndSeal(),
    beforeRemoval: () => sampler.readAndSeal(),
    engineDied: (engine, atMs) => sampler.engineDied(engine, atMs + offsetMs),
    engineStopped: (engine) => sampler.engineStopped(engine),
    onServerTime,
    correctedNow,
    async stop() {
      sampler.stop();
      await sampler.readAndSeal();
      await sender.drain(DRAIN_MS);
      await sender.stop();
      await wal.close().catch((error: unknown) => log.warn({ error }, 'the journal could not be closed'));
      await unlock();
    },
    status() {
      const { fill, state } = wal;
      filling = filling ? fill > FILLING_BELOW : fill > FILLING_ABOVE;
      const degraded: DegradedReason[] = [...sampler.degraded];
      if (filling) degraded.push('journal_filling');
      if (sampler.writeIsSlow) degraded.push('journal_slow');
      if (sender.status.refused !== null) degraded.push('stream_refused');
      else if (!sender.status.connected) degraded.push('collector_unreachable');
      return {
        mode: deps.bufferMode,
        journalBytes: wal.bytes,
        journalCapBytes: capBytes,
        frames: wal.unacknowledged,
        epoch: state.epoch,
        headSeq: state.nextSeq - 1n,
        ackedSeq: state.acked,
        windowMs: sampler.windowMs,
        connected: sender.status.connected,
        reconnects: sender.status.reconnects,
        meters: state.meters.size,
        corruptRecords: wal.corruptRecords,
        fallenCounters: sampler.fallenCounters,
        degraded,
      };
    },
  };
}

async function openJournal(
  deps: AccountingDeps,
  capBytes: number,
): Promise<{ wal: Wal; unlock: () => Promise<void> }> {
  const turns = new Mutex();
  const nowMs = deps.clock.now();
  if (deps.bufferMode === 'amnesia') {
    const wal = await Wal.open({ files: openMemoryFiles(), capBytes, nowMs, turns });
    return { wal, unlock: () => Promise.resolve() };
  }
  const files = await openDiskFiles(deps.directory);
  const unlock = await lockDirectory(deps.directory).catch(async (error: unknown) => {
    await files.close();
    throw error;
  });
  try {
    return { wal: await Wal.open({ files, capBytes, nowMs, turns }), unlock };
  } catch (error) {
    await files.close();
    await unlock();
    throw error;
  }
}
