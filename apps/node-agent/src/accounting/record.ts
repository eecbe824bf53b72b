// Records of the journal's segments, as bytes. A record proves by itself that it is whole and stands where it was
// written: its checksum covers its header, its body and its segment's number, so neither a torn write nor a block of
// an older file can pass for one. After a damaged stretch the scan finds the next sound record.
//
// segment := "PSTWAL01" ‖ number u64 ‖ records
// record  := head ‖ checksum of head 4 ‖ checksum of head and body 16 ‖ body             (BLAKE3, cut)
// head    := "PWR1" ‖ type u8 ‖ zero 3 ‖ body length u32 ‖ ordinal u64
// The head's own checksum makes its length trustworthy: only so a write that did not finish is told from a damaged one.
import { FRAME_BYTES_MAX } from '@penstock/domain/terms';
import { blake3Digest } from '@penstock/ledger/digest';

const SEGMENT_MAGIC = Buffer.from('PSTWAL01', 'latin1');
const RECORD_MAGIC = Buffer.from('PWR1', 'latin1');
const HEAD_BYTES = 20;
const HEAD_CHECKSUM_BYTES = 4;
const CHECKSUM_BYTES = 16;
export const SEGMENT_HEADER_BYTES = 16;
export const RECORD_HEADER_BYTES = HEAD_BYTES + HEAD_CHECKSUM_BYTES + CHECKSUM_BYTES;
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

function checksum(segment: bigint, bytes: number, ...parts: Buffer[]): Buffer {
  const number = Buffer.allocUnsafe(8);
  number.writeBigUInt64BE(segment, 0);
  return blake3Digest(number, ...parts).subarray(0, bytes);
}

export function encodeRecord(segment: bigint, type: RecordType, ordinal: bigint, body: Buffer): Buffer {
  const out = Buffer.alloc(RECORD_HEADER_BYTES + body.length);
  RECORD_MAGIC.copy(out);
  out.writeUInt8(typeNumber[type], 4);
  out.writeUInt32BE(body.length, 8);
  out.writeBigUInt64BE(ordinal, 12);
  const head = out.subarray(0, HEAD_BYTES);
  checksum(segment, HEAD_CHECKSUM_BYTES, head).copy(out, HEAD_BYTES);
  checksum(segment, CHECKSUM_BYTES, head, body).copy(out, HEAD_BYTES + HEAD_CHECKSUM_BYTES);
  body.copy(out, RECORD_HEADER_BYTES);
  return out;
}

/** A head at `offset` that is as it was written; its record need not be whole. */
function decodeHead(
  segment: bigint,
  bytes: Buffer,
  offset: number,
): { type: RecordType; bodyBytes: number } | null {
  if (bytes.length - offset < RECORD_HEADER_BYTES) return null;
  const head = bytes.subarray(offset, offset + HEAD_BYTES);
  if (head.compare(RECORD_MAGIC, 0, 4, 0, 4) !== 0) return null;
  const stated = bytes.subarray(offset + HEAD_BYTES, offset + HEAD_BYTES + HEAD_CHECKSUM_BYTES);
  if (!checksum(segment, HEAD_CHECKSUM_BYTES, head).equals(stated)) return null;
  const type = typeNames.get(head.readUInt8(4));
  const bodyBytes = head.readUInt32BE(8);
  return type === undefined || bodyBytes > RECORD_BODY_BYTES_MAX ? null : { type, bodyBytes };
}

/** The record at `offset`, or null when there is no sound one. */
export function decodeRecord(segment: bigint, bytes: Buffer, offset: number): ScannedRecord | null {
  const decoded = decodeHead(segment, bytes, offset);
  const bodyAt = offset + RECORD_HEADER_BYTES;
  if (decoded === null || bytes.length - bodyAt < decoded.bodyBytes) return null;
  const head = bytes.subarray(offset, offset + HEAD_BYTES);
  const body = bytes.subarray(bodyAt, bodyAt + decoded.bodyBytes);
  const stated = bytes.subarray(offset + HEAD_BYTES + HEAD_CHECKSUM_BYTES, bodyAt);
  if (!checksum(segment, CHECKSUM_BYTES, head, body).equals(stated)) return null;
  const length = RECORD_HEADER_BYTES + decoded.bodyBytes;
  return { type: decoded.type, ordinal: head.readBigUInt64BE(12), offset, length, body };
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
  return { records, holes, soundBytes: at, tail: tailOf(segment, bytes, at) };
}

function nextRecord(segment: bigint, bytes: Buffer, from: number): ScannedRecord | null {
  for (let at = bytes.indexOf(RECORD_MAGIC, from); at !== -1; at = bytes.indexOf(RECORD_MAGIC, at + 1)) {
    const record = decodeRecord(segment, bytes, at);
    if (record !== null) return record;
  }
  return null;
}

function tailOf(segment: bigint, bytes: Buffer, at: number): SegmentScan['tail'] {
  if (at >= bytes.length) return 'clean';
  const left = bytes.length - at;
  if (left < RECORD_HEADER_BYTES) return 'torn';
  const head = decodeHead(segment, bytes, at);
  return head !== null && head.bodyBytes > left - RECORD_HEADER_BYTES ? 'torn' : 'corrupt';
}
