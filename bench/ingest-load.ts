// The load of the ingest benchmark: a process of its own that is twenty nodes. Each seals, signs and sends frames over
// its own mTLS stream with the window that the collector grants, and takes nothing for stored before its acknowledgement.
// Told what to do by its parent (ingest.ts) over the IPC channel.
import { createHash, createPrivateKey, type KeyObject } from 'node:crypto';
import { idBytes } from '@penstock/domain/ids';
import { frameDigest, signDigest, sliceDigest } from '@penstock/ledger/digest';
import {
  encodeFrame,
  encodeHeader,
  encodePayload,
  ZERO_DIGEST,
  type OpenedMeter,
  type SampleRow,
  type SliceView,
} from '@penstock/ledger/frame';
import { connect, openBidi, type ClientBidi } from '@penstock/rpc/client';
import {
  UsageServiceClient,
  type IngestRequest,
  type IngestResponse,
} from '@penstock/rpc/gen/penstock/usage/v1/usage';
import type { TlsMaterial } from '@penstock/rpc/trust';

export interface LoadNode {
  nodeId: string;
  serial: string;
  tls: Required<TlsMaterial>;
  /** By tenant, in tenant order. */
  tenants: { tenantId: string; subscriptions: string[] }[];
}

export interface LoadOrder {
  address: string;
  trustDomain: string;
  nodes: LoadNode[];
  rowsPerFrame: number;
}

export type ToLoad = { open: LoadOrder } | { frames: number };
export type FromLoad =
  { opened: true } | { sent: { samples: number; bytes: string; cpuMs: number } } | { fault: string };

interface Meter {
  row: SampleRow;
  boot: Buffer;
  opened: boolean;
}

const NO_DEVICE = Buffer.alloc(16);
const WINDOW_MS = 1_000;
const log = { warn: () => undefined };

class Node {
  private readonly id: Buffer;
  private readonly key: KeyObject;
  private readonly serial: Buffer;
  private readonly meters: { tenant: Buffer; meters: Meter[]; at: number; end: Buffer }[];
  private epoch = 0;
  private seq = 0n;
  private link: Buffer = ZERO_DIGEST;
  private windowStartMs = Date.now() - 20 * 3_600_000;
  private window = 1;
  private acknowledged = 0n;
  private wake: () => void = () => undefined;
  private fault: Error | null = null;
  private call: ClientBidi<IngestRequest, IngestResponse> | null = null;
  bytes = 0n;

  constructor(
    private readonly order: LoadOrder,
    private readonly node: LoadNode,
  ) {
    this.id = Buffer.from(idBytes(node.nodeId));
    this.key = createPrivateKey(node.tls.key);
    this.serial = Buffer.from(node.serial, 'hex');
    this.meters = node.tenants.map(({ tenantId, subscriptions }) => ({
      tenant: Buffer.from(idBytes(tenantId)),
      at: 0,
      end: ZERO_DIGEST,
      meters: subscriptions.map((subscription) => ({
        boot: Buffer.alloc(16, 7),
        opened: false,
        row: {
          subscription: Buffer.from(idBytes(subscription)),
          engine: 1,
          meter:
            createHash('sha256').update(node.nodeId).update(subscription).digest().readBigUInt64BE() >> 1n,
          deltaUp: 0n,
          deltaDown: 0n,
          cumulativeUp: 0n,
          cumulativeDown: 0n,
        },
      })),
    }));
  }

  async open(): Promise<void> {
    const { address, trustDomain } = this.order;
    const client = connect(UsageServiceClient, address, {
      tls: this.node.tls,
      trustDomain,
      servers: ['collector'],
      log,
    });
    const call = openBidi<IngestRequest, IngestResponse>((metadata, options) =>
      client.ingest(metadata, options),
    );
    this.call = call;
    const opened = new Promise<void>((resolve) => {
      this.wake = resolve;
    });
    this.read(call).catch((error: unknown) => {
      this.fault = error as Error;
      this.wake();
    });
    const open = {
      nodeId: this.node.nodeId,
      agentVersion: 'bench',
      epoch: 0,
      seq: 0n,
      digest: Buffer.alloc(0),
      clockMs: BigInt(Date.now()),
      oldestSeq: 1n,
    };
    await call.write({ message: { $case: 'open', value: open } });
    await opened;
    if (this.fault !== null) throw this.fault;
  }

  /** Sends `count` frames and resolves when the last is acknowledged; returns the samples in them. */
  async send(count: number): Promise<number> {
    let samples = 0;
    const last = this.seq + BigInt(count);
    while (this.acknowledged < last) {
      if (this.fault !== null) throw this.fault;
      if (this.seq < last && this.seq - this.acknowledged < BigInt(this.window)) {
        samples += await this.sealAndSend();
      } else {
        await new Promise<void>((resolve) => {
          this.wake = resolve;
        });
      }
    }
    return samples;
  }

  private async sealAndSend(): Promise<number> {
    const perTenant = Math.floor(this.order.rowsPerFrame / this.meters.length);
    const slices: SliceView[] = this.meters.map((tenant) => this.slice(tenant, perTenant));
    const headerBytes = encodeHeader(
      {
        kind: 'data',
        nodeId: this.id,
        epoch: this.epoch,
        seq: this.seq + 1n,
        windowStartMs: this.windowStartMs,
        windowMs: WINDOW_MS,
        prevDigest: this.link,
        certificateSerial: this.serial,
        marks: [],
        lostDigest: null,
      },
      slices.length,
    );
    const digests = slices.map((slice) => sliceDigest(headerBytes, slice));
    this.meters.forEach((tenant, i) => (tenant.end = digests[i] as Buffer));
    this.link = frameDigest(this.link, headerBytes, digests);
    const signature = signDigest(this.link, this.key);
    this.windowStartMs += WINDOW_MS;
    this.seq++;
    const data = encodeFrame(headerBytes, slices);
    const part = { epoch: this.epoch, seq: this.seq, part: 0, parts: 1, data, signature, traceparent: '' };
    await this.call?.write({ message: { $case: 'part', value: part } });
    return perTenant * this.meters.length;
  }

  /** The next customers of a tenant, in turn. */
  private slice(tenant: Node['meters'][number], count: number): SliceView {
    const opened: OpenedMeter[] = [];
    const rows: SampleRow[] = [];
    for (let i = 0; i < count; i++) {
      const meter = tenant.meters[tenant.at] as Meter;
      tenant.at = (tenant.at + 1) % tenant.meters.length;
      const { row } = meter;
      if (!meter.opened)
        opened.push({
          meter: row.meter,
          engine: 1,
          boot: meter.boot,
          subscription: row.subscription,
          device: NO_DEVICE,
        });
      meter.opened = true;
      row.deltaUp = BigInt(1 + ((i * 7919) & 0xfff));
      row.deltaDown = BigInt(1 + ((i * 104_729) & 0xffff));
      row.cumulativeUp += row.deltaUp;
      row.cumulativeDown += row.deltaDown;
      this.bytes += row.deltaUp + row.deltaDown;
      rows.push(row);
    }
    return {
      tenantId: tenant.tenant,
      opened: opened.length,
      rows: rows.length,
      prevDigest: tenant.end,
      payload: encodePayload(opened, rows),
    };
  }

  private async read(call: ClientBidi<IngestRequest, IngestResponse>): Promise<void> {
    for await (const { message } of call) {
      if (message?.$case === 'opened') {
        this.epoch = message.value.epoch;
        this.window = message.value.window;
        this.link = message.value.headDigest;
      } else if (message?.$case === 'accepted') {
        if (message.value.seq > this.acknowledged) this.acknowledged = message.value.seq;
      } else {
        throw new Error(`the collector said ${message?.$case}`);
      }
      this.wake();
    }
  }
}

const nodes: Node[] = [];

async function obey(message: ToLoad): Promise<FromLoad> {
  if ('open' in message) {
    for (const node of message.open.nodes) nodes.push(new Node(message.open, node));
    for (const node of nodes) await node.open();
    return { opened: true };
  }
  const before = process.cpuUsage();
  const samples = await Promise.all(nodes.map((node) => node.send(message.frames)));
  const { user, system } = process.cpuUsage(before);
  return {
    sent: {
      samples: samples.reduce((sum, n) => sum + n, 0),
      bytes: nodes.reduce((sum, n) => sum + n.bytes, 0n).toString(),
      cpuMs: (user + system) / 1000,
    },
  };
}

process.on('message', (message: ToLoad) => {
  obey(message).then(
    (answer) => process.send?.(answer),
    (error: unknown) => process.send?.({ fault: String(error) } satisfies FromLoad),
  );
});
