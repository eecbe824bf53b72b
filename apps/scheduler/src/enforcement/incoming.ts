// What a node says, checked before anything is done with it: counts, lengths, ranges. Pure. A node is hostile ground:
// numbers are clamped to what the columns hold, texts are cut to a printable line.
import type {
  Acknowledgement,
  ChangeResult,
  Heartbeat,
  Hello,
} from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import { AppError } from '@penstock/domain/errors';
import { BYTES_MAX } from '@penstock/domain/terms';
import { DIGEST_BYTES } from '@penstock/ledger/frame';

const ENGINES_MAX = 8;
const PENDING_MAX = 64;
export const RESULTS_MAX = 200_000;
const INT4_MAX = 2_147_483_647;
/** A fence further ahead than this is no lost database but nonsense. */
const FENCE_MAX = 2n ** 53n;
const TIME_MAX_MS = 8_640_000_000_000_000n;

function refuse(field: string, why: string): never {
  throw new AppError('invalid_input', `${field} ${why}`, { field });
}

/** One printable line of at most `max` characters. */
export function line(text: string, max: number): string {
  return text.replaceAll(/[^\x20-\x7e\u00a0-\ud7ff]/g, ' ').slice(0, max);
}

export function int4(value: number): number {
  return Math.max(0, Math.min(INT4_MAX, Math.trunc(value)));
}

export function int8(value: bigint): bigint {
  return value > BYTES_MAX ? BYTES_MAX : value;
}

export function timeMs(value: bigint, field: string): number {
  if (value < 0n || value > TIME_MAX_MS) refuse(field, 'is no time');
  return Number(value);
}

export function checkHello(hello: Hello): void {
  if (hello.engines.length > ENGINES_MAX) refuse('hello.engines', `holds more than ${ENGINES_MAX}`);
  if (hello.pending.length > PENDING_MAX) refuse('hello.pending', `holds more than ${PENDING_MAX}`);
  if (hello.fence > FENCE_MAX) refuse('hello.fence', 'is implausible');
  if (hello.appliedRevision > FENCE_MAX) refuse('hello.applied_revision', 'is implausible');
  if (hello.appliedDigest.length !== 0 && hello.appliedDigest.length !== DIGEST_BYTES) {
    refuse('hello.applied_digest', 'must be empty or 32 bytes');
  }
  timeMs(hello.clockMs, 'hello.clock_ms');
  hello.pending.forEach(checkAcknowledgement);
}

export function checkAcknowledgement(ack: Acknowledgement): void {
  if (ack.revision > FENCE_MAX) refuse('acknowledgement.revision', 'is implausible');
  if (ack.digest.length !== 0 && ack.digest.length !== DIGEST_BYTES)
    refuse('acknowledgement.digest', 'must be empty or 32 bytes');
  timeMs(ack.receivedAtMs, 'acknowledgement.received_at_ms');
  timeMs(ack.appliedAtMs, 'acknowledgement.applied_at_ms');
  if (ack.results.length > RESULTS_MAX) refuse('acknowledgement.results', `holds more than ${RESULTS_MAX}`);
  ack.results.forEach(checkResult);
}

function checkResult(result: ChangeResult): void {
  if (result.subscriptionId.length !== 16) refuse('result.subscription_id', 'must be 16 bytes');
}

/** Heartbeat as stored: aggregates within the columns' ranges. */
export interface NodeReport {
  appliedRevision: bigint;
  subscriptions: number;
  engines: { engine: string; running: boolean; version: string; problem: string }[];
  walBytes: bigint;
  walFrames: number;
  acknowledgedSeq: bigint;
  clockSkewMs: number;
}

export function reportOf(heartbeat: Heartbeat, nowMs: number): NodeReport {
  if (heartbeat.engines.length > ENGINES_MAX) refuse('heartbeat.engines', `holds more than ${ENGINES_MAX}`);
  const skew = timeMs(heartbeat.clockMs, 'heartbeat.clock_ms') - nowMs;
  return {
    appliedRevision: int8(heartbeat.appliedRevision),
    subscriptions: int4(heartbeat.subscriptions),
    engines: heartbeat.engines.map(({ engine, running, version, problem }) => ({
      engine: line(engine, 40),
      running,
      version: line(version, 60),
      problem: line(problem, 300),
    })),
    walBytes: int8(heartbeat.walBytes),
    walFrames: int4(heartbeat.walFrames),
    acknowledgedSeq: int8(heartbeat.lastAcknowledgedSeq),
    clockSkewMs: Math.trunc(Math.max(-INT4_MAX, Math.min(INT4_MAX, skew))),
  };
}
