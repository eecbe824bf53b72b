// A collector over real gRPC and mutual TLS that keeps the collector's promises (model-ledger.ts) and breaks the line
// at will: swallowed and doubled answers, frames that never arrive, Busy, streams that end in the middle.
import { AppError } from '@penstock/domain/errors';
import { newId, type NodeId } from '@penstock/domain/ids';
import { connect } from '@penstock/rpc/client';
import {
  UsageServiceClient,
  UsageServiceService,
  type FramePart,
  type IngestRequest,
  type IngestResponse,
} from '@penstock/rpc/gen/penstock/usage/v1/usage';
import { bidi, serverStream, type BidiStream } from '@penstock/rpc/handlers';
import { createServer } from '@penstock/rpc/server';
import { createLogger } from '@penstock/service/logger';
import { createMetrics } from '@penstock/service/metrics';
import { createTestTrust } from '@penstock/testkit/trust';
import type { ModelLedger } from './model-ledger.js';

export interface Faults {
  /** Called for each frame; what happens to it and its answer. */
  next():
    'none' | 'lose frame' | 'lose answer' | 'double answer' | 'busy' | 'end' | 'end after accept' | 'refuse';
}

export const noFaults: Faults = { next: () => 'none' };

const log = createLogger('test', 'silent');

export interface CollectorServer {
  client: UsageServiceClient;
  faults: Faults;
  /** Streams opened and parts received so far. */
  streams: number;
  parts: number;
  close(): Promise<void>;
}

export async function startCollector(ledger: ModelLedger, nodeId: NodeId): Promise<CollectorServer> {
  const trust = await createTestTrust();
  const paths = UsageServiceService;
  const state: CollectorServer = {
    client: undefined as unknown as UsageServiceClient,
    faults: noFaults,
    streams: 0,
    parts: 0,
    close: () => Promise.resolve(),
  };
  const server = createServer({
    tls: (await trust.service('collector')).tls,
    trustDomain: trust.trustDomain,
    allow: { [paths.ingest.path]: ['node'], [paths.baselines.path]: ['node'] },
    services: [
      [
        UsageServiceService,
        {
          ingest: bidi<IngestRequest, IngestResponse>((stream) => serve(stream, ledger, state)),
          baselines: serverStream(async (_request, stream) => {
            const meters = [...ledger.verifier.meters].map(([meter, known]) => ({
              meter,
              engine: known.engine,
              boot: known.boot ?? Buffer.alloc(16),
              tenantId: Buffer.from(known.tenant.replaceAll('-', ''), 'hex'),
              subscriptionId: known.subscription,
              deviceId: known.device ?? Buffer.alloc(16),
              cumulativeUp: known.up,
              cumulativeDown: known.down,
            }));
            for (let at = 0; at < meters.length; at += 500)
              await stream.write({ meters: meters.slice(at, at + 500) });
          }),
        },
      ],
    ],
    log,
    metrics: createMetrics(),
    clientCertificates: 'required',
  });
  const address = `127.0.0.1:${String(await server.listen('127.0.0.1', 0))}`;
  state.client = connect(UsageServiceClient, address, {
    tls: (await trust.node(nodeId)).tls,
    trustDomain: trust.trustDomain,
    servers: ['collector'],
    log,
  });
  state.close = async () => {
    state.client.close();
    await server.close(100);
  };
  return state;
}

async function serve(
  stream: BidiStream<IngestRequest, IngestResponse>,
  ledger: ModelLedger,
  state: CollectorServer,
): Promise<void> {
  state.streams++;
  let waiting: FramePart[] = [];
  for await (const { message } of stream) {
    if (message?.$case === 'open') {
      const { epoch, seq, digest, oldestSeq } = message.value;
      const grant = ledger.open({ epoch, seq, link: digest, oldestSeq });
      const sliceHeads = [...grant.sliceHeads].map(([tenant, head]) => ({
        tenantId: Buffer.from(tenant, 'hex'),
        digest: head,
      }));
      const value = {
        epoch: grant.epoch,
        nextSeq: grant.nextSeq,
        headDigest: grant.link,
        serverTimeMs: BigInt(Date.now()),
        window: 4,
        baselinesNeeded: grant.isNew,
        sliceHeads,
      };
      await stream.write({ message: { $case: 'opened', value } });
      continue;
    }
    if (message?.$case !== 'part') throw new AppError('invalid_input', 'neither open nor part');
    const part = message.value;
    state.parts++;
    if (part.part !== waiting.length) throw new AppError('invalid_input', 'parts out of order');
    waiting.push(part);
    if (waiting.length < part.parts) continue;
    const frameBytes = Buffer.concat(waiting.map((one) => one.data));
    waiting = [];
    if (!(await take(stream, ledger, state, part, frameBytes))) return;
  }
}

async function take(
  stream: BidiStream<IngestRequest, IngestResponse>,
  ledger: ModelLedger,
  state: CollectorServer,
  part: FramePart,
  frameBytes: Buffer,
): Promise<boolean> {
  const { seq, signature } = part;
  const fault = state.faults.next();
  if (fault === 'lose frame') return true;
  if (fault === 'end') throw new AppError('unavailable', 'the line is cut');
  if (fault === 'busy') {
    await stream.write({ message: { $case: 'busy', value: { seq, retryAfterMs: 20 } } });
    return true;
  }
  if (fault === 'refuse') {
    await stream.write({
      message: { $case: 'refused', value: { seq, code: 'signature_invalid', message: 'no' } },
    });
    return false;
  }
  const verdict = ledger.receive({ frameBytes, signature });
  if (fault === 'end after accept') throw new AppError('unavailable', 'the line is cut');
  if (fault === 'lose answer') return true;
  const answer: IngestResponse =
    verdict.kind === 'expected'
      ? { message: { $case: 'expected', value: { seq: verdict.seq } } }
      : { message: { $case: 'accepted', value: { epoch: part.epoch, seq, duplicate: verdict.duplicate } } };
  await stream.write(answer);
  if (fault === 'double answer') await stream.write(answer);
  return true;
}

export const newNodeId = (): NodeId => newId<NodeId>();
