// One-dimensional arrays as PostgreSQL's binary protocol reads them. Sets go to the server as binary parameters: a
// quarter cheaper than array text for numbers, and no hex for bytes. Used by the stores; one buffer a parameter.
const OID = { bytea: 17, int8: 20, int2: 21, int4: 23, text: 25, timestamptz: 1184, uuid: 2950 } as const;

export type ElementType = keyof typeof OID;

const HEADER_BYTES = 20;
/** PostgreSQL counts microseconds from 2000-01-01. */
const EPOCH_2000_MS = 946_684_800_000;
const WORD = 4_294_967_296;

function header(type: ElementType, count: number, bodyBytes: number): Buffer {
  const out = Buffer.allocUnsafe(count === 0 ? 12 : HEADER_BYTES + bodyBytes);
  out.writeInt32BE(count === 0 ? 0 : 1, 0);
  out.writeInt32BE(0, 4);
  out.writeInt32BE(OID[type], 8);
  if (count > 0) {
    out.writeInt32BE(count, 12);
    out.writeInt32BE(1, 16);
  }
  return out;
}

/** An array of fixed-width elements, filled in order; `buffer` is the parameter once `count` elements were pushed. */
export class FixedArray {
  readonly buffer: Buffer;
  private readonly view: DataView;
  private readonly bytes: number;
  private at = HEADER_BYTES;

  constructor(type: 'int8' | 'int4' | 'int2' | 'uuid' | 'timestamptz', count: number) {
    this.bytes = type === 'uuid' ? 16 : type === 'int4' ? 4 : type === 'int2' ? 2 : 8;
    this.buffer = header(type, count, count * (4 + this.bytes));
    this.view = new DataView(this.buffer.buffer, this.buffer.byteOffset, this.buffer.length);
  }

  /** 16 bytes of `source` at `offset`. */
  uuid(source: Uint8Array, offset = 0): void {
    this.view.setInt32(this.at, 16);
    this.buffer.set(source.subarray(offset, offset + 16), this.at + 4);
    this.at += 20;
  }

  int8(value: bigint): void {
    this.view.setInt32(this.at, 8);
    this.view.setBigInt64(this.at + 4, value);
    this.at += 12;
  }

  /** Two 32-bit halves, most significant first. */
  words(high: number, low: number): void {
    this.view.setInt32(this.at, 8);
    this.view.setUint32(this.at + 4, high);
    this.view.setUint32(this.at + 8, low);
    this.at += 12;
  }

  /** A whole number from 0 to 2^53. */
  count(value: number): void {
    this.words(Math.floor(value / WORD), value % WORD);
  }

  int4(value: number): void {
    this.view.setInt32(this.at, 4);
    this.view.setInt32(this.at + 4, value);
    this.at += 8;
  }

  int2(value: number): void {
    this.view.setInt32(this.at, 2);
    this.view.setInt16(this.at + 4, value);
    this.at += 6;
  }

  /** A timestamptz from milliseconds since 1970. */
  time(ms: number): void {
    this.int8(BigInt(Math.round(ms) - EPOCH_2000_MS) * 1000n);
  }
}

/** bytea[] or text[]; null elements are NULL. */
export function variableArray(type: 'bytea' | 'text', values: readonly (Uint8Array | null)[]): Buffer {
  let body = 0;
  let nulls = 0;
  for (const value of values) {
    body += 4 + (value?.length ?? 0);
    if (value === null) nulls = 1;
  }
  const out = header(type, values.length, body);
  out.writeInt32BE(nulls, 4);
  let at = HEADER_BYTES;
  for (const value of values) {
    out.writeInt32BE(value === null ? -1 : value.length, at);
    at += 4;
    if (value !== null) {
      out.set(value, at);
      at += value.length;
    }
  }
  return out;
}
