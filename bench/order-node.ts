// A node on the wire: its usage stream and its enforcement stream over mTLS. It seals real signed frames, applies every
// order to a set of subscriptions, computes the digest itself and acknowledges at once, with the proof an agent gives.
import { connect, openBidi, type ClientBidi } from '@penstock/rpc/client';
import {
  ChangeKind,
  EnforcementServiceClient,
  type Delta,
  type Snapshot,
  type SyncRequest,
  type SyncResponse,
} from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import {
  UsageServiceClient,
  type IngestRequest,
  type IngestResponse,
} from '@penstock/rpc/gen/penstock/usage/v1/usage';
import type { NodeId } from '@penstock/domain/ids';
import { accessDigest, stateDigest } from '@penstock/ledger/state-digest';
import type { SealedFrame } from '@penstock/testkit/journal';
import type { TestIdentity } from '@penstock/testkit/trust';

const log = { warn: (): void => undefined };

export class BenchNode {
  readonly entries = new Map<string, Buffer>();
  /** Subscription key → performance.now() when its removal was read from the wire. */
  readonly removedAt = new Map<string, number>();
  acknowledgedSeq = 0n;
  opened = false;
  fault: unknown = null;
  private config: Buffer = Buffer.alloc(0);
  private readonly enforcement: ClientBidi<SyncRequest, SyncResponse>;
  private readonly usage: ClientBidi<IngestRequest, IngestResponse>;
  private readonly clients: { close(): void }[];
  private heartbeat: NodeJS.Timeout | undefined;

  constructor(
    readonly nodeId: NodeId,
    identity: TestIdentity,
    trustDomain: string,
    schedulerAddress: string,
    collectorAddress: string,
  ) {
    const options = { tls: identity.tls, trustDomain, log };
    const toScheduler = connect(EnforcementServiceClient, schedulerAddress, {
      ...options,
      servers: ['scheduler'],
    });
    const toCollector = connect(UsageServiceClient, collectorAddress, { ...options, servers: ['collector'] });
    this.clients = [toScheduler, toCollector];
    this.enforcement = openBidi((metadata, call) => toScheduler.sync(metadata, call));
    this.usage = openBidi((metadata, call) => toCollector.ingest(metadata, call));
  }

  async open(): Promise<void> {
    const clockMs = BigInt(Date.now());
    const empty = Buffer.alloc(0);
    const common = { nodeId: this.nodeId, agentVersion: 'bench', clockMs };
    const hello = {
      ...common,
      appliedRevision: 0n,
      appliedDigest: empty,
      fence: 0n,
      engines: ['xray'],
      pending: [],
    };
    await this.enforcement.write({ message: { $case: 'hello', value: hello } });
    const open = { ...common, epoch: 0, seq: 0n, digest: Buffer.alloc(32), oldestSeq: 1n };
    await this.usage.write({ message: { $case: 'open', value: open } });
    void this.readOrders().catch((error: unknown) => (this.fault = error));
    void this.readUsage().catch((error: unknown) => (this.fault = error));
    this.heartbeat = setInterval(() => {
      const value = {
        appliedRevision: 0n,
        clockMs: BigInt(Date.now()),
        engines: [],
        subscriptions: this.entries.size,
      };
      const message = {
        $case: 'heartbeat' as const,
        value: { ...value, walBytes: 0n, walFrames: 0, lastAcknowledgedSeq: 0n },
      };
      void this.enforcement.write({ message });
    }, 5_000);
  }

  async send(frame: SealedFrame): Promise<void> {
    const { epoch, seq, bytes: data, signature } = frame;
    await this.usage.write({
      message: { $case: 'part', value: { epoch, seq, part: 0, parts: 1, data, signature, traceparent: '' } },
    });
  }

  close(): void {
    clearInterval(this.heartbeat);
    this.enforcement.cancel();
    this.usage.cancel();
    for (const client of this.clients) client.close();
  }

  private async readUsage(): Promise<void> {
    for await (const { message } of this.usage) {
      if (message?.$case === 'opened') this.opened = true;
      else if (message?.$case === 'accepted') this.acknowledgedSeq = message.value.seq;
      else if (message !== undefined) throw new Error(`the collector answered ${message.$case}`);
    }
  }

  private async readOrders(): Promise<void> {
    for await (const { message } of this.enforcement) {
      if (message?.$case === 'delta')
        await this.take(message.value, message.value.upserts, message.value.removals);
      else if (message?.$case === 'snapshot') await this.take(message.value, message.value.entries, []);
    }
  }

  private async take(order: Delta | Snapshot, upserts: Delta['upserts'], removals: Buffer[]): Promise<void> {
    const now = performance.now();
    const keys = removals.map((id) => id.toString('hex'));
    for (const key of keys) {
      this.removedAt.set(key, now);
      this.entries.delete(key);
    }
    for (const { subscriptionId, access } of upserts) {
      this.entries.set(subscriptionId.toString('hex'), accessDigest(subscriptionId, access));
    }
    if (order.config.length > 0) this.config = order.config;
    if ('more' in order && order.more) return;
    const clock = BigInt(Date.now());
    const results = keys.map((key) => ({
      ...{
        subscriptionId: Buffer.from(key, 'hex'),
        kind: ChangeKind.CHANGE_KIND_CUT,
        ended: true,
        sessionsEnded: 1,
      },
      ...{ cutUs: 100, provenUs: 200_000, reason: '', engine: 'xray' },
    }));
    const value = {
      ...{ revision: order.revision, digest: stateDigest(this.config, this.entries), results },
      ...{ receivedAtMs: clock, appliedAtMs: clock, errorCode: '', errorMessage: '' },
    };
    await this.enforcement.write({ message: { $case: 'acknowledgement', value } });
  }
}
