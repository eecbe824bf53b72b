import { createHash, createSign, generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { AppError } from '@penstock/domain/errors';
import {
  keyPairFromPem,
  makeCsr,
  newKeyPair,
  newSerial,
  privateKeyPem,
  publicKeyHash,
  publicKeyOfCsr,
} from './certificates.js';
import { fromServiceError, toStatus } from './errors.js';
import { formatJoinToken, joinTokenHash, newJoinTokenSecret, parseJoinToken } from './join-token.js';

/** A PKCS#10 request of any key, by hand: the library makes only what it knows. */
function requestOf(keys: {
  publicKey: import('node:crypto').KeyObject;
  privateKey: import('node:crypto').KeyObject;
}): Buffer {
  const der = (tag: number, ...parts: Buffer[]): Buffer => {
    const body = Buffer.concat(parts);
    const length =
      body.length < 128
        ? [body.length]
        : body.length < 256
          ? [0x81, body.length]
          : [0x82, body.length >> 8, body.length & 255];
    return Buffer.concat([Buffer.from([tag, ...length]), body]);
  };
  const spki = keys.publicKey.export({ format: 'der', type: 'spki' });
  const info = der(0x30, Buffer.from('020100', 'hex'), der(0x30), spki, Buffer.from('a000', 'hex'));
  const ecdsaSha256 = der(0x30, Buffer.from('06082a8648ce3d040302', 'hex'));
  const rsaSha256 = der(0x30, Buffer.from('06092a864886f70d01010b0500', 'hex'));
  const algorithm = keys.publicKey.asymmetricKeyType === 'rsa' ? rsaSha256 : ecdsaSha256;
  const signature = createSign('sha256').update(info).sign(keys.privateKey);
  return der(0x30, info, algorithm, der(0x03, Buffer.from([0]), signature));
}

describe('certificate requests', () => {
  test('a P-256 key that signed its request is taken', async () => {
    const keys = newKeyPair();
    for (const csr of [await makeCsr(keys), requestOf(keys)]) {
      expect(publicKeyHash(await publicKeyOfCsr(csr))).toEqual(publicKeyHash(keys.publicKey));
    }
  });

  test.each([
    ['P-384', () => generateKeyPairSync('ec', { namedCurve: 'secp384r1' })],
    ['P-521', () => generateKeyPairSync('ec', { namedCurve: 'secp521r1' })],
    ['P-224', () => generateKeyPairSync('ec', { namedCurve: 'secp224r1' })],
    ['secp256k1', () => generateKeyPairSync('ec', { namedCurve: 'secp256k1' })],
    ['RSA 2048', () => generateKeyPairSync('rsa', { modulusLength: 2048 })],
  ])('another key is refused: %s', async (_name, make) => {
    await expect(publicKeyOfCsr(requestOf(make()))).rejects.toThrow(/not P-256/);
  });

  test("a request signed by another key, or for somebody else's, is refused", async () => {
    const [mine, theirs] = [newKeyPair(), newKeyPair()];
    await expect(
      publicKeyOfCsr(requestOf({ publicKey: theirs.publicKey, privateKey: mine.privateKey })),
    ).rejects.toThrow(/signature is wrong/);
  });

  test('no bytes make it fail in any other way: 2,000 damaged requests', async () => {
    const good = await makeCsr(newKeyPair());
    let seed = 1;
    const random = (below: number): number => (seed = (seed * 48271) % 2147483647) % below;
    for (let i = 0; i < 2000; i += 1) {
      const bytes = Buffer.from(good.subarray(0, random(4) === 0 ? random(good.length) : good.length));
      for (let flips = 1 + random(3); flips > 0 && bytes.length > 0; flips -= 1) {
        const at = random(bytes.length);
        bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8));
      }
      await publicKeyOfCsr(bytes).catch((error: unknown) => {
        expect(error).toBeInstanceOf(AppError);
        expect((error as AppError).code).toBe('invalid_input');
      });
    }
  });
});

test('serials are 16 bytes in DER without padding', () => {
  for (let i = 0; i < 1000; i += 1) {
    const serial = newSerial();
    expect(serial).toHaveLength(16);
    expect((serial[0] ?? 0) & 0xc0).toBe(0x40);
  }
});

test('a key survives its text', () => {
  const keys = newKeyPair();
  expect(keyPairFromPem(privateKeyPem(keys)).privateKey.equals(keys.privateKey)).toBe(true);
});

describe('join tokens', () => {
  const token = {
    secret: newJoinTokenSecret(),
    rootFingerprint: 'ab'.repeat(32),
    enroll: 'nodes.example:8444',
    enforcement: 'nodes.example:8443',
    usage: '127.0.0.1:9',
  };
  test('survive their text, and the database holds only a hash', () => {
    for (const each of [token, { ...token, serverName: 'nodes.example' }])
      expect(parseJoinToken(formatJoinToken(each))).toEqual(each);
    expect(joinTokenHash(token.secret)).toEqual(createHash('sha256').update(token.secret).digest());
  });
  test('that are damaged are refused without being quoted', () => {
    const body = (value: unknown): string =>
      `pst1.${Buffer.from(JSON.stringify(value)).toString('base64url')}`;
    const k = token.secret.toString('base64url');
    const good = {
      k,
      ca: token.rootFingerprint,
      enroll: token.enroll,
      enforcement: token.enforcement,
      usage: token.usage,
    };
    const bad = [
      null,
      [],
      7,
      {},
      { ...good, k: 'short' },
      { ...good, ca: 'x' },
      { ...good, enroll: 'no port' },
      { ...good, usage: 7 },
      { ...good, server: '../' },
    ];
    for (const text of ['', 'pst1', formatJoinToken(token).slice(0, 80), ...bad.map(body)]) {
      let thrown: unknown;
      try {
        parseJoinToken(text);
      } catch (error) {
        thrown = error;
      }
      expect(thrown).toBeInstanceOf(AppError);
      expect((thrown as AppError).code).toBe('token_invalid');
      expect((thrown as AppError).message).not.toContain(k.slice(0, 10));
    }
  });
});

test('an error crosses as code, text, field and delay; its cause and anything unknown stay', () => {
  const error = new AppError('conflict', 'ü \u{1f600} "quoted"\n', {
    field: 'plan.name',
    retryAfterMs: 7,
    cause: new Error('secret'),
  });
  const status = toStatus(error);
  expect(JSON.stringify(status)).not.toContain('secret');
  const back = fromServiceError(Object.assign(new Error('x'), status));
  expect(back).toMatchObject({
    code: 'conflict',
    message: error.message,
    field: 'plan.name',
    retryAfterMs: 7,
  });
  const odd = { code: 14, details: 'no connection', metadata: toStatus(error).metadata.clone() };
  odd.metadata.set('penstock-error', '{"code":"made_up","message":"x"}');
  expect(fromServiceError(Object.assign(new Error('x'), odd)).code).toBe('unavailable');
});
