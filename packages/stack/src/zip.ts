// Takes one file out of a ZIP archive whose checksum was verified before: stored and deflated entries with sizes in
// the directory, which is what release archives hold. Pure. Called by engine-get.ts.
import { inflateRawSync } from 'node:zlib';
import { AppError } from '@penstock/domain/errors';

const endSignature = 0x06054b50;
const entrySignature = 0x02014b50;
const localSignature = 0x04034b50;
const endBytes = 22;
const commentBytesMax = 65_535;
const fileBytesMax = 256 * 1024 * 1024;

/** Content of `name` in the archive; throws invalid_input when the archive is damaged or has no such file. */
export function unzipFile(archive: Buffer, name: string): Buffer {
  try {
    return extract(archive, name);
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw new AppError('invalid_input', 'The archive is damaged.', { cause: error });
  }
}

function extract(archive: Buffer, name: string): Buffer {
  let end = archive.length - endBytes;
  const lowest = Math.max(0, end - commentBytesMax);
  while (end >= lowest && archive.readUInt32LE(end) !== endSignature) end -= 1;
  if (end < lowest) throw new AppError('invalid_input', 'The archive has no directory.');
  const count = archive.readUInt16LE(end + 10);
  let at = archive.readUInt32LE(end + 16);
  for (let index = 0; index < count; index += 1) {
    if (archive.readUInt32LE(at) !== entrySignature) break;
    const nameBytes = archive.readUInt16LE(at + 28);
    const skip = archive.readUInt16LE(at + 30) + archive.readUInt16LE(at + 32);
    if (archive.toString('utf8', at + 46, at + 46 + nameBytes) === name) return content(archive, at);
    at += 46 + nameBytes + skip;
  }
  throw new AppError('invalid_input', `The archive has no ${name}.`);
}

function content(archive: Buffer, entry: number): Buffer {
  const method = archive.readUInt16LE(entry + 10);
  const packed = archive.readUInt32LE(entry + 20);
  const size = archive.readUInt32LE(entry + 24);
  const local = archive.readUInt32LE(entry + 42);
  if (size > fileBytesMax || archive.readUInt32LE(local) !== localSignature) {
    throw new AppError('invalid_input', 'The archive is damaged.');
  }
  const start = local + 30 + archive.readUInt16LE(local + 26) + archive.readUInt16LE(local + 28);
  const bytes = archive.subarray(start, start + packed);
  const plain = method === 8 ? inflateRawSync(bytes, { maxOutputLength: fileBytesMax }) : bytes;
  if ((method !== 0 && method !== 8) || plain.length !== size) {
    throw new AppError('invalid_input', 'The archive is damaged.');
  }
  return plain;
}
