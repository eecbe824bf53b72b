// Judges a frame against its stream: order, links, signature, tenants, clock, sums, ceilings. checkFrame is pure: it
// throws the refusal (nothing has changed then), says what must be read first, or gives a CheckedFrame. applyFrame moves
// the validated end of the stream, settleFrame the committed one, undoFrame takes back what applyFrame counted.
//
// Billing rule: billable bytes of a row = floor((up + down) × multiplier / 1000), row by row. So the sum does not depend
// on which rows were flushed together or in what order, and anybody can recompute it from the ledger.
import { AppError, type ErrorCode } from '@penstock/domain/errors';
import { BYTES_MAX, engineNumber } from '@penstock/domain/terms';
import { digestsOfFrame, frameLink } from '@penstock/ledger/chain';
import { verifyDigest } from '@penstock/ledger/digest';
import { decodeFrame, OPENED_BYTES, ZERO_DIGEST, type FrameView } from '@penstock/ledger/frame';
import type { Crossing, Periods } from './crossing.js';
import { multiplierAt } from './multiplier.js';
import {
  anyMissing,
  checkRows,
  newMissing,
  NOT_ASSIGNED,
  type FreshMeter,
  type Known,
  type Missing,
  type RowColumns,
} from './rows.js';
import { SERIES_BUCKET_MS } from './series.js';
import { CEILING_SLACK_MS, type Stream } from './stream.js';

/** A window that ends later than this from now, or before its certificate began, has an implausible clock. */
export const CLOCK_AHEAD_MAX_MS = 120_000;
/** A window that is older than raw data is kept has one too. */
export const CLOCK_BEHIND_MAX_MS = 35 * 86_400_000;
/** The longest window of an agent whose journal is full (node-agent, accounting/window.ts). */
const FIRST_WINDOW_MS_MAX = 3_600_000;
const SIGNATURE_BYTES = 64;
const TRACEPARENT_CHARACTERS_MAX = 64;
const BILLED_BYTES_MAX = 2 ** 51;
/** Handshakes that are tried again, the first keepalives. */
const WIREGUARD_IDLE_BYTES = 2_048;
const WIREGUARD_IDLE_BYTES_PER_SECOND = 64;
/** In however long a window. */
const WIREGUARD_IDLE_BYTES_MAX = 65_536;

export const FLAG_IMPLAUSIBLE_CLOCK = 1;

/** A frame's bytes, decoded; not yet judged. */
export interface Received {
  bytes: number;
  view: FrameView;
  digest: Buffer;
  sliceDigests: Buffer[];
  signature: Buffer;
  traceparent: string | null;
  signed: boolean;
}

export interface QuarantineRow {
  tenant: string;
  subscription: number;
  engine: number;
  up: bigint;
  down: bigint;
  reason: 'not_assigned' | 'above_link_rate' | 'no_period';
}

export interface CheckedFrame extends Received {
  stream: Stream;
  /** What the next frame names as its predecessor. */
  link: Buffer;
  flags: number;
  rows: RowColumns;
  quarantine: QuarantineRow[];
  multiplierPerMille: number;
  windowEndMs: number;
  /** The same, or the time of acceptance where the node's clock was implausible. */
  ceilingEndMs: number;
  crossings: Crossing[];
}

export type Verdict = { frame: CheckedFrame } | { missing: Missing };

/** Decodes and digests. Throws frame_malformed or frame_too_large. */
export function receiveFrame(bytes: Buffer, signature: Buffer, traceparent: string): Received {
  const view = decodeFrame(bytes);
  const text = traceparent !== '' && traceparent.length <= TRACEPARENT_CHARACTERS_MAX ? traceparent : null;
  return { bytes: bytes.length, view, ...digestsOfFrame(view), signature, traceparent: text, signed: false };
}

export type Place = 'next' | 'seen' | 'ahead';

/** Where the frame stands in the stream. Throws node_mismatch. */
export function placeOf(stream: Stream, view: FrameView): Place {
  const { header } = view;
  if (!header.nodeId.equals(stream.nodeBytes)) refuse('node_mismatch', 'the frame names another node');
  if (header.epoch !== stream.epoch) return header.epoch < stream.epoch ? 'seen' : 'ahead';
  if (header.seq <= stream.seq) return 'seen';
  return header.seq === stream.seq + 1n ? 'next' : 'ahead';
}

/** Judges the next frame of a stream. */
export function checkFrame(
  stream: Stream,
  periods: Periods,
  received: Received,
  known: Known,
  nowMs: number,
): Verdict {
  const { view } = received;
  const { header } = view;
  if (header.kind === 'gap' && view.slices.length > 0)
    refuse('frame_malformed', 'a gap frame holds no slices');
  if (!header.prevDigest.equals(stream.digest))
    refuse('digest_mismatch', 'the frame does not name its predecessor');
  const signed = checkSignature(stream, received, nowMs);
  if ('missing' in signed) return signed;
  const { implausible } = signed;
  const windowEndMs = header.windowStartMs + header.windowMs;
  const missing = newMissing();
  for (const slice of view.slices) {
    const tenant = slice.tenantId.toString('hex');
    if (known.absentTenants.has(tenant))
      refuse('not_assigned', 'the node serves no subscription of this tenant');
    const end = stream.sliceEnds.get(tenant);
    if (!stream.tenants.has(tenant) || end === undefined) missing.tenants.add(tenant);
    // After a gap the slice before may be what was lost.
    else if (end.gap >= stream.gaps && !end.digest.equals(slice.prevDigest)) {
      refuse('digest_mismatch', 'a slice does not name its predecessor');
    }
  }
  const rows = checkRows(view, {
    stream,
    periods,
    known,
    billAtMs: implausible ? nowMs : windowEndMs,
    windowStartMs: implausible ? nowMs : header.windowStartMs,
    nowMs,
    trusted: false,
    missing,
  });
  if (anyMissing(missing)) return { missing };
  const multiplierPerMille = multiplierAt(stream.node.multipliers, implausible ? nowMs : windowEndMs);
  const frame: CheckedFrame = {
    ...received,
    stream,
    link: frameLink(view, received.digest),
    flags: implausible ? FLAG_IMPLAUSIBLE_CLOCK : 0,
    rows,
    quarantine: [],
    multiplierPerMille,
    windowEndMs: implausible ? Number.NaN : windowEndMs,
    ceilingEndMs: implausible ? nowMs : windowEndMs,
    crossings: [],
  };
  quarantine(frame, aboveCeiling(stream, frame, header.windowMs));
  return { frame };
}

/**
 * The signature must be of a certificate of this node that was valid when the window closed and not revoked before; a
 * backlog signed by yesterday's key is good. Throws signature_invalid, certificate_invalid, certificate_revoked.
 */
export function checkSignature(
  stream: Stream,
  received: Received,
  nowMs: number,
): { implausible: boolean } | { missing: Missing } {
  const { header } = received.view;
  const certificate = stream.certificates.get(header.certificateSerial.toString('hex'));
  if (certificate === undefined)
    return { missing: { ...newMissing(), certificate: header.certificateSerial } };
  if (certificate === null)
    return refuse('certificate_invalid', 'the frame names a certificate that is not of this node');
  const windowEndMs = header.windowStartMs + header.windowMs;
  const implausible =
    windowEndMs > nowMs + CLOCK_AHEAD_MAX_MS ||
    windowEndMs < nowMs - CLOCK_BEHIND_MAX_MS ||
    windowEndMs < certificate.notBeforeMs - CLOCK_AHEAD_MAX_MS;
  const closedAtMs = implausible ? nowMs : windowEndMs;
  if (closedAtMs > certificate.notAfterMs)
    refuse('certificate_invalid', 'the certificate had expired when the window closed');
  if (closedAtMs >= certificate.revokedAtMs)
    refuse('certificate_revoked', 'the certificate was revoked when the window closed');
  if (!received.signed) {
    if (
      received.signature.length !== SIGNATURE_BYTES ||
      !verifyDigest(received.digest, received.signature, certificate.publicKey)
    ) {
      refuse('signature_invalid', 'the signature of the frame is wrong');
    }
    received.signed = true;
  }
  return { implausible };
}

/**
 * More than the node's link carries in the real time since its last window, in either direction; such a frame is kept but
 * not billed. A window's own claim counts for a stream's first frame only, and there no more than an honest agent's
 * longest window: otherwise windows that overlap or repeat would bill the same time again and again.
 */
function aboveCeiling(stream: Stream, frame: CheckedFrame, windowMs: number): boolean {
  const { rows } = frame;
  const elapsedMs = elapsedOf(stream, frame, windowMs);
  const ceiling = (stream.node.linkMbps * 1000 * (elapsedMs + stream.slackMs)) / 8;
  const billed = (rows.upTotal + rows.downTotal) * Math.max(1, frame.multiplierPerMille / 1000);
  return rows.upTotal > ceiling || rows.downTotal > ceiling || billed > BILLED_BYTES_MAX;
}

function elapsedOf(stream: Stream, frame: CheckedFrame, windowMs: number): number {
  const sinceMs = frame.ceilingEndMs - stream.windowEndMs;
  return Number.isNaN(sinceMs) ? Math.min(windowMs, FIRST_WINDOW_MS_MAX) : Math.max(0, sinceMs);
}

/** Slack left after the frame: real time refills it, what went over the link uses it up. */
function slackAfter(stream: Stream, frame: CheckedFrame, windowMs: number): number {
  const usedMs = (Math.max(frame.rows.upTotal, frame.rows.downTotal) * 8) / (stream.node.linkMbps * 1000);
  const left = stream.slackMs + elapsedOf(stream, frame, windowMs) - usedMs;
  return Math.max(0, Math.min(CEILING_SLACK_MS, left));
}

/** Sums what is not billed, a row for each subscription and engine, with exact bytes up to 2^63 − 1. */
function quarantine(frame: CheckedFrame, all: boolean): void {
  const { rows, stream, view } = frame;
  const sums = new Map<string, QuarantineRow>();
  let row = 0;
  for (const slice of view.slices) {
    const tenant = slice.tenantId.toString('hex');
    for (let i = 0; i < slice.rows; i++, row++) {
      const state = rows.state[row] as number;
      if (!all && state === 0) continue;
      rows.period[row] = -1;
      const moved = exactMoved(frame, slice.payload, slice.opened, slice.rows, i, rows.meter[row] as number);
      if (moved.up === 0n && moved.down === 0n) continue;
      const subscription = rows.subscription[row] as number;
      const engine = slice.payload.readUInt8(slice.opened * OPENED_BYTES + slice.rows * 16 + i);
      const key = `${subscription}/${engine}`;
      const sum = sums.get(key);
      if (sum !== undefined) {
        sum.up = saturated(sum.up + moved.up);
        sum.down = saturated(sum.down + moved.down);
        continue;
      }
      const reason = all ? 'above_link_rate' : state === NOT_ASSIGNED ? 'not_assigned' : 'no_period';
      sums.set(key, { tenant: stream.tenants.get(tenant) as string, subscription, engine, reason, ...moved });
    }
  }
  frame.quarantine = [...sums.values()];
}

/** What a row of the database can hold: each meter fits, several of one subscription may not. */
function saturated(bytes: bigint): bigint {
  return bytes < BYTES_MAX ? bytes : BYTES_MAX;
}

function exactMoved(
  frame: CheckedFrame,
  payload: Buffer,
  opened: number,
  rows: number,
  i: number,
  meter: number,
) {
  const { meters } = frame.stream;
  const at = opened * OPENED_BYTES + rows * 41 + i * 8;
  const last = (high: Uint32Array, low: Uint32Array): bigint =>
    meter < 0 ? 0n : (BigInt(high[meter] as number) << 32n) | BigInt(low[meter] as number);
  return {
    up: payload.readBigUInt64BE(at) - last(meters.lastUpHigh, meters.lastUpLow),
    down: payload.readBigUInt64BE(at + rows * 8) - last(meters.lastDownHigh, meters.lastDownLow),
  };
}

/**
 * Moves the validated end of the stream behind the frame and counts its usage in memory; finds crossings. `periods` null:
 * the counters hold the frame's usage already.
 */
export function applyFrame(frame: CheckedFrame, periods: Periods | null): void {
  const { stream, view, rows } = frame;
  const { header } = view;
  const added = rows.fresh.map((meter) => addMeter(stream, meter));
  for (let row = 0; row < rows.count; row++) {
    const meter = rows.meter[row] as number;
    if (meter < 0) rows.meter[row] = added[-1 - meter] as number;
  }
  eachCumulative(frame, (meter, upHigh, upLow, downHigh, downLow) => {
    const { meters } = stream;
    meters.lastUpHigh[meter] = upHigh;
    meters.lastUpLow[meter] = upLow;
    meters.lastDownHigh[meter] = downHigh;
    meters.lastDownLow[meter] = downLow;
    meters.gap[meter] = stream.gaps;
  });
  const { multiplierPerMille } = frame;
  for (let row = 0; row < rows.count; row++) {
    const period = rows.period[row] as number;
    if (period < 0) continue;
    const bytes = billableOf((rows.up[row] as number) + (rows.down[row] as number), multiplierPerMille);
    rows.billable[row] = bytes;
    stream.subscriptions.period[rows.subscription[row] as number] = period;
    const crossing = periods?.use(period, bytes) ?? null;
    if (crossing !== null) frame.crossings.push(crossing);
    if (periods?.awaits(period) !== true || !isUse(frame, row, bytes)) continue;
    const begun = periods.begin(period);
    if (begun !== null) frame.crossings.push(begun);
  }
  view.slices.forEach((slice, i) => {
    stream.sliceEnds.set(slice.tenantId.toString('hex'), {
      digest: frame.sliceDigests[i] as Buffer,
      gap: stream.gaps,
    });
  });
  stream.epoch = header.epoch;
  stream.seq = header.seq;
  stream.digest = frame.link;
  stream.remember(header.seq, frame.digest);
  stream.slackMs = slackAfter(stream, frame, header.windowMs);
  if (header.kind === 'gap') stream.gaps++;
  else if (!(frame.ceilingEndMs <= stream.windowEndMs)) stream.windowEndMs = frame.ceilingEndMs;
}

/**
 * Whether a row of so many billable bytes starts a subscription on hold. Xray counts what people send; WireGuard counts
 * handshakes and keepalives too, some 5 bytes a second and device, which are nobody's use: what exceeds several times
 * that in the row's own window is.
 */
function isUse({ stream, rows, view }: CheckedFrame, row: number, billable: number): boolean {
  if (billable === 0) return false;
  if (stream.meters.engine[rows.meter[row] as number] !== engineNumber.wireguard) return true;
  const seconds = view.header.windowMs / 1000;
  const idle = Math.min(
    WIREGUARD_IDLE_BYTES_MAX,
    WIREGUARD_IDLE_BYTES + seconds * WIREGUARD_IDLE_BYTES_PER_SECOND,
  );
  return (rows.up[row] as number) + (rows.down[row] as number) > idle;
}

/** floor(bytes × multiplier / 1000), exact. */
export function billableOf(bytes: number, multiplierPerMille: number): number {
  if (multiplierPerMille === 1000) return bytes;
  const product = bytes * multiplierPerMille;
  if (product > Number.MAX_SAFE_INTEGER) return Number((BigInt(bytes) * BigInt(multiplierPerMille)) / 1000n);
  return (product - (product % 1000)) / 1000;
}

function addMeter(stream: Stream, meter: FreshMeter): number {
  if (meter.existing < 0) return stream.meters.add(meter);
  stream.meters.identity.set(meter.boot, meter.existing * 32);
  stream.meters.identity.set(meter.device, meter.existing * 32 + 16);
  return meter.existing;
}

/** What of a frame is still to be added up. */
export interface Due {
  counters: boolean;
  series: boolean;
}

const ALL_DUE: Due = { counters: true, series: true };

/** The frame is committed: its usage waits for the next flush, its meters for the next checkpoint. */
export function settleFrame(frame: CheckedFrame, due: Due = ALL_DUE): void {
  settleMeters(frame);
  const { stream, rows, view } = frame;
  const { subscriptions, series } = stream;
  const engines = stream.meters.engine;
  const bucket = Math.floor(frame.ceilingEndMs / SERIES_BUCKET_MS);
  for (let row = 0; row < rows.count; row++) {
    const period = rows.period[row] as number;
    if (period < 0) continue;
    const up = rows.up[row] as number;
    const down = rows.down[row] as number;
    if (up === 0 && down === 0) continue;
    const billable = rows.billable[row] as number;
    const s = rows.subscription[row] as number;
    if (due.counters) subscriptions.sum(s, period, up, down, billable);
    if (due.series) series.add(s, engines[rows.meter[row] as number] as number, bucket, up, down, billable);
  }
  stream.kept = { epoch: view.header.epoch, seq: view.header.seq };
}

/** The part of settleFrame that concerns meters only. */
function settleMeters(frame: CheckedFrame): void {
  const { meters } = frame.stream;
  eachCumulative(frame, (meter, upHigh, upLow, downHigh, downLow) => {
    meters.keptUpHigh[meter] = upHigh;
    meters.keptUpLow[meter] = upLow;
    meters.keptDownHigh[meter] = downHigh;
    meters.keptDownLow[meter] = downLow;
    meters.change(meter);
  });
  for (const meter of frame.rows.fresh) {
    const index = meters.find(meter.high, meter.low);
    if (index >= 0) meters.change(index);
  }
}

/** The frame was not committed: other streams' crossings must not count its usage. The stream itself is thrown away. */
export function undoFrame(frame: CheckedFrame, periods: Periods): void {
  const { rows } = frame;
  for (let row = 0; row < rows.count; row++) {
    const period = rows.period[row] as number;
    if (period >= 0) periods.unuse(period, rows.billable[row] as number);
  }
  for (const crossing of frame.crossings) periods.unreport(crossing);
}

function eachCumulative(
  frame: CheckedFrame,
  use: (meter: number, upHigh: number, upLow: number, downHigh: number, downLow: number) => void,
): void {
  const meter = frame.rows.meter;
  let row = 0;
  for (const slice of frame.view.slices) {
    const { payload } = slice;
    const bytes = new DataView(payload.buffer, payload.byteOffset, payload.length);
    const n = slice.rows;
    let at = slice.opened * OPENED_BYTES + n * 41;
    for (let i = 0; i < n; i++, at += 8, row++) {
      const down = at + n * 8;
      use(
        meter[row] as number,
        bytes.getUint32(at),
        bytes.getUint32(at + 4),
        bytes.getUint32(down),
        bytes.getUint32(down + 4),
      );
    }
  }
}

/** What a tenant's first slice on a node names. */
export const FIRST_SLICE: Buffer = ZERO_DIGEST;

function refuse(code: ErrorCode, message: string): never {
  throw new AppError(code, message, { field: 'frame' });
}
