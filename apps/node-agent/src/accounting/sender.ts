// Sends sealed frames to the collector: one stream, a window of frames in flight, the newest frame right after its seal.
// Invariants: a frame leaves only after it is on disk; it is forgotten only after the collector said that it is durable;
// whatever breaks, the next stream starts where the ledger says. Frames that cannot be read any more are replaced by gap
// frames when the ledger asks for them, never before. Called by accounting.ts.
import type { Clock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import type { NodeId } from '@penstock/domain/ids';
import { MESSAGE_BYTES_MAX } from '@penstock/domain/terms';
import { ZERO_DIGEST } from '@penstock/ledger/frame';
import { openBidi, openServerStream, type ClientBidi } from '@penstock/rpc/client';
import type {
  IngestRequest,
  IngestResponse,
  MeterBaseline,
  Opened,
  UsageServiceClient,
} from '@penstock/rpc/gen/penstock/usage/v1/usage';
import { agree, StreamRefused } from './agreement.js';
import { newMeter, NO_ID, type Meter } from './meters.js';
import type { SealedFrame } from './record-body.js';
import type { Timers } from './timers.js';
import type { SigningIdentity, Wal } from './wal.js';

export interface SenderDeps {
  wal: Wal;
  client: UsageServiceClient;
  nodeId: NodeId;
  agentVersion: string;
  identity(): SigningIdentity | null;
  clock: Clock;
  timers: Timers;
  correctedNow(): number;
  onServerTime(serverTimeMs: number): void;
  /** An epoch began: what was waiting for it can be sealed. */
  onEpoch(): void;
  /** 0 to 1, for jitter. */
  random(): number;
  log: {
    info(fields: object, msg: string): void;
    warn(fields: object, msg: string): void;
    error(fields: object, msg: string): void;
  };
}

export interface SenderStatus {
  connected: boolean;
  /** Code of the refusal that stopped the stream; null when none does. */
  refused: string | null;
  reconnects: number;
}

const OPEN_TIMEOUT_MS = 10_000;
/** Frames in flight and no word for this long: the stream is dead. */
const ANSWER_TIMEOUT_MS = 15_000;
const BASELINES_DEADLINE_MS = 60_000;
const BACKOFF_FIRST_MS = 200;
const BACKOFF_MAX_MS = 30_000;
export const RETRY_REFUSED_MS = 60_000;
const BUSY_MS_MIN = 10;
const BUSY_MS_MAX = 60_000;
const WINDOW_MAX = 8;
const REWINDS_MAX = 64;
const BASELINES_MAX = 2_000_000;

export class Sender {
  readonly status: SenderStatus = { connected: false, refused: null, reconnects: 0 };
  readonly #stop = new AbortController();
  #attempt = 0;
  #done: Promise<void> | null = null;
  #wake: () => void = () => undefined;
  readonly #ackWaiters = new Set<() => void>();

  constructor(private readonly deps: SenderDeps) {}

  start(): void {
    this.#done ??= this.#run();
  }

  /** A frame was sealed. */
  notify(): void {
    this.#wake();
  }

  /** Waits until everything sealed is acknowledged, at most `limitMs`. True when it is. */
  async drain(limitMs: number): Promise<boolean> {
    const isEmpty = (): boolean => this.deps.wal.unacknowledged === 0;
    if (isEmpty() || !this.status.connected) return isEmpty();
    await new Promise<void>((resolve) => {
      const cancel = this.deps.timers.after(limitMs, finish);
      const check = (): void => {
        if (isEmpty() || !this.status.connected) finish();
      };
      const waiters = this.#ackWaiters;
      function finish(): void {
        cancel();
        waiters.delete(check);
        resolve();
      }
      waiters.add(check);
    });
    return isEmpty();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#wake();
    await this.#done;
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      let waitMs: number;
      try {
        await this.#stream();
        waitMs = this.#backoffMs();
      } catch (error) {
        waitMs = this.#failed(error);
      }
      this.status.connected = false;
      this.status.reconnects++;
      this.#tellWaiters();
      await this.#sleep(waitMs);
    }
  }

  #failed(error: unknown): number {
    if (this.#stop.signal.aborted) return 0;
    // A frozen stream is refused when it is opened: it is asked about again until an operator has released it.
    if (error instanceof StreamRefused || (error instanceof AppError && error.code === 'stream_frozen')) {
      this.status.refused = error.code;
      this.deps.log.error({ code: error.code, reason: error.message }, 'the collector refuses the stream');
      return RETRY_REFUSED_MS;
    }
    const waitMs = this.#backoffMs();
    // The first, second, fourth, eighth… failure in a row: days without a collector are a few lines.
    if ((this.#attempt & (this.#attempt - 1)) === 0) {
      const code = error instanceof AppError ? error.code : 'internal';
      const delayMs = Math.round(waitMs);
      this.deps.log.warn({ code, error, attempt: this.#attempt, delayMs }, 'the usage stream ended');
    }
    return waitMs;
  }

  /** Exponential with full jitter. */
  #backoffMs(): number {
    const ceiling = Math.min(BACKOFF_FIRST_MS * 2 ** Math.min(this.#attempt, 16), BACKOFF_MAX_MS);
    this.#attempt++;
    return this.deps.random() * ceiling;
  }

  async #sleep(ms: number): Promise<void> {
    if (this.#stop.signal.aborted) return;
    await new Promise<void>((resolve) => {
      const cancel = this.deps.timers.after(ms, finish);
      const signal = this.#stop.signal;
      function finish(): void {
        cancel();
        signal.removeEventListener('abort', finish);
        resolve();
      }
      signal.addEventListener('abort', finish, { once: true });
    });
  }

  /** One stream, from Open to its end. */
  async #stream(): Promise<void> {
    const { client, wal, timers } = this.deps;
    const stream = openBidi<IngestRequest, IngestResponse>(
      (metadata, options) => client.ingest(metadata, options),
      {
        signal: this.#stop.signal,
      },
    );
    const responses = stream[Symbol.asyncIterator]();
    let flow: Flow | undefined;
    try {
      const cancelOpening = timers.after(OPEN_TIMEOUT_MS, () => stream.cancel());
      let opened: Opened;
      try {
        await stream.write(this.#openMessage());
        opened = await firstAnswer(responses);
      } finally {
        cancelOpening();
      }
      this.deps.onServerTime(Number(opened.serverTimeMs));
      const next = agree(wal, opened);
      if (next === 'reopen')
        throw new AppError('unavailable', 'journal and ledger do not fit; a new epoch is needed');
      if (next === 'begin') await this.#beginEpoch(opened);
      this.status.connected = true;
      this.status.refused = null;
      const current = new Flow(this.deps, stream, opened, (seq) => this.#accepted(seq));
      flow = current;
      this.#wake = () => current.pump();
      current.pump();
      for (;;) {
        const next = await responses.next();
        if (next.done === true) break;
        current.answer(next.value);
      }
    } finally {
      flow?.close();
      this.#wake = () => undefined;
      stream.cancel();
      void wal.removeAcknowledged().catch(() => undefined);
    }
  }

  #accepted(seq: bigint): void {
    const { wal } = this.deps;
    if (!wal.acknowledge(wal.state.epoch, seq)) {
      wal.abandonEpoch();
      throw new AppError(
        'unavailable',
        'the ledger has a frame that this journal lost; a new epoch is needed',
      );
    }
    this.#attempt = 0;
    this.#tellWaiters();
    void wal.removeAcknowledged().catch((error: unknown) => {
      this.deps.log.warn({ error }, 'journal segments could not be removed');
    });
  }

  #tellWaiters(): void {
    for (const waiter of [...this.#ackWaiters]) waiter();
  }

  #openMessage(): IngestRequest {
    const { wal, nodeId, agentVersion, clock } = this.deps;
    const { epoch, seq, link, oldestSeq } = wal.head();
    const clockMs = BigInt(Math.round(clock.now()));
    return {
      message: {
        $case: 'open',
        value: { nodeId, agentVersion, epoch, seq, digest: link, clockMs, oldestSeq },
      },
    };
  }

  async #beginEpoch(opened: Opened): Promise<void> {
    const { wal, client, nodeId, log } = this.deps;
    const baselines = new Map<bigint, Meter>();
    const stream = openServerStream((metadata, options) => client.baselines({ nodeId }, metadata, options), {
      deadlineMs: BASELINES_DEADLINE_MS,
      signal: this.#stop.signal,
    });
    for await (const { meters } of stream) {
      for (const meter of meters) baselines.set(meter.meter, meterOf(meter));
      if (baselines.size > BASELINES_MAX) throw new AppError('invalid_input', 'too many baselines');
    }
    const link = opened.headDigest.length === 0 ? ZERO_DIGEST : Buffer.from(opened.headDigest);
    const sliceHeads = new Map(
      opened.sliceHeads.map(({ tenantId, digest }) => [tenantId.toString('hex'), Buffer.from(digest)]),
    );
    const { epoch, nextSeq } = opened;
    const nowMs = Math.round(this.deps.correctedNow());
    await wal.beginEpoch({ epoch, nextSeq, link, sliceHeads, baselines, nowMs });
    log.info({ epoch: opened.epoch, count: baselines.size }, 'a new epoch began');
    this.deps.onEpoch();
  }
}

async function firstAnswer(responses: AsyncIterator<IngestResponse>): Promise<Opened> {
  const first = await responses.next();
  if (first.done === true) throw new AppError('unavailable', 'the collector ended the stream at once');
  const { message } = first.value;
  if (message?.$case === 'refused') throw new StreamRefused(message.value.code, message.value.message);
  if (message?.$case === 'busy') {
    throw new AppError('unavailable', 'the collector is busy', { retryAfterMs: message.value.retryAfterMs });
  }
  if (message?.$case !== 'opened') throw new AppError('invalid_input', 'the collector did not answer Open');
  return message.value;
}

function meterOf(baseline: MeterBaseline): Meter {
  for (const id of [baseline.boot, baseline.subscriptionId, baseline.tenantId]) {
    if (id.length !== 16) throw new AppError('invalid_input', 'a baseline has no sound ids');
  }
  const meter = newMeter(baseline.meter, baseline.engine, Buffer.from(baseline.subscriptionId));
  const device = baseline.deviceId.length === 16 ? Buffer.from(baseline.deviceId) : NO_ID;
  const bootKnown = !baseline.boot.equals(NO_ID);
  meter.boot = bootKnown ? Buffer.from(baseline.boot) : null;
  meter.device = bootKnown ? device : null;
  meter.tenant = Buffer.from(baseline.tenantId);
  meter.baseUp = meter.readUp = baseline.cumulativeUp;
  meter.baseDown = meter.readDown = baseline.cumulativeDown;
  return meter;
}

/** Frames in flight on one open stream. */
class Flow {
  #next: bigint;
  /** Grows with each step back, so that a frame that was being read for sending is dropped. */
  #turn = 0;
  #pumping = false;
  #again = false;
  #closed = false;
  #rewinds = 0;
  #busyUntilMono = 0;
  readonly #window: number;
  #cancelAnswerTimer: () => void = () => undefined;
  #cancelBusyTimer: () => void = () => undefined;

  constructor(
    private readonly deps: SenderDeps,
    private readonly stream: ClientBidi<IngestRequest, IngestResponse>,
    opened: Opened,
    private readonly onAccepted: (seq: bigint) => void,
  ) {
    this.#next = opened.nextSeq;
    this.#window = Math.min(Math.max(opened.window, 1), WINDOW_MAX);
  }

  close(): void {
    this.#closed = true;
    this.#cancelAnswerTimer();
    this.#cancelBusyTimer();
  }

  /** Sends while there is something to send and room in the window. */
  pump(): void {
    if (this.#pumping) {
      this.#again = true;
      return;
    }
    this.#pumping = true;
    void this.#send()
      .catch((error: unknown) => {
        if (!this.#closed) this.deps.log.warn({ error }, 'a frame could not be sent');
        this.close();
        this.stream.cancel();
      })
      .finally(() => {
        this.#pumping = false;
        if (this.#again) {
          this.#again = false;
          this.pump();
        }
      });
  }

  /** Takes one answer of the collector; throws when the stream has to end. */
  answer(response: IngestResponse): void {
    const { message } = response;
    this.#armAnswerTimer();
    switch (message?.$case) {
      case 'accepted':
        if (message.value.epoch !== this.deps.wal.state.epoch)
          throw new AppError('invalid_input', 'another epoch was accepted');
        if (message.value.seq > this.deps.wal.state.acked) this.#rewinds = 0;
        this.onAccepted(message.value.seq);
        if (this.#next <= message.value.seq) this.#next = message.value.seq + 1n;
        break;
      case 'expected':
        this.#rewind(message.value.seq);
        break;
      case 'busy':
        this.#pause(message.value.retryAfterMs);
        this.#rewind(message.value.seq);
        break;
      case 'refused':
        this.close();
        throw new StreamRefused(message.value.code, message.value.message);
      case 'opened':
      case undefined:
        throw new AppError('invalid_input', 'the collector answered out of turn');
    }
    this.pump();
  }

  #rewind(seq: bigint): void {
    const { acked, nextSeq } = this.deps.wal.state;
    if (seq <= acked || seq > nextSeq)
      throw new AppError('frame_out_of_order', 'the ledger expects a frame we do not have');
    if (++this.#rewinds > REWINDS_MAX) throw new AppError('unavailable', 'no progress on this stream');
    if (seq >= this.#next) return;
    this.#next = seq;
    this.#turn++;
  }

  #pause(retryAfterMs: number): void {
    const ms = Math.min(Math.max(retryAfterMs, BUSY_MS_MIN), BUSY_MS_MAX);
    this.#busyUntilMono = this.deps.clock.monotonic() + ms;
    this.#cancelBusyTimer();
    this.#cancelBusyTimer = this.deps.timers.after(ms, () => {
      this.#busyUntilMono = 0;
      this.pump();
    });
  }

  async #send(): Promise<void> {
    const { wal } = this.deps;
    while (!this.#closed && this.#busyUntilMono === 0) {
      const { acked, nextSeq, epoch } = wal.state;
      if (this.#next <= acked) this.#next = acked + 1n;
      const seq = this.#next;
      if (epoch === 0 || seq >= nextSeq || seq - acked > BigInt(this.#window)) return;
      const turn = this.#turn;
      const frame = await this.#frame(seq);
      if (frame === null || this.#turn !== turn || seq !== this.#next) continue;
      this.#next = seq + 1n;
      this.#armAnswerTimer();
      await this.#write(epoch, seq, frame);
    }
  }

  /** The frame, or the gap frame in its place; null when it is not needed any more. */
  async #frame(seq: bigint): Promise<SealedFrame | null> {
    const { wal, log } = this.deps;
    const frame = await wal.frameAt(seq);
    if (frame !== null || !wal.isLost(seq)) return frame;
    const identity = this.deps.identity();
    if (identity === null) throw new AppError('unavailable', 'no certificate to sign a gap frame with');
    log.error({ seq: seq.toString() }, 'a journal record is damaged; a gap frame takes its place');
    return wal.appendGap(seq, identity);
  }

  async #write(epoch: number, seq: bigint, frame: SealedFrame): Promise<void> {
    const { frameBytes, signature } = frame;
    const parts = Math.max(1, Math.ceil(frameBytes.length / MESSAGE_BYTES_MAX));
    for (let part = 0; part < parts; part++) {
      const data = frameBytes.subarray(part * MESSAGE_BYTES_MAX, (part + 1) * MESSAGE_BYTES_MAX);
      const last = part === parts - 1;
      const value = {
        epoch,
        seq,
        part,
        parts,
        data,
        signature: last ? signature : Buffer.alloc(0),
        traceparent: '',
      };
      await this.stream.write({ message: { $case: 'part', value } });
    }
  }

  #armAnswerTimer(): void {
    this.#cancelAnswerTimer();
    this.#cancelAnswerTimer = this.deps.timers.after(ANSWER_TIMEOUT_MS, () => {
      const { acked } = this.deps.wal.state;
      if (this.#next - 1n > acked && this.#busyUntilMono === 0) this.stream.cancel();
    });
  }
}
