import { expect, test } from 'vitest';
import { humanBytes, parseBytes } from '../src/output.js';

test('bytes are read as people write them, in powers of a thousand', () => {
  for (const text of ['50GB', '50 gb', '50Gb', '50.0GB', '50000MB', '50000000000'])
    expect(parseBytes(text), text).toBe(50_000_000_000n);
  expect([parseBytes('1kB'), parseBytes('1KB'), parseBytes('7'), parseBytes('9 B')]).toEqual([
    1000n,
    1000n,
    7n,
    9n,
  ]);
  expect(parseBytes('unlimited')).toBeNull();
  for (const text of ['1GiB', '1T', '1e9', '-1GB', '', 'much', '1.2345GB', 'k'])
    expect(() => parseBytes(text), text).toThrow('is not a number of bytes');
  expect(humanBytes(parseBytes('1.5GB') ?? 0n)).toBe('1.50 GB');
});
