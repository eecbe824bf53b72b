// The Usage service: what travels between a node and its stream. Owns no state beyond the connection: the first message
// opens the stream for the node of the certificate, parts become frames, at most WINDOW frames are on their way (beyond
// that the connection is simply not read), acknowledgements go out when the group commit says so.
import { setTimeout as delay } from 'node:timers/promises';
import type { Clock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import type { Logger } from '@penstock/service/logger';
import {
  UsageServiceService,
  type BaselinesRequest,
  type BaselinesResponse,
  type IngestRequest,
  type IngestResponse,
  type Open,
  type UsageServiceServer,
} from '@penstock/rpc/gen/penstock/usage/v1/usage';
import { bidi, serverStream, type BidiStream, type CallContext } from '@penstock/rpc/handlers';
import { requireNode, type NodePeer } from '@penstock/rpc/identity';
import { receiveFrame } from './accept.js';
import type { Collector } from './collector.js';
import { hexOf } from './load.js';
import { Assembler, type WholeFrame } from './parts.js';
import type { Position, Session, Stream } from './stream.js';

/** Frames of one node on their way. */
export const WINDOW = 8;
/** A connection that does not open its stream is ended. */
export const OPEN_TIMEOUT_MS = 10_000;
const VERSION_CHARACTERS_MAX = 64;

/** Who may call what; for createServer. */
export const usageAllow = {
  [UsageServiceService.ingest.path]: ['node'],
  [UsageServiceService.baselines.path]: ['node'],
} as const;

export function usageService(collector: Collector, clock: Clock, log: Logger): UsageServiceServer {
  return {
    ingest: bidi((stream: BidiStream<IngestRequest, IngestResponse>, context) =>
      new Connection(collector, clock, log, stream, context).serve(),
    ),
    baselines: serverStream<BaselinesRequest, BaselinesResponse>(async (request, stream, context) => {
      const peer = requireNode(context.peer, request.nodeId);
      for await (const meters of collector.baselines(peer.nodeId)) await stream.write({ meters });
    }),
  };
}

/** One Ingest call. */
class Connection implements Session {
  private stream: Stream | null = null;
  private readonly parts = new Assembler();
  /** Why the server ends the call; Refused was sent before. */
  private ending: AppError | null = null;
  private refused = false;
  private wakeEnd: () => void = () => undefined;
  /** After Busy the frames behind it are dropped without a word until this one comes again. */
  private skipUntil: bigint | null = null;
  /** The last frame that was ahead of the stream: of one run of them only the first is answered. */
  private aheadSeq: bigint | null = null;

  constructor(
    private readonly collector: Collector,
    private readonly clock: Clock,
    private readonly log: Logger,
    private readonly call: BidiStream<IngestRequest, IngestResponse>,
    private readonly context: CallContext,
  ) {}

  async serve(): Promise<void> {
    const messages = this.call[Symbol.asyncIterator]();
    try {
      await this.open(messages);
      for (;;) {
        const next = await this.next(messages);
        if (next === null) break;
        await this.handle(next);
      }
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      if (this.ending === null) {
        if (!this.context.signal.aborted) this.collector.rejected(error);
        throw error;
      }
    } finally {
      if (this.stream !== null) this.collector.close(this.stream, this);
    }
    if (this.ending !== null && !this.refused) throw this.ending;
  }

  // Session: called by the group commit and by whoever takes the stream over.

  accepted(position: Position): void {
    this.send({ message: { $case: 'accepted', value: { ...position, duplicate: false } } });
  }

  end(error: AppError): void {
    this.ending ??= error;
    this.wakeEnd();
  }

  refuse(seq: bigint, error: AppError): void {
    this.refused = true;
    this.send({ message: { $case: 'refused', value: { seq, code: error.code, message: error.message } } });
    this.end(error);
  }

  /** The next message; null when either side has ended the call. */
  private next(messages: AsyncIterator<IngestRequest>): Promise<IngestRequest | null> {
    if (this.ending !== null) return Promise.resolve(null);
    return new Promise((resolve, reject) => {
      this.wakeEnd = () => resolve(null);
      messages.next().then((result) => resolve(result.done === true ? null : result.value), reject);
    });
  }

  private async open(messages: AsyncIterator<IngestRequest>): Promise<void> {
    const timer = new AbortController();
    const late = delay(OPEN_TIMEOUT_MS, null, { signal: timer.signal }).catch(() => null);
    const first = await Promise.race([messages.next(), late]);
    timer.abort();
    if (first === null)
      throw new AppError('invalid_input', 'the stream was not opened in time', { field: 'open' });
    if (first.done === true)
      return void this.end(new AppError('invalid_input', 'the stream ended before it was opened'));
    const message = first.value.message;
    if (message?.$case !== 'open')
      throw new AppError('invalid_input', 'the first message must be Open', { field: 'open' });
    const peer = requireNode(this.context.peer, message.value.nodeId);
    await this.openStream(peer, message.value);
  }

  private async openStream(peer: NodePeer, open: Open): Promise<void> {
    checkOpen(open);
    const now = this.clock.now();
    const end = { epoch: open.epoch, seq: open.seq, digest: open.digest, oldestSeq: open.oldestSeq };
    const opened = await this.collector.open(peer.nodeId, end, this);
    this.stream = opened.stream;
    this.log.info(
      {
        nodeId: peer.nodeId,
        epoch: opened.epoch,
        seq: opened.nextSeq,
        fence: opened.stream.fence,
        version: open.agentVersion.slice(0, VERSION_CHARACTERS_MAX),
        skewMs: Number(open.clockMs) - now,
      },
      'stream opened',
    );
    await this.call.write({
      message: {
        $case: 'opened',
        value: {
          epoch: opened.epoch,
          nextSeq: opened.nextSeq,
          headDigest: opened.headDigest,
          serverTimeMs: BigInt(Math.round(now)),
          window: WINDOW,
          baselinesNeeded: opened.newEpoch,
          sliceHeads: opened.sliceHeads.map((s) => ({
            tenantId: Buffer.from(hexOf(s.tenantId), 'hex'),
            digest: s.digest,
          })),
        },
      },
    });
  }

  private async handle(request: IngestRequest): Promise<void> {
    const stream = this.stream;
    const message = request.message;
    if (stream === null) return;
    let seq = 0n;
    try {
      if (message?.$case !== 'part')
        throw new AppError('invalid_input', 'only frame parts may follow Open', { field: 'part' });
      seq = message.value.seq;
      const whole = this.parts.add(message.value);
      if (whole !== null) await this.frame(stream, whole);
    } catch (error) {
      if (!(error instanceof AppError) || this.ending !== null) throw error;
      if (error.code === 'unavailable' || error.code === 'fenced') throw error;
      await this.stop(stream, seq, error);
    }
  }

  private async frame(stream: Stream, whole: WholeFrame): Promise<void> {
    const received = receiveFrame(whole.bytes, whole.signature, whole.traceparent);
    const { header } = received.view;
    if (header.epoch !== whole.epoch || header.seq !== whole.seq) {
      throw new AppError('frame_malformed', 'the part names another frame than it carries', {
        field: 'part',
      });
    }
    if (this.skipUntil !== null && header.seq > this.skipUntil) return;
    this.skipUntil = null;
    const outcome = await this.collector.receive(stream, this, received);
    const again = this.aheadSeq;
    this.aheadSeq = null;
    switch (outcome.kind) {
      case 'queued':
        return stream.below(WINDOW);
      case 'pending':
        return;
      case 'duplicate':
        return this.send({
          message: { $case: 'accepted', value: { epoch: outcome.epoch, seq: outcome.seq, duplicate: true } },
        });
      case 'expected':
        this.aheadSeq = header.seq;
        if (again === null || header.seq <= again)
          this.send({ message: { $case: 'expected', value: { seq: outcome.seq } } });
        return;
      case 'busy':
        this.skipUntil = outcome.seq;
        return this.send({
          message: { $case: 'busy', value: { seq: outcome.seq, retryAfterMs: outcome.retryAfterMs } },
        });
    }
  }

  /** The frame is refused: what came before it is written and acknowledged first. */
  private async stop(stream: Stream, seq: bigint, error: AppError): Promise<void> {
    this.collector.rejected(error);
    this.log.warn(
      { nodeId: stream.nodeId, epoch: stream.epoch, seq, code: error.code, reason: error.message },
      'frame refused',
    );
    await stream.below(1);
    if (this.ending !== null) return;
    this.refuse(seq, error);
    if (error.code === 'frame_fork') stream.end(error);
  }

  /** Responses are few and small (one a group, at most WINDOW frames wait for one), so nobody waits for them. */
  private send(response: IngestResponse): void {
    this.call.write(response).catch(() => undefined);
  }
}

function checkOpen(open: Open): void {
  const bad = (field: string): AppError =>
    new AppError('invalid_input', `${field} is out of range`, { field });
  if (open.epoch > 2_147_483_647) throw bad('epoch');
  if (open.seq > 9_223_372_036_854_775_806n) throw bad('seq');
  if (open.digest.length !== 32 && !(open.digest.length === 0 && open.seq === 0n)) throw bad('digest');
  if (open.clockMs > 8_640_000_000_000_000n || open.clockMs < 0n) throw bad('clock_ms');
}
