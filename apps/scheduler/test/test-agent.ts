// The node's side of Enforcement.Sync over real mTLS: keeps a desired state, applies snapshots and deltas as the
// protocol says, computes the digest itself and acknowledges. What it does not do is drive engines.
import { connect, openBidi, type ClientBidi } from '@penstock/rpc/client';
import {
  Access,
  ChangeKind,
  EnforcementServiceClient,
  type AccessEntry,
  type Acknowledgement,
  type ChangeResult,
  type Delta,
  type Hello,
  type Snapshot,
  type SyncRequest,
  type SyncResponse,
  type Welcome,
} from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import type { TlsMaterial } from '@penstock/rpc/trust';
import type { AppError } from '@penstock/domain/errors';
import type { NodeId, SubscriptionId } from '@penstock/domain/ids';
import { accessDigest, stateDigest } from '@penstock/ledger/state-digest';
import { eventually } from './world.js';

export interface Arrival {
  kind: 'snapshot' | 'delta';
  revision: bigint;
  base: bigint;
  upserts: string[];
  removals: string[];
  at: number;
}

export class TestAgent {
  entries = new Map<string, { access: Buffer; digest: Buffer }>();
  config: Buffer = Buffer.alloc(0);
  revision = 0n;
  digest: Buffer = Buffer.alloc(0);
  fence = 0n;
  welcome: Welcome | undefined;
  arrivals: Arrival[] = [];
  error: AppError | undefined;
  ended = false;
  /** Test switches: what a faulty or slow node does. */
  silent = false;
  proves = true;
  spoilDigest = false;
  keepSilentFor = new Set<bigint>();

  private client: InstanceType<typeof EnforcementServiceClient> | undefined;
  private stream: ClientBidi<SyncRequest, SyncResponse> | undefined;
  private parts: Snapshot[] = [];

  constructor(
    readonly nodeId: NodeId,
    private readonly tls: TlsMaterial,
    private readonly trustDomain: string,
  ) {}

  async connect(port: number, hello: Partial<Hello> = {}): Promise<void> {
    this.close();
    this.ended = false;
    this.error = undefined;
    this.welcome = undefined;
    this.client = connect(EnforcementServiceClient, `127.0.0.1:${port}`, {
      ...{
        tls: this.tls,
        trustDomain: this.trustDomain,
        servers: ['scheduler'],
        log: { warn: () => undefined },
      },
    });
    const client = this.client;
    const stream = openBidi<SyncRequest, SyncResponse>((metadata, options) => client.sync(metadata, options));
    this.stream = stream;
    const value: Hello = {
      ...{
        nodeId: this.nodeId,
        agentVersion: 'test',
        appliedRevision: this.revision,
        appliedDigest: this.digest,
      },
      ...{ fence: this.fence, engines: ['xray', 'wireguard'], clockMs: BigInt(Date.now()), pending: [] },
      ...hello,
    };
    await stream.write({ message: { $case: 'hello', value } });
    void this.read(stream);
    await eventually(() => this.welcome !== undefined || this.ended);
  }

  close(): void {
    this.stream?.cancel();
    this.client?.close();
    this.stream = undefined;
    this.client = undefined;
  }

  has(subscriptionId: SubscriptionId): boolean {
    return this.entries.has(subscriptionId.replaceAll('-', ''));
  }

  access(subscriptionId: SubscriptionId): Access | undefined {
    const entry = this.entries.get(subscriptionId.replaceAll('-', ''));
    return entry === undefined ? undefined : Access.decode(entry.access);
  }

  async send(message: SyncRequest['message']): Promise<void> {
    await this.stream?.write({ message });
  }

  async heartbeat(): Promise<void> {
    const value = {
      ...{ appliedRevision: this.revision, clockMs: BigInt(Date.now()), subscriptions: this.entries.size },
      engines: [{ engine: 'xray', running: true, version: '26.3.27', problem: '' }],
      ...{ walBytes: 0n, walFrames: 0, lastAcknowledgedSeq: 0n },
    };
    await this.send({ $case: 'heartbeat', value });
  }

  private async read(stream: ClientBidi<SyncRequest, SyncResponse>): Promise<void> {
    try {
      for await (const { message } of stream) {
        if (this.stream !== stream) return;
        if (message?.$case === 'welcome') {
          this.welcome = message.value;
          this.fence = message.value.fence;
        } else if (message?.$case === 'snapshot') await this.takeSnapshot(message.value);
        else if (message?.$case === 'delta') await this.takeDelta(message.value);
      }
    } catch (error) {
      if (this.stream === stream) this.error = error as AppError;
    }
    if (this.stream === stream) this.ended = true;
  }

  private async takeSnapshot(part: Snapshot): Promise<void> {
    this.parts.push(part);
    if (part.more) return;
    const entries = this.parts.flatMap((one) => one.entries);
    this.parts = [];
    const before = this.entries;
    const arrival = {
      kind: 'snapshot' as const,
      revision: part.revision,
      base: 0n,
      upserts: entries.map(keyOf),
      removals: [],
    };
    this.arrivals.push({ ...arrival, at: performance.now() });
    if (part.revision <= this.revision || this.silent || this.keepSilentFor.has(part.revision)) return;
    this.entries = new Map();
    for (const entry of entries) this.put(entry);
    this.config = part.config;
    const cut = [...before.keys()].filter((key) => !this.entries.has(key));
    await this.finish(part.revision, part.digest, cut);
  }

  private async takeDelta(delta: Delta): Promise<void> {
    const removals = delta.removals.map((id) => id.toString('hex'));
    const upserts = delta.upserts.map(keyOf);
    const { base, revision } = delta;
    this.arrivals.push({ kind: 'delta', revision, base, upserts, removals, at: performance.now() });
    if (this.silent || this.keepSilentFor.has(revision) || revision <= this.revision) return;
    if (base !== this.revision)
      throw new Error(`a delta over ${base} came to a node that has ${this.revision}`);
    if (delta.config.length > 0) this.config = delta.config;
    for (const key of removals) this.entries.delete(key);
    delta.upserts.forEach((entry) => this.put(entry));
    await this.finish(revision, delta.digest, removals);
  }

  private put(entry: AccessEntry): void {
    const access = Buffer.from(entry.access);
    this.entries.set(keyOf(entry), { access, digest: accessDigest(entry.subscriptionId, access) });
  }

  private async finish(revision: bigint, asked: Buffer, cut: string[]): Promise<void> {
    this.revision = revision;
    this.digest = stateDigest(
      this.config,
      new Map([...this.entries].map(([key, entry]) => [key, entry.digest])),
    );
    if (!this.digest.equals(asked))
      throw new Error('the digest that was asked for is not that of the entries');
    await this.acknowledge(cut);
  }

  async acknowledge(cut: string[], patch: Partial<Acknowledgement> = {}): Promise<void> {
    const results = cut.map((key): ChangeResult => ({
      ...{ subscriptionId: Buffer.from(key, 'hex'), kind: ChangeKind.CHANGE_KIND_CUT, ended: this.proves },
      ...{
        sessionsEnded: 2,
        cutUs: 1_200,
        provenUs: 230_000,
        reason: this.proves ? '' : 'a socket is open',
        engine: 'xray',
      },
    }));
    const digest = this.spoilDigest ? Buffer.alloc(32, 1) : this.digest;
    const now = BigInt(Date.now());
    const value = {
      revision: this.revision,
      digest,
      receivedAtMs: now,
      appliedAtMs: now,
      results,
      errorCode: '',
      errorMessage: '',
    };
    await this.send({ $case: 'acknowledgement', value: { ...value, ...patch } });
  }
}

function keyOf(entry: AccessEntry): string {
  return entry.subscriptionId.toString('hex');
}
