// Bodies of the journal's records. Every decoder refuses (frame_malformed) what is not exactly one well-formed body.
//
// engines    := count u8 ‖ (engine u8 ‖ read ms u64 ‖ ended u8)…
// marks      := count u32 ‖ (kind u8 ‖ engine u8 ‖ from ms u64 ‖ to ms u64)…
// acked      := seq u64 ‖ link 32                                    (with each frame, so that it needs no write)
// frame, gap := engines ‖ acked ‖ signature 64 ‖ frame bytes
// ack        := epoch u32 ‖ acked
// readings   := engines ‖ marks ‖ count u32 ‖ (number u64 ‖ engine u8 ‖ boot, subscription, device, tenant 16 each ‖
//               up u64 ‖ down u64)…                    values journalled while no frame can be sealed
// checkpoint := the whole JournalState: a segment starts with one, so that older segments can go
import { BYTES_MAX } from '@penstock/domain/terms';
import { decodeFrame, DIGEST_BYTES, MARKS_MAX, type FrameView, type LossMark } from '@penstock/ledger/frame';
import { badRecord, ByteReader, ByteWriter } from './bytes.js';
import { emptyState, type EngineRead, type JournalState } from './journal-state.js';
import { newMeter, NO_ID, type Meter, type MeterIdentity } from './meters.js';

const SIGNATURE_BYTES = 64;
const MARK_BYTES = 18;
const READING_BYTES = 8 + 1 + 4 * 16 + 16;
const METER_BYTES = 8 + 1 + 1 + 4 * 16 + 4 * 8 + 16;
const SLICE_HEAD_BYTES = 16 + DIGEST_BYTES;
const KNOWN_BOOT = 1;
const KNOWN_TENANT = 2;

export interface SealedFrame {
  frameBytes: Buffer;
  signature: Buffer;
}

export interface JournalledReading {
  number: bigint;
  identity: MeterIdentity;
  tenant: Buffer | null;
  up: bigint;
  down: bigint;
}

export interface ReadingsBody {
  engines: Map<number, EngineRead>;
  marks: LossMark[];
  readings: JournalledReading[];
}

/** How far the ledger was when a record was written, and the link of that frame. */
export interface Acknowledged {
  seq: bigint;
  link: Buffer;
}

export interface FrameBody extends SealedFrame {
  engines: Map<number, EngineRead>;
  acked: Acknowledged;
  view: FrameView;
}

export function encodeFrameBody(
  engines: ReadonlyMap<number, EngineRead>,
  acked: Acknowledged,
  frame: SealedFrame,
): Buffer {
  const out = new ByteWriter();
  writeEngines(out, engines);
  return out.u64(acked.seq).raw(acked.link).raw(frame.signature).raw(frame.frameBytes).done();
}

export function decodeFrameBody(body: Buffer): FrameBody {
  const reader = new ByteReader(body);
  const engines = readEngines(reader);
  const acked = readAcknowledged(reader);
  const signature = reader.take(SIGNATURE_BYTES);
  const frameBytes = reader.rest();
  return { engines, acked, signature, frameBytes, view: decodeFrame(frameBytes) };
}

export function encodeAckBody(epoch: number, acked: Acknowledged): Buffer {
  return new ByteWriter().u32(epoch).u64(acked.seq).raw(acked.link).done();
}

export function decodeAckBody(body: Buffer): { epoch: number; acked: Acknowledged } {
  const reader = new ByteReader(body);
  const ack = { epoch: reader.u32(), acked: readAcknowledged(reader) };
  reader.end();
  return ack;
}

function readAcknowledged(reader: ByteReader): Acknowledged {
  return { seq: reader.u64(), link: reader.take(DIGEST_BYTES) };
}

export function encodeReadingsBody(body: ReadingsBody): Buffer {
  const out = new ByteWriter();
  writeEngines(out, body.engines);
  writeMarks(out, body.marks);
  out.u32(body.readings.length);
  for (const { number, identity, tenant, up, down } of body.readings) {
    out.u64(number).u8(identity.engine).raw(identity.boot).raw(identity.subscription).raw(identity.device);
    out
      .raw(tenant ?? NO_ID)
      .u64(up)
      .u64(down);
  }
  return out.done();
}

export function decodeReadingsBody(body: Buffer): ReadingsBody {
  const reader = new ByteReader(body);
  const engines = readEngines(reader);
  const marks = readMarks(reader);
  const readings: JournalledReading[] = [];
  for (let left = reader.count(READING_BYTES); left > 0; left--) {
    const number = reader.u64();
    const identity = {
      engine: reader.u8(),
      boot: reader.take(16),
      subscription: reader.take(16),
      device: reader.take(16),
    };
    const tenant = reader.take(16);
    readings.push({
      number,
      identity,
      tenant: tenant.equals(NO_ID) ? null : tenant,
      up: bytesValue(reader),
      down: bytesValue(reader),
    });
  }
  reader.end();
  return { engines, marks, readings };
}

export function encodeCheckpoint(state: JournalState): Buffer {
  const out = new ByteWriter();
  out.u32(state.epoch).u64(state.nextSeq).raw(state.link).u64(state.acked).raw(state.ackedLink);
  out.ms(state.windowEndMs);
  writeEngines(out, state.engines);
  writeMarks(out, state.marks);
  out.u32(state.lost.size);
  for (const seq of state.lost) out.u64(seq);
  out.u32(state.doubtful.size);
  for (const seq of state.doubtful) out.u64(seq);
  out.u32(state.sliceHeads.size);
  for (const [tenant, digest] of state.sliceHeads) out.raw(Buffer.from(tenant, 'hex')).raw(digest);
  out.u32(state.meters.size);
  const rows = Buffer.alloc(state.meters.size * METER_BYTES);
  let at = 0;
  for (const meter of state.meters.all()) at = writeMeter(rows, at, meter);
  return out.raw(rows).done();
}

export function decodeCheckpoint(body: Buffer): JournalState {
  const reader = new ByteReader(body);
  const state = emptyState();
  state.epoch = reader.u32();
  state.nextSeq = reader.u64();
  state.link = Buffer.from(reader.take(DIGEST_BYTES));
  state.acked = reader.u64();
  state.ackedLink = Buffer.from(reader.take(DIGEST_BYTES));
  if (state.nextSeq === 0n || state.acked >= state.nextSeq)
    throw badRecord('checkpoint has no sound numbering');
  state.windowEndMs = reader.ms();
  state.engines = readEngines(reader);
  state.marks = readMarks(reader);
  readSeqs(reader, state.lost);
  readSeqs(reader, state.doubtful);
  for (let left = reader.count(SLICE_HEAD_BYTES); left > 0; left--) {
    const tenant = reader.take(16).toString('hex');
    if (state.sliceHeads.has(tenant)) throw badRecord('a tenant stands twice');
    state.sliceHeads.set(tenant, Buffer.from(reader.take(DIGEST_BYTES)));
  }
  for (let left = reader.count(METER_BYTES); left > 0; left--) {
    const meter = readMeter(reader);
    if (state.meters.get(meter.number) !== undefined) throw badRecord('a meter stands twice');
    state.meters.load(meter);
  }
  reader.end();
  return state;
}

function writeMeter(out: Buffer, start: number, meter: Meter): number {
  let at = out.writeBigUInt64BE(meter.number, start);
  at = out.writeUInt8(meter.engine, at);
  at = out.writeUInt8(
    (meter.boot === null ? 0 : KNOWN_BOOT) | (meter.tenant === null ? 0 : KNOWN_TENANT),
    at,
  );
  for (const id of [meter.boot, meter.subscription, meter.device, meter.tenant])
    at += (id ?? NO_ID).copy(out, at);
  for (const value of [
    meter.baseUp,
    meter.baseDown,
    meter.readUp,
    meter.readDown,
    meter.lastSeq,
    meter.openedSeq,
  ]) {
    at = out.writeBigUInt64BE(value, at);
  }
  return at;
}

function readMeter(reader: ByteReader): Meter {
  const number = reader.u64();
  const engine = reader.u8();
  const known = reader.u8();
  if (known > (KNOWN_BOOT | KNOWN_TENANT)) throw badRecord('unknown meter flags');
  const boot = Buffer.from(reader.take(16));
  const meter = newMeter(number, engine, Buffer.from(reader.take(16)));
  const device = Buffer.from(reader.take(16));
  const tenant = Buffer.from(reader.take(16));
  if ((known & KNOWN_BOOT) !== 0) {
    meter.boot = boot;
    meter.device = device;
  } else if (!boot.equals(NO_ID) || !device.equals(NO_ID)) throw badRecord('an unknown boot has a value');
  if ((known & KNOWN_TENANT) !== 0) meter.tenant = tenant;
  else if (!tenant.equals(NO_ID)) throw badRecord('an unknown tenant has a value');
  meter.baseUp = bytesValue(reader);
  meter.baseDown = bytesValue(reader);
  meter.readUp = bytesValue(reader);
  meter.readDown = bytesValue(reader);
  if (meter.readUp < meter.baseUp || meter.readDown < meter.baseDown) throw badRecord('meter runs backwards');
  meter.lastSeq = reader.u64();
  meter.openedSeq = reader.u64();
  return meter;
}

function bytesValue(reader: ByteReader): bigint {
  const value = reader.u64();
  if (value > BYTES_MAX) throw badRecord('byte count is out of range');
  return value;
}

function writeEngines(out: ByteWriter, engines: ReadonlyMap<number, EngineRead>): void {
  out.u8(engines.size);
  for (const [engine, { readMs, ended }] of engines)
    out
      .u8(engine)
      .ms(readMs)
      .u8(ended ? 1 : 0);
}

function readEngines(reader: ByteReader): Map<number, EngineRead> {
  const engines = new Map<number, EngineRead>();
  for (let left = reader.u8(); left > 0; left--) {
    const engine = reader.u8();
    if (engines.has(engine)) throw badRecord('an engine stands twice');
    engines.set(engine, { readMs: reader.ms(), ended: reader.flag() });
  }
  return engines;
}

function readSeqs(reader: ByteReader, into: Set<bigint>): void {
  for (let left = reader.count(8); left > 0; left--) {
    const seq = reader.u64();
    if (into.has(seq)) throw badRecord('a seq stands twice');
    into.add(seq);
  }
}

function writeMarks(out: ByteWriter, marks: readonly LossMark[]): void {
  out.u32(marks.length);
  for (const mark of marks) {
    out
      .u8(mark.kind === 'engine_died' ? 1 : 2)
      .u8(mark.engine)
      .ms(mark.fromMs)
      .ms(mark.toMs);
  }
}

function readMarks(reader: ByteReader): LossMark[] {
  const marks: LossMark[] = [];
  const count = reader.count(MARK_BYTES);
  if (count > MARKS_MAX) throw badRecord('too many marks');
  for (let i = 0; i < count; i++) {
    const kind = reader.u8();
    if (kind !== 1 && kind !== 2) throw badRecord('unknown mark kind');
    const engine = reader.u8();
    const fromMs = reader.ms();
    const toMs = reader.ms();
    if (fromMs > toMs) throw badRecord('mark has no sound bounds');
    marks.push({ kind: kind === 1 ? 'engine_died' : 'record_lost', engine, fromMs, toMs });
  }
  return marks;
}
