// The export of the ledger: one file that an auditor verifies without our database. Magic line, then records of
// {type u8, length u32, body}: the trust bundle (PEM), node certificates (DER, with revocation time), stream heads, and
// frames with their slices. A tenant's export holds only the digests of other tenants' slices.
import { createReadStream } from 'node:fs';
import type { StoredFrame, StoredSlice } from '@penstock/ledger/verify';
import { AppError } from '@penstock/domain/errors';

export const MAGIC = Buffer.from('penstock-ledger-export 1\n');
const RECORD_BYTES_MAX = 64 * 1024 * 1024;

export type ExportRecord =
  | { type: 'trust'; pem: string }
  | { type: 'certificate'; der: Buffer; revokedAtMs: number | null }
  | { type: 'head'; nodeId: Buffer; epoch: number; seq: bigint; digest: Buffer }
  | { type: 'frame'; frame: StoredFrame };

const numbers = { trust: 1, certificate: 2, head: 3, frame: 4 } as const;

export function encodeRecord(record: ExportRecord): Buffer {
  const body = encodeBody(record);
  const head = Buffer.alloc(5);
  head.writeUInt8(numbers[record.type], 0);
  head.writeUInt32BE(body.length, 1);
  return Buffer.concat([head, body]);
}

function encodeBody(record: ExportRecord): Buffer {
  switch (record.type) {
    case 'trust':
      return Buffer.from(record.pem);
    case 'certificate': {
      const time = Buffer.alloc(8);
      time.writeBigUInt64BE(BigInt(record.revokedAtMs ?? 0));
      return Buffer.concat([time, record.der]);
    }
    case 'head': {
      const out = Buffer.alloc(60);
      record.nodeId.copy(out, 0);
      out.writeUInt32BE(record.epoch, 16);
      out.writeBigUInt64BE(record.seq, 20);
      record.digest.copy(out, 28);
      return out;
    }
    case 'frame':
      return encodeStoredFrame(record.frame);
  }
}

/** header length u32 ‖ header ‖ signature 64 ‖ digest 32 ‖ accepted at ms u64 ‖ flags u16 ‖ slice count u32 ‖ slices */
function encodeStoredFrame(frame: StoredFrame): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(frame.header.length);
  const count = Buffer.alloc(14);
  count.writeBigUInt64BE(BigInt(frame.accepted?.atMs ?? 0), 0);
  count.writeUInt16BE(frame.accepted?.flags ?? 0, 8);
  count.writeUInt32BE(frame.slices.length, 10);
  return Buffer.concat([
    length,
    frame.header,
    frame.signature,
    frame.digest,
    count,
    ...frame.slices.map(encodeSlice),
  ]);
}

/** whole u8 ‖ digest 32 [‖ tenant 16 ‖ opened u32 ‖ rows u32 ‖ previous 32 ‖ payload length u32 ‖ payload] */
function encodeSlice(slice: StoredSlice): Buffer {
  if (!('payload' in slice)) return Buffer.concat([Buffer.of(0), slice.digest]);
  const counts = Buffer.alloc(8);
  counts.writeUInt32BE(slice.opened, 0);
  counts.writeUInt32BE(slice.rows, 4);
  const size = Buffer.alloc(4);
  size.writeUInt32BE(slice.payload.length);
  return Buffer.concat([
    Buffer.of(1),
    slice.digest,
    slice.tenantId,
    counts,
    slice.prevDigest,
    size,
    slice.payload,
  ]);
}

/** Reads an export record by record. Throws invalid_input where the file is not one. */
export async function* readExport(path: string): AsyncGenerator<ExportRecord> {
  let rest = Buffer.alloc(0);
  let begun = false;
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
    rest = Buffer.concat([rest, chunk as Buffer]);
    if (!begun) {
      if (rest.length < MAGIC.length) continue;
      if (!rest.subarray(0, MAGIC.length).equals(MAGIC)) throw malformed('it does not begin as one');
      rest = rest.subarray(MAGIC.length);
      begun = true;
    }
    for (;;) {
      if (rest.length < 5) break;
      const length = rest.readUInt32BE(1);
      if (length > RECORD_BYTES_MAX) throw malformed('a record is too large');
      if (rest.length < 5 + length) break;
      yield decodeRecord(rest.readUInt8(0), rest.subarray(5, 5 + length));
      rest = rest.subarray(5 + length);
    }
  }
  if (!begun || rest.length > 0) throw malformed('it is cut off');
}

function decodeRecord(type: number, body: Buffer): ExportRecord {
  try {
    switch (type) {
      case numbers.trust:
        return { type: 'trust', pem: body.toString('utf8') };
      case numbers.certificate: {
        const revoked = Number(body.readBigUInt64BE(0));
        return { type: 'certificate', der: body.subarray(8), revokedAtMs: revoked === 0 ? null : revoked };
      }
      case numbers.head:
        return {
          type: 'head',
          nodeId: body.subarray(0, 16),
          epoch: body.readUInt32BE(16),
          seq: body.readBigUInt64BE(20),
          digest: body.subarray(28, 60),
        };
      case numbers.frame:
        return { type: 'frame', frame: decodeStoredFrame(body) };
      default:
        throw malformed('a record is of an unknown type');
    }
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    throw malformed('a record is cut off', cause);
  }
}

function decodeStoredFrame(body: Buffer): StoredFrame {
  const headerLength = body.readUInt32BE(0);
  let at = 4 + headerLength;
  const header = body.subarray(4, at);
  const signature = body.subarray(at, at + 64);
  const digest = body.subarray(at + 64, at + 96);
  const accepted = { atMs: Number(body.readBigUInt64BE(at + 96)), flags: body.readUInt16BE(at + 104) };
  const count = body.readUInt32BE(at + 106);
  at += 110;
  const slices: StoredSlice[] = [];
  for (let i = 0; i < count; i++) {
    const whole = body.readUInt8(at);
    const sliceDigest = body.subarray(at + 1, at + 33);
    at += 33;
    if (whole === 0) {
      slices.push({ digest: sliceDigest });
      continue;
    }
    const size = body.readUInt32BE(at + 56);
    slices.push({
      digest: sliceDigest,
      tenantId: body.subarray(at, at + 16),
      opened: body.readUInt32BE(at + 16),
      rows: body.readUInt32BE(at + 20),
      prevDigest: body.subarray(at + 24, at + 56),
      payload: body.subarray(at + 60, at + 60 + size),
    });
    at += 60 + size;
  }
  if (at !== body.length) throw malformed('a frame has a wrong length');
  return { header, signature, digest, accepted, slices };
}

function malformed(why: string, cause?: unknown): AppError {
  return new AppError('invalid_input', `this file is not a ledger export: ${why}`, {
    field: 'export',
    cause,
  });
}
