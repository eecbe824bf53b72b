import { expect, it } from 'vitest';
import fc from 'fast-check';
import { accessDigest, stateDigest } from '@penstock/ledger/state-digest';
import { HeldEntries } from './held-entries.js';

const key = fc.integer({ min: 0, max: 40 }).map((n) => n.toString(16).padStart(32, '0'));
const access = fc.uint8Array({ minLength: 1, maxLength: 8 }).map((bytes) => Buffer.from(bytes));

it('gives the digest that both sides agreed on, after any changes', () => {
  fc.assert(
    fc.property(
      fc.dictionary(key, access),
      fc.array(fc.tuple(key, fc.option(access)), { maxLength: 200 }),
      access,
      (start, changes, config) => {
        const plain = new Map(
          Object.entries(start).map(([k, a]) => [k, accessDigest(Buffer.from(k, 'hex'), a)]),
        );
        const held = new HeldEntries(plain);
        for (const [k, a] of changes) {
          if (a === null) {
            held.delete(k);
            plain.delete(k);
          } else {
            const digest = accessDigest(Buffer.from(k, 'hex'), a);
            held.set(k, digest);
            plain.set(k, digest);
          }
          expect(held.get(k)).toEqual(plain.get(k));
        }
        expect(held.size).toBe(plain.size);
        expect(held.digest(config)).toEqual(stateDigest(config, plain));
      },
    ),
  );
});
