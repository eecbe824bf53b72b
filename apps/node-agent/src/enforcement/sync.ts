// The node's side of Enforcement.Sync: one stream to the scheduler, kept up with exponential backoff and full jitter.
// Says what is applied, takes revisions in order, acknowledges with proof, sends heartbeats. While nobody answers the
// node keeps its last revision in force.
import type { ClientDuplexStream } from '@grpc/grpc-js';
import type { Clock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import type { NodeId } from '@penstock/domain/ids';
import { engines as engineNames } from '@penstock/domain/terms';
import type {
  Acknowledgement,
  AccessEntry,
  EnforcementServiceClient,
  Heartbeat,
  Snapshot,
  SyncRequest,
  SyncResponse,
} from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import type { Logger } from '@penstock/service/logger';
import type { Enforcer } from './apply.js';
import type { DesiredStore } from './desired.store.js';

export const BACKOFF_MIN_MS = 200;
export const BACKOFF_MAX_MS = 30_000;
/** A stream that took a revision or lasted this long was good: the next one is tried as soon as the first. */
const STABLE_MS = 1_000;
/** Messages received but not yet handled. The scheduler keeps one revision in flight, so more is a broken peer. */
const QUEUE_MAX = 4096;
const SNAPSHOT_ENTRIES_MAX = 2_000_000;

export interface SyncDeps {
  nodeId: NodeId;
  agentVersion: string;
  store: DesiredStore;
  enforcer: Enforcer;
  /** A fresh client for each connection: certificates renew. */
  connect: () => EnforcementServiceClient;
  heartbeat: () => Promise<Omit<Heartbeat, 'appliedRevision' | 'clockMs'>>;
  onServerTime: (serverMs: number) => void;
  clock: Clock;
  log: Logger;
}

export class Sync {
  private stopped = false;
  private connected = false;
  /** This stream has taken a revision. */
  private fruitful = false;
  private stream: ClientDuplexStream<SyncRequest, SyncResponse> | undefined;
  private wake: (() => void) | undefined;

  constructor(private readonly deps: SyncDeps) {}

  /** Runs until `stop`. */
  async run(): Promise<void> {
    let delayMs = BACKOFF_MIN_MS;
    while (!this.stopped) {
      const startedAt = this.deps.clock.monotonic();
      this.fruitful = false;
      try {
        await this.once();
      } catch (error) {
        if (!this.stopped) this.deps.log.warn({ error }, 'enforcement stream ended');
      }
      const lasted = this.connected && this.deps.clock.monotonic() - startedAt > STABLE_MS;
      if (lasted || this.fruitful) delayMs = BACKOFF_MIN_MS;
      this.connected = false;
      if (this.stopped) return;
      await this.pause(delayMs * (0.5 + Math.random() / 2));
      delayMs = Math.min(delayMs * 2, BACKOFF_MAX_MS);
    }
  }

  isConnected(): boolean {
    return this.connected;
  }

  stop(): void {
    this.stopped = true;
    this.stream?.cancel();
    this.wake?.();
  }

  /** Connects again at once: the certificate was renewed, or an engine arrived. */
  reconnect(): void {
    this.stream?.cancel();
    this.wake?.();
  }

  private async once(): Promise<void> {
    const { deps } = this;
    const client = deps.connect();
    const stream = client.sync();
    this.stream = stream;
    let beat: NodeJS.Timeout | undefined;
    const queue: SyncResponse[] = [];
    let working: Promise<void> = Promise.resolve();
    const parts: { snapshot: Snapshot; entries: AccessEntry[] }[] = [];

    const send = (message: NonNullable<SyncRequest['message']>): void => {
      if (!stream.destroyed) stream.write({ message });
    };
    const acknowledge = (value: Acknowledgement): void => {
      this.fruitful ||= value.errorCode === '';
      send({ $case: 'acknowledgement', value });
    };

    const handle = async (response: SyncResponse): Promise<void> => {
      const message = response.message;
      if (message === undefined) return;
      switch (message.$case) {
        case 'welcome': {
          if (message.value.fence < deps.store.state.fence) {
            throw new AppError('fenced', 'the scheduler that answered has been replaced');
          }
          this.connected = true;
          deps.onServerTime(Number(message.value.serverTimeMs));
          beat = setInterval(() => void this.beat(send), Math.max(message.value.heartbeatIntervalMs, 500));
          await this.beat(send);
          return;
        }
        case 'snapshot': {
          const part = message.value;
          if (parts[0]?.snapshot.revision !== part.revision) parts.length = 0;
          if (parts.length === 0) parts.push({ snapshot: part, entries: [] });
          const whole = parts[0];
          if (whole === undefined) return;
          for (const entry of part.entries) whole.entries.push(entry);
          if (whole.entries.length > SNAPSHOT_ENTRIES_MAX)
            throw new AppError('payload_too_large', 'snapshot is too large');
          if (part.more) return;
          parts.length = 0;
          const snapshot = { ...whole.snapshot, entries: whole.entries, more: false };
          acknowledge(await this.take(snapshot.revision, () => deps.enforcer.applySnapshot(snapshot)));
          return;
        }
        case 'delta': {
          const delta = message.value;
          acknowledge(await this.take(delta.revision, () => deps.enforcer.applyDelta(delta)));
          return;
        }
      }
    };

    try {
      await new Promise<void>((resolve, reject) => {
        stream.on('data', (response: SyncResponse) => {
          queue.push(response);
          if (queue.length > QUEUE_MAX) return reject(new AppError('rate_limited', 'too many messages'));
          working = working.then(async () => {
            const next = queue.shift();
            if (next !== undefined) await handle(next);
          });
          working.catch((error: unknown) => {
            stream.cancel();
            reject(error as Error);
          });
        });
        stream.on('error', reject);
        stream.on('end', resolve);
        send({ $case: 'hello', value: this.hello() });
      });
    } finally {
      clearInterval(beat);
      stream.cancel();
      client.close();
      await working.catch(() => undefined);
    }
  }

  /** A revision that cannot be taken is answered, not dropped: the scheduler shows why. */
  private async take(revision: bigint, apply: () => Promise<Acknowledgement>): Promise<Acknowledgement> {
    const receivedAt = this.deps.clock.now();
    try {
      return await apply();
    } catch (error) {
      if (error instanceof AppError && error.code === 'fenced') throw error;
      this.deps.log.error({ revision, error }, 'revision was not applied');
      const known = error instanceof AppError;
      return this.deps.enforcer.failure(
        revision,
        receivedAt,
        known ? error.code : 'internal',
        known ? error.message : 'the revision could not be applied',
      );
    }
  }

  private hello() {
    const { deps } = this;
    return {
      nodeId: deps.nodeId,
      agentVersion: deps.agentVersion,
      appliedRevision: deps.enforcer.applied.revision,
      appliedDigest: deps.enforcer.applied.digest,
      fence: deps.store.state.fence,
      engines: [...engineNames],
      clockMs: BigInt(deps.clock.now()),
      pending: deps.enforcer.pending(),
    };
  }

  private async beat(send: (message: NonNullable<SyncRequest['message']>) => void): Promise<void> {
    const { deps } = this;
    const status = await deps.heartbeat();
    send({
      $case: 'heartbeat',
      value: {
        ...status,
        appliedRevision: deps.enforcer.applied.revision,
        clockMs: BigInt(deps.clock.now()),
      },
    });
  }

  private pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.wake = undefined;
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.wake = done;
    });
  }
}
