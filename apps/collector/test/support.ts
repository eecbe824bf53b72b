// A collector behind its real door (mTLS gRPC, real PostgreSQL) and a node that talks to it as the protocol says.
import { listen } from '@penstock/db/listen';
import { createPool, type Pool } from '@penstock/db/pool';
import { run } from '@penstock/db/statement';
import { systemClock } from '@penstock/domain/clock';
import type { NodeId } from '@penstock/domain/ids';
import { connect, openBidi, openServerStream, type ClientBidi } from '@penstock/rpc/client';
import {
  UsageServiceClient,
  UsageServiceService,
  type IngestRequest,
  type IngestResponse,
  type Opened,
} from '@penstock/rpc/gen/penstock/usage/v1/usage';
import { requireGoodStanding } from '@penstock/rpc/revocation';
import { createServer, type RpcServer } from '@penstock/rpc/server';
import { createLogger } from '@penstock/service/logger';
import { createMetrics, type Metrics } from '@penstock/service/metrics';
import { TestJournal, type SealedFrame } from '@penstock/testkit/journal';
import type { TestDatabase } from '@penstock/testkit/postgres';
import type { TestIdentity, TestTrust } from '@penstock/testkit/trust';
import type { SeededUsageNode, UsageSeed } from '@penstock/testkit/usage-seed';
import { Collector, PERIOD_CHANNEL, type CollectorOptions } from '../src/collector.js';
import { keyedSessions } from '../src/config.js';
import { collectorMetrics } from '../src/metrics.js';
import { findStanding } from '../src/open.store.js';
import { usageAllow, usageService } from '../src/usage.rpc.js';

const log = createLogger('collector-test', process.env['TEST_LOG'] ?? 'fatal');

export interface RunningCollector {
  collector: Collector;
  pool: Pool;
  server: RpcServer;
  metrics: Metrics;
  address: string;
  /** As a process that is killed: nothing is drained or flushed. */
  kill(): Promise<void>;
  stop(): Promise<void>;
}

let made = 0;

export async function startCollector(
  db: Pick<TestDatabase, 'url'>,
  trust: TestTrust,
  options: Partial<CollectorOptions> & { timers?: boolean } = {},
): Promise<RunningCollector> {
  const metrics = createMetrics();
  const pool = createPool(keyedSessions(db.url('penstock_collector')), {
    applicationName: 'collector-test',
    max: 8,
  });
  const collector = new Collector({
    pool,
    clock: systemClock,
    log,
    metrics: collectorMetrics(metrics),
    holder: `test/${++made}`,
    ...options,
  });
  const service = await trust.service('collector');
  const server = createServer({
    tls: service.tls,
    trustDomain: trust.trustDomain,
    allow: usageAllow,
    services: [[UsageServiceService, usageService(collector, systemClock, log)]],
    log,
    metrics,
    clientCertificates: 'required',
    admit: async (peer) => requireGoodStanding(peer, (await run(pool, findStanding, [peer.serial]))[0]),
  });
  const port = await server.listen('127.0.0.1', 0);
  const onNotify = (_channel: string, payload: string): void => collector.periodsChanged(payload);
  const listener = listen(db.url('penstock_collector'), [PERIOD_CHANNEL], onNotify, log);
  if (options.timers !== false) collector.start();
  let over = false;
  return {
    collector,
    pool,
    server,
    metrics,
    address: `127.0.0.1:${port}`,
    async kill() {
      if (over) return;
      over = true;
      collector.abandon();
      await listener.close();
      await server.close(0);
      await pool.end();
    },
    async stop() {
      if (over) return;
      over = true;
      await collector.stop();
      await listener.close();
      await server.close(0);
      await pool.end();
    },
  };
}

/** A node's side of one stream. */
export class TestNode {
  readonly journal: TestJournal;
  readonly responses: IngestResponse[] = [];
  opened: Opened | null = null;
  error: unknown = null;
  over = false;
  private client: UsageServiceClient | null = null;
  private call: ClientBidi<IngestRequest, IngestResponse> | null = null;
  private waiting: (() => void)[] = [];

  constructor(
    readonly nodeId: NodeId,
    private readonly identity: TestIdentity,
    private readonly trust: TestTrust,
    startMs = Date.now() - 600_000,
  ) {
    this.journal = new TestJournal(nodeId, identity.serial, identity.keys.privateKey, startMs);
  }

  /** Connects and sends Open; resolves when Opened came. Rejects with what the collector said otherwise. */
  async open(
    address: string,
    claim: Partial<{ nodeId: string; epoch: number; seq: bigint; digest: Buffer; oldestSeq: bigint }> = {},
  ): Promise<Opened> {
    await this.close();
    this.client = connect(UsageServiceClient, address, {
      tls: this.identity.tls,
      trustDomain: this.trust.trustDomain,
      servers: ['collector'],
      log,
    });
    const client = this.client;
    const call = openBidi<IngestRequest, IngestResponse>((metadata, options) =>
      client.ingest(metadata, options),
    );
    this.call = call;
    this.opened = null;
    this.error = null;
    this.over = false;
    this.responses.length = 0;
    void this.read(call);
    await call.write({
      message: {
        $case: 'open',
        value: {
          nodeId: this.nodeId,
          agentVersion: 'test',
          epoch: this.journal.seq === 0n && this.journal.epoch === 1 ? 0 : this.journal.epoch,
          seq: this.journal.seq,
          digest: this.journal.link,
          clockMs: BigInt(Date.now()),
          oldestSeq: 1n,
          ...claim,
        },
      },
    });
    await this.until(() => this.opened !== null || this.over);
    const opened = this.opened as Opened | null;
    if (opened === null) throw this.error ?? new Error('the stream ended without a word');
    if (opened.epoch !== this.journal.epoch) this.journal.beginEpoch(opened.epoch, opened.headDigest);
    return opened;
  }

  async send(
    frame: SealedFrame,
    change: Partial<{ data: Buffer; part: number; parts: number; signature: Buffer }> = {},
  ): Promise<void> {
    await this.call?.write({
      message: {
        $case: 'part',
        value: {
          epoch: frame.epoch,
          seq: frame.seq,
          part: 0,
          parts: 1,
          data: frame.bytes,
          signature: frame.signature,
          traceparent: '',
          ...change,
        },
      },
    });
  }

  /** Waits for a condition over what has arrived. */
  async until(condition: () => boolean, ms = 10_000): Promise<void> {
    const deadline = performance.now() + ms;
    while (!condition()) {
      const left = deadline - performance.now();
      if (left <= 0)
        throw new Error(
          `waited in vain; last: ${JSON.stringify(this.responses.at(-1), (_, v: unknown) => (typeof v === 'bigint' ? v.toString() : v))} ${String(this.error)}`,
        );
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.waiting.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  /** Highest acknowledged seq. */
  acknowledged(): bigint {
    let seq = 0n;
    for (const { message } of this.responses)
      if (message?.$case === 'accepted' && message.value.seq > seq) seq = message.value.seq;
    return seq;
  }

  async acknowledge(seq: bigint): Promise<void> {
    await this.until(() => this.acknowledged() >= seq || this.over);
    if (this.acknowledged() < seq)
      throw this.error ?? new Error('the stream ended before the acknowledgement');
  }

  refusal(): { seq: bigint; code: string } | null {
    for (const { message } of this.responses) if (message?.$case === 'refused') return message.value;
    return null;
  }

  async baselines(): Promise<Map<bigint, { up: bigint; down: bigint }>> {
    const client = this.client as UsageServiceClient;
    const out = new Map<bigint, { up: bigint; down: bigint }>();
    for await (const page of openServerStream((metadata, options) =>
      client.baselines({ nodeId: this.nodeId }, metadata, options),
    )) {
      for (const meter of page.meters)
        out.set(meter.meter, { up: meter.cumulativeUp, down: meter.cumulativeDown });
    }
    return out;
  }

  async close(): Promise<void> {
    this.call?.cancel();
    this.call = null;
    this.client?.close();
    this.client = null;
    await Promise.resolve();
  }

  private async read(call: ClientBidi<IngestRequest, IngestResponse>): Promise<void> {
    try {
      for await (const response of call) {
        if (call !== this.call) return;
        if (response.message?.$case === 'opened') this.opened = response.message.value;
        else this.responses.push(response);
        this.wake();
      }
    } catch (error) {
      if (call === this.call) this.error = error;
    }
    if (call === this.call) this.over = true;
    this.wake();
  }

  private wake(): void {
    const woken = this.waiting;
    this.waiting = [];
    for (const resolve of woken) resolve();
  }
}

export function testNode(seed: UsageSeed, index: number, trust: TestTrust): TestNode {
  const node = seed.nodes[index] as SeededUsageNode;
  return new TestNode(node.nodeId, node.identity, trust);
}

/** An agent: seals, sends, keeps what is not acknowledged, connects again. Stops when told and everything is through. */
export class Agent {
  readonly kept: SealedFrame[] = [];
  private stopping = false;
  reconnects = 0;

  constructor(
    readonly node: TestNode,
    private readonly addresses: () => string[],
    private readonly seal: () => SealedFrame,
    private readonly frames: number,
  ) {}

  async run(): Promise<void> {
    let made = 0;
    for (let turn = 0; !this.stopping; turn++) {
      const options = this.addresses();
      try {
        const address = options[turn % options.length] as string;
        this.reconnects++;
        const oldest = this.kept[0]?.seq ?? this.node.journal.seq + 1n;
        const opened = await this.node.open(address, { oldestSeq: oldest });
        let next = opened.nextSeq;
        while (this.kept[0] !== undefined && this.kept[0].seq < next) this.kept.shift();
        const last = performance.now();
        for (;;) {
          while (this.kept[0] !== undefined && this.kept[0].seq <= this.node.acknowledged())
            this.kept.shift();
          if (made === this.frames && this.kept.length === 0) return;
          if (made < this.frames && this.kept.length < 8) {
            this.kept.push(this.seal());
            made++;
          }
          const frame = this.kept.find((f) => f.seq === next);
          if (frame !== undefined) {
            await this.node.send(frame);
            next++;
          } else {
            const before = this.node.responses.length;
            await this.node.until(() => this.node.over || this.node.responses.length > before);
          }
          if (this.node.over) break;
          if (performance.now() - last > 60_000) throw new Error('nothing happens');
        }
      } catch (error) {
        if ((error as { code?: string }).code === 'stream_frozen') throw error;
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }
  }

  stop(): void {
    this.stopping = true;
  }
}

/** Waits until an async condition holds. */
export async function eventually(
  condition: () => Promise<boolean>,
  what: string,
  ms = 15_000,
): Promise<void> {
  const deadline = performance.now() + ms;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
