// V03: the algorithm is ours to choose, not the token's. Confusions of the kinds that other libraries fell for are
// refused, and an installation that brings a symmetric key does not start.
import { createHmac, createPublicKey, generateKeyPairSync, randomBytes, type KeyObject } from 'node:crypto';
import { decodeJwt, decodeProtectedHeader, SignJWT, UnsecuredJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadConfig } from '@penstock/service/config';
import { configSchema } from '../../apps/control-api/src/config.js';
import { createWorld, type World } from '../../apps/control-api/test/world.js';

let world: World;
let token: string;

beforeAll(async () => {
  world = await createWorld();
  ({ token } = await world.person(world.platform, 'owner'));
});
afterAll(() => world.close());

const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');

describe('V03 algorithms are not confused', () => {
  test('none, HS256 keyed by the public key in any writing, RSA, other curves, no alg: 401', async () => {
    const [, payload = '', signature = ''] = token.split('.');
    const header = decodeProtectedHeader(token);
    const claims = decodeJwt(token);
    const publicKey = createPublicKey(world.context.config.JWT_KEY);
    const pem = publicKey.export({ format: 'pem', type: 'spki' }).toString();
    const jwk = JSON.stringify(publicKey.export({ format: 'jwk' }));
    const served = (await world.ask('GET', '/.well-known/jwks.json')).text;
    const secrets = {
      ...{ PEM: pem, trimmed: pem.trim(), spaces: `  ${pem}`, CRLF: pem.replaceAll('\n', '\r\n') },
      ...{ 'two newlines': `${pem}\n`, JWK: jwk, JWKS: served, empty: '' },
      DER: publicKey.export({ format: 'der', type: 'spki' }),
    };
    const forged: Record<string, string> = {};
    for (const [name, secret] of Object.entries(secrets)) {
      for (const [alg, hash] of [
        ['HS256', 'sha256'],
        ['HS384', 'sha384'],
        ['HS512', 'sha512'],
      ] as const) {
        const text = `${part({ ...header, alg })}.${payload}`;
        forged[`${alg} keyed by ${name}`] =
          `${text}.${createHmac(hash, secret).update(text).digest('base64url')}`;
      }
      const text = `${part(header)}.${payload}`;
      forged[`ES256 said, HMAC by ${name}`] =
        `${text}.${createHmac('sha512', secret).update(text).digest('base64url')}`;
    }
    for (const alg of [
      'none',
      'None',
      'NONE',
      'nOnE',
      '',
      ' ES256',
      'ES256 ',
      'es256',
      null,
      0,
      ['ES256'],
      {},
    ]) {
      forged[`alg ${JSON.stringify(alg)} with our signature`] =
        `${part({ ...header, alg })}.${payload}.${signature}`;
      forged[`alg ${JSON.stringify(alg)} without`] = `${part({ ...header, alg })}.${payload}.`;
    }
    const { alg: _alg, ...withoutAlg } = header;
    expect(_alg).toBe('ES256');
    forged['no alg'] = `${part(withoutAlg)}.${payload}.${signature}`;
    forged['an unsecured one'] = new UnsecuredJWT(claims).encode();
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
    const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey;
    const p521 = generateKeyPairSync('ec', { namedCurve: 'P-521' }).privateKey;
    const k256 = generateKeyPairSync('ed25519').privateKey;
    const others: [string, KeyObject][] = [
      ...(['RS256', 'RS512', 'PS256'] as const).map((alg): [string, KeyObject] => [alg, rsa]),
      ...([
        ['ES384', p384],
        ['ES512', p521],
        ['EdDSA', k256],
      ] as [string, KeyObject][]),
    ];
    for (const [alg, key] of others) {
      const signed = await new SignJWT(claims).setProtectedHeader({ ...header, alg }).sign(key);
      forged[alg] = signed;
      const [, body = '', proof = ''] = signed.split('.');
      forged[`${alg} that says ES256`] = `${part(header)}.${body}.${proof}`;
    }
    for (const [name, text] of Object.entries(forged)) {
      const answer = await world.ask('GET', '/api/v1/auth/me', { as: text });
      expect(answer.status, name).toBe(401);
    }
    expect(Object.keys(forged).length).toBeGreaterThan(60);
    expect((await world.ask('GET', '/api/v1/auth/me', { as: token })).status).toBe(200);
  });

  test('a symmetric, RSA, other-curve or public key for signing: no start', () => {
    const pem = (key: KeyObject): string => key.export({ format: 'pem', type: 'pkcs8' }).toString();
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const wrong = {
      ...{ 'a symmetric key': randomBytes(32).toString('base64'), hex: randomBytes(64).toString('hex') },
      ...{ 'an RSA key': pem(rsa.privateKey) },
      'another curve': pem(generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).privateKey),
      'a public key': p256.publicKey.export({ format: 'pem', type: 'spki' }).toString(),
      'a symmetric JWK': JSON.stringify({
        kty: 'oct',
        k: randomBytes(32).toString('base64url'),
        alg: 'HS256',
      }),
    };
    for (const [name, JWT_KEY] of Object.entries(wrong)) {
      for (const NODE_ENV of ['production', 'development']) {
        expect(() => loadConfig(configSchema, { NODE_ENV, JWT_KEY }), name).toThrow(
          /JWT_KEY is not valid: expected a P-256 private key/,
        );
      }
    }
  });
});
