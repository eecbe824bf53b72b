import { crc32, deflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { unzipFile } from './zip.js';

/** An archive with one file, as release tools write it. */
function zip(name: string, content: Buffer, deflate: boolean): Buffer {
  const body = deflate ? deflateRawSync(content) : content;
  const nameBytes = Buffer.from(name);
  const fields = Buffer.alloc(26);
  fields.writeUInt16LE(20, 0);
  fields.writeUInt16LE(deflate ? 8 : 0, 4);
  fields.writeUInt32LE(crc32(content), 10);
  fields.writeUInt32LE(body.length, 14);
  fields.writeUInt32LE(content.length, 18);
  fields.writeUInt16LE(nameBytes.length, 22);
  const local = Buffer.concat([Buffer.from('504b0304', 'hex'), fields, nameBytes, body]);
  const entry = Buffer.alloc(16);
  const directory = Buffer.concat([
    Buffer.from('504b01021400', 'hex'),
    fields,
    entry.subarray(0, 14),
    nameBytes,
  ]);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(1, 8);
  end.writeUInt16LE(1, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(local.length, 16);
  return Buffer.concat([local, directory, end]);
}

test('a stored and a deflated file come out as they went in', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 5000 }), fc.boolean(), (bytes, deflate) => {
      const content = Buffer.from(bytes);
      expect(unzipFile(zip('xray', content, deflate), 'xray').equals(content)).toBe(true);
    }),
  );
});

test('a damaged archive is refused, never a crash', () => {
  const good = zip('xray', Buffer.from('x'.repeat(3000)), true);
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.nat(255), (at, value) => {
      const damaged = Buffer.from(good);
      damaged[at] = value;
      try {
        unzipFile(damaged, 'xray');
      } catch (error) {
        expect(error).toMatchObject({ code: 'invalid_input' });
      }
    }),
    { numRuns: 2000 },
  );
  expect(() => unzipFile(good, 'other')).toThrow(/no other/);
  expect(() => unzipFile(Buffer.alloc(0), 'xray')).toThrow(/damaged|directory/);
});
