// A certificate authority for tests: root → issuing → leaves, as the real one makes them, and every deviation that a
// test wants to see refused. Certificates are real; only who signs them is the test's.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { KeyObject } from 'node:crypto';
import { issueCertificate, newKeyPair, newSerial, privateKeyPem } from '@penstock/rpc/certificates';
import type { CertificateSpec, KeyPair, Signer } from '@penstock/rpc/certificates';
import { nodeUri, serviceUri, type ServiceName } from '@penstock/rpc/identity';
import { pemOf, type TlsFiles, type TlsMaterial } from '@penstock/rpc/trust';
import type { NodeId } from '@penstock/domain/ids';

export interface TestAuthority extends Signer {
  certificate: Buffer;
}

export interface TestIdentity {
  /** DER. */
  certificate: Buffer;
  serial: Buffer;
  keys: { privateKey: KeyObject; publicKey: KeyObject };
  tls: Required<TlsMaterial>;
}

/** What may differ from a good certificate. */
export type Deviation = Partial<Omit<CertificateSpec, 'publicKey' | 'signer'>> & {
  keys?: KeyPair;
  signer?: TestAuthority;
  /** Certificates sent after the leaf; the issuing one when absent. */
  chain?: Buffer[];
};

export interface TestTrust {
  trustDomain: string;
  root: TestAuthority;
  issuing: TestAuthority;
  /** Root and issuing certificate, PEM: the trust file. */
  trustPem: string;
  service(name: ServiceName, deviation?: Deviation): Promise<TestIdentity>;
  node(nodeId: NodeId, deviation?: Deviation): Promise<TestIdentity>;
  /** A leaf of which nothing is preset but the dates. */
  leaf(deviation: Deviation): Promise<TestIdentity>;
  /** Another authority below `parent`. */
  authority(parent: TestAuthority, subject: string, pathLength: number): Promise<TestAuthority>;
}

const HOUR_MS = 3_600_000;

/** `nowMs`: when the certificates are good; five minutes before until a day after. */
export async function createTestTrust(
  trustDomain = 'penstock.test',
  nowMs: number = Date.now(),
): Promise<TestTrust> {
  const dates = { notBefore: new Date(nowMs - 5 * 60_000), notAfter: new Date(nowMs + 24 * HOUR_MS) };
  const makeAuthority = async (
    subject: string,
    parent: Signer | undefined,
    pathLength: number,
  ): Promise<TestAuthority> => {
    const keys = newKeyPair();
    const certificate = await issueCertificate({
      subject,
      publicKey: keys.publicKey,
      signer: parent ?? { subject, keys },
      ...dates,
      names: [],
      usages: [],
      authority: { pathLength },
    });
    return { subject, keys, certificate };
  };
  const root = await makeAuthority('CN=test root', undefined, 1);
  const issuing = await makeAuthority('CN=test issuing', root, 0);
  const trustPem = pemOf([root.certificate, issuing.certificate]);

  const leaf = async (deviation: Deviation): Promise<TestIdentity> => {
    const { keys = newKeyPair(), signer = issuing, chain = [signer.certificate], ...rest } = deviation;
    const serial = rest.serial ?? newSerial();
    const certificate = await issueCertificate({
      subject: 'CN=test',
      publicKey: keys.publicKey,
      signer,
      ...dates,
      names: [],
      usages: [],
      ...rest,
      serial,
    });
    const tls = { cert: pemOf([certificate, ...chain]), key: privateKeyPem(keys), root: trustPem };
    return { certificate, serial, keys, tls };
  };
  return {
    trustDomain,
    root,
    issuing,
    trustPem,
    leaf,
    authority: (parent, subject, pathLength) => makeAuthority(subject, parent, pathLength),
    service: (name, deviation = {}) =>
      leaf({
        names: [
          { type: 'url', value: serviceUri(trustDomain, name) },
          { type: 'dns', value: 'localhost' },
        ],
        usages: ['server', 'client'],
        ...deviation,
      }),
    node: (nodeId, deviation = {}) =>
      leaf({
        names: [{ type: 'url', value: nodeUri(trustDomain, nodeId) }],
        usages: ['client'],
        ...deviation,
      }),
  };
}

/** Writes an identity as the three files that a process reads; the key 0600. */
export function writeTlsFiles(directory: string, identity: TestIdentity): TlsFiles {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const files = {
    certFile: join(directory, 'cert.pem'),
    keyFile: join(directory, 'key.pem'),
    rootFile: join(directory, 'root.pem'),
  };
  writeFileSync(files.certFile, identity.tls.cert);
  writeFileSync(files.keyFile, identity.tls.key, { mode: 0o600 });
  writeFileSync(files.rootFile, identity.tls.root);
  return files;
}
