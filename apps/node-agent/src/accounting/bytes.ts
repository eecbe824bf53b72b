// Reading and writing of journal bodies: big-endian, bounds checked. A reader never looks past its end and never
// allocates by a length it has not checked.
import { AppError } from '@penstock/domain/errors';

export function badRecord(message: string): AppError {
  return new AppError('frame_malformed', message, { field: 'record' });
}

export class ByteReader {
  #at = 0;

  constructor(private readonly bytes: Buffer) {}

  get left(): number {
    return this.bytes.length - this.#at;
  }

  /** A view of the next `length` bytes. Throws frame_malformed when there are fewer. */
  take(length: number): Buffer {
    if (length > this.left) throw badRecord('record is cut off');
    const start = this.#at;
    this.#at += length;
    return this.bytes.subarray(start, this.#at);
  }

  u8(): number {
    return this.take(1).readUInt8(0);
  }

  u32(): number {
    return this.take(4).readUInt32BE(0);
  }

  u64(): bigint {
    return this.take(8).readBigUInt64BE(0);
  }

  /** A time in ms since 1970. */
  ms(): number {
    const value = this.u64();
    if (value > 8_640_000_000_000_000n) throw badRecord('time is out of range');
    return Number(value);
  }

  /** 0 or 1, nothing else. */
  flag(): boolean {
    const value = this.u8();
    if (value > 1) throw badRecord('flag is neither 0 nor 1');
    return value === 1;
  }

  /** A count of items of `itemBytes` each, which must still fit. */
  count(itemBytes: number): number {
    const count = this.u32();
    if (count * itemBytes > this.left) throw badRecord('count is larger than the record');
    return count;
  }

  rest(): Buffer {
    return this.take(this.left);
  }

  end(): void {
    if (this.left !== 0) throw badRecord('bytes after the end of the record');
  }
}

export class ByteWriter {
  readonly #parts: Buffer[] = [];

  raw(bytes: Uint8Array): this {
    this.#parts.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    return this;
  }

  u8(value: number): this {
    return this.raw(Buffer.of(value));
  }

  u32(value: number): this {
    const out = Buffer.allocUnsafe(4);
    out.writeUInt32BE(value, 0);
    return this.raw(out);
  }

  u64(value: bigint): this {
    const out = Buffer.allocUnsafe(8);
    out.writeBigUInt64BE(value, 0);
    return this.raw(out);
  }

  ms(value: number): this {
    return this.u64(BigInt(Math.max(0, Math.round(value))));
  }

  done(): Buffer {
    return Buffer.concat(this.#parts);
  }
}
