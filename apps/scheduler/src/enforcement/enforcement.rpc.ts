// Enforcement.Sync, one bidirectional stream a node: who it is, its lease, then messages both ways until one side ends.
// The node of the stream is the certificate's; what the messages claim is only compared with it.
import { X509Certificate } from 'node:crypto';
import type { Pool } from '@penstock/db/pool';
import type { Clock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import { publicKeyHash } from '@penstock/rpc/certificates';
import {
  EnforcementServiceService,
  type EnforcementServiceServer,
  type Hello,
  type SyncRequest,
  type SyncResponse,
} from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import type { AllowTable } from '@penstock/rpc/guard';
import { bidi, type BidiStream, type CallContext } from '@penstock/rpc/handlers';
import { requireNode, type NodePeer } from '@penstock/rpc/identity';
import { requireGoodStanding } from '@penstock/rpc/revocation';
import type { Logger } from '@penstock/service/logger';
import type { StatusWriter } from '../heartbeat/status-writer.js';
import type { RefusalReason, SchedulerMetrics } from '../metrics.js';
import type { Admission } from './admission.js';
import type { DesiredReader } from './desired-reader.js';
import { notifyNode, takeLease, type LeaseTaken } from './enforcement.store.js';
import { checkAcknowledgement, checkHello, line, reportOf } from './incoming.js';
import { NodeStream, type StreamRules } from './node-stream.js';
import type { NodeStreams } from './streams.js';

export interface EnforcementDeps {
  pool: Pool;
  clock: Clock;
  log: Logger;
  metrics: SchedulerMetrics;
  reader: DesiredReader;
  streams: NodeStreams;
  statuses: StatusWriter;
  admission: Admission;
  rules: StreamRules;
  random: () => number;
  heartbeatMs: number;
  /** Names this process in leases. */
  holder: string;
}

export const enforcementAllow: AllowTable = { [EnforcementServiceService.sync.path]: ['node'] };

/** The Hello must come within this after the stream opened. */
const HELLO_TIMEOUT_MS = 10_000;

type SyncStream = BidiStream<SyncRequest, SyncResponse>;

export function enforcementService(deps: EnforcementDeps): EnforcementServiceServer {
  return {
    sync: bidi<SyncRequest, SyncResponse>(async (stream, context) => {
      try {
        await serve(deps, stream, context);
      } catch (error) {
        if (error instanceof AppError && !stream.signal.aborted) countRefusal(deps.metrics, error);
        throw error;
      }
    }),
  };
}

async function serve(deps: EnforcementDeps, stream: SyncStream, context: CallContext): Promise<void> {
  const messages = stream[Symbol.asyncIterator]();
  const hello = await firstHello(messages);
  if (hello === null) return;
  const peer = requireNode(context.peer, hello.nodeId);
  checkHello(hello);
  const ended = Promise.withResolvers<never>();
  // Whoever ends the stream first is heard below; without this a late end would be an unhandled rejection.
  ended.promise.catch(() => undefined);
  const node = await deps.admission.run(async () => {
    const lease = await leaseOf(deps, peer, hello);
    const link = {
      nodeId: peer.nodeId,
      fence: lease.fence,
      write: (message: SyncResponse) => stream.write(message),
      isOver: () => stream.signal.aborted,
      end: (error: AppError) => ended.reject(error),
    };
    const made = new NodeStream(deps, link, hello);
    deps.streams.add(made);
    const value = {
      fence: lease.fence,
      serverTimeMs: BigInt(lease.at.getTime()),
      heartbeatIntervalMs: deps.heartbeatMs,
    };
    try {
      await stream.write({ message: { $case: 'welcome', value } });
      await made.open();
    } catch (error) {
      deps.streams.remove(made);
      made.close('ended', new AppError('unavailable', 'the stream ended'));
      throw error;
    }
    return made;
  });
  const { nodeId, fence } = node;
  deps.log.info(
    { nodeId, fence, version: line(hello.agentVersion, 60), revision: hello.appliedRevision },
    'node stream opened',
  );
  try {
    await Promise.race([receive(deps, node, hello, messages), ended.promise]);
  } finally {
    deps.streams.remove(node);
    node.close('ended', new AppError('unavailable', 'the stream ended'));
    deps.log.info({ nodeId, fence }, 'node stream closed');
  }
}

async function firstHello(messages: AsyncIterator<SyncRequest>): Promise<Hello | null> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => late.reject(new AppError('invalid_input', 'no Hello came in time')),
    HELLO_TIMEOUT_MS,
  );
  try {
    const first = await Promise.race([messages.next(), late.promise]);
    if (first.done === true) return null;
    const { message } = first.value;
    if (message?.$case !== 'hello')
      throw new AppError('invalid_input', 'the first message must be Hello', { field: 'hello' });
    return message.value;
  } finally {
    clearTimeout(timer);
  }
}

/** The node's lease with a raised fence; throws when node or certificate are not in good standing. */
async function leaseOf(
  deps: EnforcementDeps,
  peer: NodePeer,
  hello: Hello,
): Promise<LeaseTaken & { fence: bigint }> {
  const hash = publicKeyHash(new X509Certificate(peer.certificate).publicKey);
  const node = { nodeId: peer.nodeId, serial: peer.serial, publicKeyHash: hash };
  const lease = await takeLease(deps.pool, node, hello.fence, deps.holder);
  const { fence } = lease;
  if (fence === null) {
    requireGoodStanding(peer, lease.certificate);
    throw new AppError('certificate_revoked', 'the node is revoked');
  }
  if (lease.previousHolder !== null && lease.previousHolder !== deps.holder)
    await notifyNode(deps.pool, peer.nodeId);
  return { ...lease, fence };
}

async function receive(
  deps: EnforcementDeps,
  node: NodeStream,
  hello: Hello,
  messages: AsyncIterator<SyncRequest>,
): Promise<void> {
  for (;;) {
    const next = await messages.next();
    if (next.done === true) return;
    node.lastHeardMs = deps.clock.monotonic();
    const { message } = next.value;
    switch (message?.$case) {
      case 'acknowledgement':
        checkAcknowledgement(message.value);
        node.acknowledge(message.value);
        break;
      case 'heartbeat':
        deps.statuses.put(
          node.nodeId,
          line(hello.agentVersion, 60),
          reportOf(message.value, deps.clock.now()),
        );
        break;
      case 'hello':
        throw new AppError('invalid_input', 'Hello comes once', { field: 'hello' });
      case undefined:
        // A message of a newer agent; nothing that we know.
        break;
    }
  }
}

function countRefusal(metrics: SchedulerMetrics, error: AppError): void {
  const reasons: Partial<Record<AppError['code'], RefusalReason>> = {
    unavailable: 'busy',
    node_mismatch: 'node_mismatch',
    certificate_invalid: 'certificate_invalid',
    certificate_revoked: 'certificate_revoked',
    invalid_input: 'invalid_input',
  };
  const reason = reasons[error.code];
  if (reason !== undefined) metrics.streamsRefused.inc({ reason });
}
