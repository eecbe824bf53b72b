import fc from 'fast-check';
import { expect, test } from 'vitest';
import { wireText } from '../src/http/wire-text.js';

/** What JSON.stringify writes, bigint as text. */
const plainly = (value: unknown): string =>
  JSON.stringify(value, (_key, field: unknown) => (typeof field === 'bigint' ? field.toString() : field));

const leaf = fc.oneof(
  ...[fc.string(), fc.integer(), fc.double(), fc.boolean(), fc.constant(null), fc.constant(undefined)],
  ...[fc.bigInt(), fc.date({ noInvalidDate: false })],
);
const anything = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    leaf,
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(fc.oneof(fc.string(), fc.constantFrom('__proto__', 'toJSON', 'constructor')), tie('value')),
  ),
}));

test('an answer is written as JSON writes it, whatever its fields are called, with bytes as text', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), anything.value), (value) => {
      expect(wireText(value)).toBe(plainly(value));
    }),
    { numRuns: 2_000 },
  );
});
