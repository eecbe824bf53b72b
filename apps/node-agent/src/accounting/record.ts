// Records of the journal's segments, as bytes. A record proves by itself that it is whole and stands where it was
// written: its checksum covers its header, its body and its segment's number, so neither a torn write nor a block of
// an older file can pass for one. After a damaged stretch the scan finds the next sound record.
//
// segment := "PSTWAL01" ‖ number u64 ‖ records
// record  := "PWR1" ‖ type u8 ‖ zero 3 ‖ body length u32 ‖ ordinal u64 ‖ checksum 16 (BLAKE3, cut) ‖ body
import { FRAME_BYTES_MAX } from '@penstock/domain/terms';
import { blake3Digest } from '@penstock/ledger/digest';

const SEGMENT_MAGIC = Buffer.from('PSTWAL01', 'latin1');
const RECORD_MAGIC = Buffer.from('PWR1', 'latin1');
const CHECKED_BYTES = 20;
const CHECKSUM_BYTES = 16;
export const SEGMENT_HEADER_BYTES = 16;
export const RECORD_HEADER_BYTES = CHECKED_BYTES + CHECKSUM_BYTES;
/** A frame with its signature and the engines' states, or the checkpoint of half a million meters. */
export const RECORD_BODY_BYTES_MAX = 8 * FRAME_BYTES_MAX;

export type RecordType = 'checkpoint' | 'frame' | 'gap' | 'ack' | 'readings';
const typeNumber: Record<RecordType, number> = { checkpoint: 1, frame: 2, gap: 3, ack: 4, readings: 5 };
const typeNames = new Map(Object.entries(typeNumber).map(([name, number]) => [number, name as RecordType]));

export interface ScannedRecord {
  type: RecordType;
  /** Number of the record in this journal; one more than the record before. */
  ordinal: bigint;
  /** Where its header starts in the segment, and its whole length. */
  offset: number;
  length: number;
  body: Buffer;
}

export interface SegmentScan {
  records: ScannedRecord[];
  /** Damaged stretches with a sound record somewhere behind them. */
  holes: { offset: number; length: number }[];
  /** End of the last sound record: what a cut leaves. */
  soundBytes: number;
  /** `torn`: the last write did not finish, so it was never sealed. `corrupt`: it may have been. */
  tail: 'clean' | 'torn' | 'corrupt';
}

export function encodeSegmentHeader(segment: bigint): Buffer {
  const out = Buffer.alloc(SEGMENT_HEADER_BYTES);
  SEGMENT_MAGIC.copy(out);
  out.writeBigUInt64BE(segment, 8);
  return out;
}

function checksum(segment: bigint, head: Buffer, body: Buffer): Buffer {
  const number = Buffer.allocUnsafe(8);
  number.writeBigUInt64BE(segment, 0);
  return blake3Digest(number, head, body).subarray(0, CHECKSUM_BYTES);
}

export function encodeRecord(segment: bigint, type: RecordType, ordinal: bigint, body: Buffer): Buffer {
  const out = Buffer.alloc(RECORD_HEADER_BYTES + body.length);
  RECORD_MAGIC.copy(out);
  out.writeUInt8(typeNumber[type], 4);
  out.writeUInt32BE(body.length, 8);
  out.writeBigUInt64BE(ordinal, 12);
  checksum(segment, out.subarray(0, CHECKED_BYTES), body).copy(out, CHECKED_BYTES);
  body.copy(out, RECORD_HEADER_BYTES);
  return out;
}

/** The record at `offset`, or null when there is no sound one. */
export function decodeRecord(segment: bigint, bytes: Buffer, offset: number): ScannedRecord | null {
  if (bytes.length - offset < RECORD_HEADER_BYTES) return null;
  const head = bytes.subarray(offset, offset + CHECKED_BYTES);
  if (head.compare(RECORD_MAGIC, 0, 4, 0, 4) !== 0) return null;
  const type = typeNames.get(head.readUInt8(4));
  const bodyBytes = head.readUInt32BE(8);
  if (type === undefined || bodyBytes > RECORD_BODY_BYTES_MAX) return null;
  const bodyAt = offset + RECORD_HEADER_BYTES;
  if (bytes.length - bodyAt < bodyBytes) return null;
  const body = bytes.subarray(bodyAt, bodyAt + bodyBytes);
  const stated = bytes.subarray(offset + CHECKED_BYTES, bodyAt);
  if (checksum(segment, head, body).compare(stated) !== 0) return null;
  return { type, ordinal: head.readBigUInt64BE(12), offset, length: RECORD_HEADER_BYTES + bodyBytes, body };
}

/**
 * All sound records of a segment's bytes, in order. Never throws. A segment whose own header is damaged is scanned all
 * the same: `segment` comes from the file's name.
 */
export function scanSegment(segment: bigint, bytes: Buffer): SegmentScan {
  const records: ScannedRecord[] = [];
  const holes: SegmentScan['holes'] = [];
  let at = Math.min(SEGMENT_HEADER_BYTES, bytes.length);
  while (at < bytes.length) {
    const record = decodeRecord(segment, bytes, at) ?? nextRecord(segment, bytes, at + 1);
    if (record === null) break;
    if (record.offset > at) holes.push({ offset: at, length: record.offset - at });
    records.push(record);
    at = record.offset + record.length;
  }
  return { records, holes, soundBytes: at, tail: tailOf(bytes, at) };
}

function nextRecord(segment: bigint, bytes: Buffer, from: number): ScannedRecord | null {
  for (let at = bytes.indexOf(RECORD_MAGIC, from); at !== -1; at = bytes.indexOf(RECORD_MAGIC, at + 1)) {
    const record = decodeRecord(segment, bytes, at);
    if (record !== null) return record;
  }
  return null;
}

function tailOf(bytes: Buffer, at: number): SegmentScan['tail'] {
  if (at >= bytes.length) return 'clean';
  const left = bytes.length - at;
  if (left < RECORD_HEADER_BYTES) return 'torn';
  const startsWell = bytes.compare(RECORD_MAGIC, 0, 4, at, at + 4) === 0;
  return startsWell && bytes.readUInt32BE(at + 8) > left - RECORD_HEADER_BYTES ? 'torn' : 'corrupt';
}
