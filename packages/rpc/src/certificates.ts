// Makes keys, certificate requests and certificates (X.509 over P-256). Knows how, not whom: the certificate
// authority (apps/scheduler/src/identity) decides what is issued, the node-agent asks, testkit makes bad ones.
import 'reflect-metadata';
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  randomBytes,
  webcrypto,
} from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Pkcs10CertificateRequest,
  Pkcs10CertificateRequestGenerator,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
  type Extension,
  type JsonGeneralNames,
} from '@peculiar/x509';
import { AppError } from '@penstock/domain/errors';
import { SERIAL_BYTES } from './identity.js';

export interface KeyPair {
  privateKey: KeyObject;
  publicKey: KeyObject;
}

/** Who signs: the name that stands as issuer, and the key. */
export interface Signer {
  subject: string;
  keys: KeyPair;
}

export interface CertificateSpec {
  /** RFC 4514 text; for people only, no identity. */
  subject: string;
  publicKey: KeyObject;
  signer: Signer;
  notBefore: Date;
  notAfter: Date;
  names: JsonGeneralNames;
  usages: readonly ('server' | 'client')[];
  /** Present for a certificate authority: how many authorities may follow it. */
  authority?: { pathLength: number };
  /** 16 bytes; drawn when absent. */
  serial?: Buffer;
}

const P256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const usageOid = { server: '1.3.6.1.5.5.7.3.1', client: '1.3.6.1.5.5.7.3.2' } as const;
/** A request for a P-256 key is some 250 bytes. */
export const CSR_BYTES_MAX = 4096;

export function newKeyPair(): KeyPair {
  return generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
}

export function keyPairFromPem(pem: string): KeyPair {
  const privateKey = createPrivateKey(pem);
  return { privateKey, publicKey: createPublicKey(privateKey) };
}

export function privateKeyPem(keys: KeyPair): string {
  return keys.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString();
}

/** SHA-256 of the SubjectPublicKeyInfo: names a key whatever certificate it stands in. */
export function publicKeyHash(publicKey: KeyObject): Buffer {
  return createHash('sha256')
    .update(publicKey.export({ format: 'der', type: 'spki' }))
    .digest();
}

/** 16 random bytes whose first is 0x40–0x7f, so that DER neither pads nor shortens them. */
export function newSerial(): Buffer {
  const serial = randomBytes(SERIAL_BYTES);
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40;
  return serial;
}

/** DER PKCS#10 signed by the key. */
export async function makeCsr(keys: KeyPair): Promise<Buffer> {
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: 'CN=penstock node',
    keys: {
      privateKey: signingKey(keys.privateKey),
      publicKey: keys.publicKey.toCryptoKey(P256, true, ['verify']) as webcrypto.CryptoKey,
    },
    signingAlgorithm: P256,
  });
  return Buffer.from(request.rawData);
}

/**
 * The public key of a request whose own signature holds. Everything else in it is ignored. Throws invalid_input for
 * another curve or kind of key, a broken signature, or bytes that are no request.
 */
export async function publicKeyOfCsr(der: Uint8Array): Promise<KeyObject> {
  const refuse = (why: string, cause?: unknown): AppError =>
    new AppError('invalid_input', `the certificate request is refused: ${why}`, { field: 'csr', cause });
  if (der.length === 0 || der.length > CSR_BYTES_MAX) throw refuse('its size is implausible');
  let key: KeyObject;
  let holds: boolean;
  try {
    const request = new Pkcs10CertificateRequest(new Uint8Array(der));
    key = createPublicKey({ key: Buffer.from(request.publicKey.rawData), format: 'der', type: 'spki' });
    if (key.asymmetricKeyType !== 'ec' || key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') {
      throw refuse('its key is not P-256');
    }
    holds = await request.verify();
  } catch (error) {
    throw error instanceof AppError ? error : refuse('it cannot be read', error);
  }
  if (!holds) throw refuse('its signature is wrong');
  return key;
}

/** DER of a new certificate. */
export async function issueCertificate(spec: CertificateSpec): Promise<Buffer> {
  const spki = spec.publicKey.export({ format: 'der', type: 'spki' });
  const authority = spec.authority !== undefined;
  const extensions: Extension[] = [
    new BasicConstraintsExtension(authority, spec.authority?.pathLength, true),
    new KeyUsagesExtension(
      authority ? KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign : KeyUsageFlags.digitalSignature,
      true,
    ),
    await SubjectKeyIdentifierExtension.create(spki),
    await AuthorityKeyIdentifierExtension.create(
      spec.signer.keys.publicKey.export({ format: 'der', type: 'spki' }),
    ),
  ];
  if (spec.usages.length > 0)
    extensions.push(new ExtendedKeyUsageExtension(spec.usages.map((u) => usageOid[u])));
  if (spec.names.length > 0) extensions.push(new SubjectAlternativeNameExtension(spec.names));
  const certificate = await X509CertificateGenerator.create({
    serialNumber: (spec.serial ?? newSerial()).toString('hex'),
    subject: spec.subject,
    issuer: spec.signer.subject,
    notBefore: spec.notBefore,
    notAfter: spec.notAfter,
    publicKey: spki,
    signingKey: signingKey(spec.signer.keys.privateKey),
    signingAlgorithm: P256,
    extensions,
  });
  return Buffer.from(certificate.rawData);
}

/** Subject of a certificate in the form that a signer needs. */
export function subjectOf(der: Uint8Array): string {
  return new X509Certificate(new Uint8Array(der)).subject;
}

function signingKey(privateKey: KeyObject): webcrypto.CryptoKey {
  return privateKey.toCryptoKey(P256, false, ['sign']) as webcrypto.CryptoKey;
}
