// A node's side of the Usage stream by hand, with the certificate of a real, enrolled node: what a duplicating network, a
// broken agent or a thief of the node's key would send. It says exactly what it is told to.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect, openBidi, type ClientBidi } from '@penstock/rpc/client';
import {
  UsageServiceClient,
  type FramePart,
  type IngestRequest,
  type IngestResponse,
  type Open,
} from '@penstock/rpc/gen/penstock/usage/v1/usage';
import { createLogger } from '@penstock/service/logger';
import { digestsOfFrame, frameLink } from '@penstock/ledger/chain';
import { decodeFrame, type FrameView } from '@penstock/ledger/frame';
import { IdentityStore, type NodeIdentity } from '../../apps/node-agent/src/enrollment/identity-store.js';
import { scanSegment } from '../../apps/node-agent/src/accounting/record.js';
import { decodeFrameBody } from '../../apps/node-agent/src/accounting/record-body.js';
import { until } from './until.js';
import type { NodeOfWorld, World } from './world.js';

export const TRUST_DOMAIN = 'penstock.internal';
const SEGMENT = /^segment-([0-9a-f]{16})\.wal$/;
export const log = createLogger('e2e', 'fatal');

export interface RecordedFrame {
  epoch: number;
  seq: bigint;
  bytes: Buffer;
  signature: Buffer;
  view: FrameView;
  /** What the next frame names as its predecessor. */
  link: Buffer;
}

/** The identity that the node's agent uses now. */
export function identityOf(agentDir: string): NodeIdentity {
  const identity = new IdentityStore(agentDir, TRUST_DOMAIN).current;
  if (identity === null) throw new Error(`${agentDir} is not enrolled`);
  return identity;
}

/** Frames in a journal's files, oldest first. */
export function recordedFrames(agentDir: string): RecordedFrame[] {
  const journal = join(agentDir, 'journal');
  const frames = new Map<bigint, RecordedFrame>();
  for (const name of readdirSync(journal)) {
    const hex = SEGMENT.exec(name)?.[1];
    if (hex === undefined) continue;
    for (const { type, body } of scanSegment(BigInt(`0x${hex}`), readFileSync(join(journal, name))).records) {
      if (type !== 'frame') continue;
      const { frameBytes, signature } = decodeFrameBody(body);
      const view = decodeFrame(frameBytes);
      const { epoch, seq } = view.header;
      const link = Buffer.from(frameLink(view, digestsOfFrame(view).digest));
      frames.set(seq, { epoch, seq, bytes: frameBytes, signature, view, link });
    }
  }
  return [...frames.values()].sort((a, b) => (a.seq < b.seq ? -1 : 1));
}

export class RawNode {
  readonly responses: NonNullable<IngestResponse['message']>[] = [];
  /** How the call ended; undefined while it lives, null for OK. */
  ended: { code: string; message: string } | null | undefined;
  private readonly client: UsageServiceClient;
  private readonly call: ClientBidi<IngestRequest, IngestResponse>;

  /** `identity`: whose certificate is shown. `collector`: past any balancer to that one. */
  constructor(world: World, identity: Pick<NodeIdentity, 'tls'>, collector?: string) {
    const edge = world.stack.edges.usageEdge.replace('https://', '');
    const address = collector === undefined ? edge : `localhost:${world.stack.ports[collector] ?? 0}`;
    this.client = connect(UsageServiceClient, address, {
      tls: identity.tls,
      trustDomain: TRUST_DOMAIN,
      servers: ['collector', 'caddy'],
      log,
    });
    this.call = openBidi<IngestRequest, IngestResponse>((metadata, options) =>
      this.client.ingest(metadata, options),
    );
    void this.read();
    world.atEnd(() => this.close());
  }

  async open(claim: Pick<Open, 'nodeId'> & Partial<Open>): Promise<void> {
    const honest = { agentVersion: 'raw', epoch: 0, seq: 0n, digest: Buffer.alloc(32), oldestSeq: 1n };
    const value = { ...honest, clockMs: BigInt(Date.now()), ...claim };
    await this.call.write({ message: { $case: 'open', value } }).catch(() => undefined);
  }

  async send(
    frame: Pick<RecordedFrame, 'epoch' | 'seq' | 'bytes' | 'signature'>,
    change: Partial<FramePart> = {},
  ): Promise<void> {
    const { epoch, seq, bytes, signature } = frame;
    const value = { epoch, seq, part: 0, parts: 1, data: bytes, signature, traceparent: '', ...change };
    await this.call.write({ message: { $case: 'part', value } }).catch(() => undefined);
  }

  /** The first answer of that kind; fails when the call ended without one. */
  async answer<K extends string>(kind: K): Promise<Record<string, unknown>> {
    const found = (): NonNullable<IngestResponse['message']> | undefined =>
      this.responses.find(({ $case }) => $case === kind);
    await until(() => found() !== undefined || this.ended !== undefined, `answer ${kind}`);
    const answer = found();
    if (answer === undefined) throw new Error(`the call ended: ${JSON.stringify(this.ended)}`);
    return answer.value as unknown as Record<string, unknown>;
  }

  /** Code that ended the call. */
  async refusedWith(): Promise<string> {
    await until(() => this.ended !== undefined, 'the end of the call');
    return this.ended?.code ?? 'ok';
  }

  close(): void {
    this.call.cancel();
    this.client.close();
  }

  private async read(): Promise<void> {
    try {
      for await (const { message } of this.call) if (message !== undefined) this.responses.push(message);
      this.ended ??= null;
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      this.ended = { code: code ?? 'unknown', message };
    }
  }
}

/** The stream's end as the ledger has it, and what an honest Open says of a journal that stands there. */
export async function headOf(
  world: World,
  node: NodeOfWorld,
): Promise<{ epoch: number; seq: bigint; digest: Buffer }> {
  const { rows } = await world.sql.query<{ epoch: number; seq: bigint; digest: Buffer }>(
    'SELECT epoch, seq, digest FROM stream_head WHERE node_id = $1',
    [node.nodeId],
  );
  const [head] = rows;
  if (head === undefined) throw new Error('the node has no stream yet');
  return head;
}
