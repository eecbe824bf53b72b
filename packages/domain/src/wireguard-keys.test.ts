import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  isWireguardKey,
  newWireguardPrivateKey,
  wireguardKeyBytes,
  wireguardPublicKey,
} from './wireguard-keys.js';

test('the public key of a private key is that of RFC 7748 (6.1, Bob)', () => {
  const base64 = (hex: string): string => Buffer.from(hex, 'hex').toString('base64');
  const bob = '5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb';
  const bobPublic = 'de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f';
  expect(wireguardPublicKey(base64(bob))).toBe(base64(bobPublic));
});

test('a new private key is clamped and is a key', () => {
  for (let turn = 0; turn < 50; turn += 1) {
    const bytes = wireguardKeyBytes(newWireguardPrivateKey(), 'key');
    expect((bytes[0] ?? 0) & 7).toBe(0);
    expect((bytes[31] ?? 0) & 0xc0).toBe(0x40);
    expect(isWireguardKey(wireguardPublicKey(bytes.toString('base64')))).toBe(true);
  }
});

test('text that is not a key is refused without being quoted', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.string(), fc.base64String(), fc.base64String({ minLength: 44, maxLength: 44 })),
      (text) => {
        const exact =
          Buffer.from(text, 'base64').length === 32 &&
          Buffer.from(text, 'base64').toString('base64') === text;
        expect(isWireguardKey(text)).toBe(exact);
        if (!exact)
          expect(() => wireguardKeyBytes(text, 'peer.key')).toThrow(/^peer\.key must be 32 bytes in base64/);
      },
    ),
    { numRuns: 2_000 },
  );
});
