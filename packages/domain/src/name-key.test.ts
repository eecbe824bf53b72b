import fc from 'fast-check';
import { expect, test } from 'vitest';
import { nameKey } from './name-key.js';

test.each([
  ['Nord Net', 'nord net'],
  ['Nord Net', '  NORD \u00a0 net\t'],
  ['Nord Net', 'Ｎｏｒｄ Ｎｅｔ'],
  ['Nord Net', 'N\u043erd N\u0435t'],
  ['Nord Net', 'No\u200brd\u00ad Net\ufe0f'],
  ['office', 'oﬃce'],
  ['Straße', 'STRASSE'],
  ['Müller', 'Mu\u0308ller'],
  ['paypal', 'раураӏ'],
  ['ΟΔΟΣ', 'οδος'],
  ['Admin', 'adm\u0131n'],
])('%s and %s are one name', (a, b) => {
  expect(nameKey(a)).toBe(nameKey(b));
});

test.each([
  ['Muller', 'Müller'],
  ['node 1', 'node l'],
  ['node 10', 'node 1'],
  ['Nord', 'Süd'],
  ['a b', 'ab'],
])('%s and %s are two names', (a, b) => {
  expect(nameKey(a)).not.toBe(nameKey(b));
});

test('a key is its own key, and case never tells names apart', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 40 }), (text) => {
      const key = nameKey(text);
      expect(nameKey(key)).toBe(key);
      expect(nameKey(text.toUpperCase())).toBe(key);
    }),
    { numRuns: 2_000 },
  );
});
