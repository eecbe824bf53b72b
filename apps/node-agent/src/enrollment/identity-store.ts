// What this node is: its key, its certificate, whom it trusts and where it connects, in AGENT_DIR/identity (0700).
//   edge.json        addresses of the edges and the root's fingerprint, from the join token
//   root.pem         the trust root
//   pending.key      the key of a request in flight: written before the request, so a retry asks with the same key
//   <serial>/        node.key and node.pem of one certificate, never changed once written
//   current          symlink to the directory in use; replaced by one rename
// Invariant: a crash at any point leaves either the old pair or the new one, never a key with another's certificate.
import {
  chmodSync,
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { X509Certificate, type KeyObject } from 'node:crypto';
import { join } from 'node:path';
import { AppError } from '@penstock/domain/errors';
import type { NodeId } from '@penstock/domain/ids';
import { keyPairFromPem, newKeyPair, privateKeyPem, type KeyPair } from '@penstock/rpc/certificates';
import { readPeer } from '@penstock/rpc/identity';
import { certificatesOf, leadsToRoot, loadTls, pemOf, requirePrivate } from '@penstock/rpc/trust';
import type { TlsFiles, TlsMaterial } from '@penstock/rpc/trust';

export interface Edge {
  enroll: string;
  enforcement: string;
  usage: string;
  serverName?: string;
  /** SHA-256 of the trust root's DER, hex. */
  rootFingerprint: string;
}

export interface NodeIdentity {
  readonly nodeId: NodeId;
  /** DER of the leaf. */
  readonly certificate: Buffer;
  /** 16 bytes; stands in every frame that this key signs. */
  readonly serial: Buffer;
  readonly privateKey: KeyObject;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly tls: Required<TlsMaterial>;
  readonly tlsFiles: TlsFiles;
}

export class IdentityStore {
  private loaded: NodeIdentity | null = null;
  private readonly directory: string;

  /** `agentDir`: AGENT_DIR. Throws failed_precondition when what is there cannot be used. */
  constructor(
    agentDir: string,
    private readonly trustDomain: string,
  ) {
    this.directory = join(agentDir, 'identity');
    mkdirSync(this.directory, { recursive: true, mode: 0o700 });
    chmodSync(this.directory, 0o700);
    if (existsSync(this.path('current'))) this.loaded = this.read(readlinkSync(this.path('current')));
  }

  /** null before the first enrolment. */
  get current(): NodeIdentity | null {
    return this.loaded;
  }

  readEdge(): Edge | null {
    if (!existsSync(this.path('edge.json'))) return null;
    return JSON.parse(readFileSync(this.path('edge.json'), 'utf8')) as Edge;
  }

  writeEdge(edge: Edge): void {
    this.write('edge.json', `${JSON.stringify(edge, null, 2)}\n`);
  }

  /** The key of the request in flight; made and on disk before this returns. */
  pendingKey(): KeyPair {
    const path = this.path('pending.key');
    if (existsSync(path)) {
      requirePrivate(path);
      return keyPairFromPem(readFileSync(path, 'utf8'));
    }
    const keys = newKeyPair();
    this.write('pending.key', privateKeyPem(keys));
    return keys;
  }

  /**
   * Takes a certificate for `keys` into use: checked against the root, written, swapped in, older ones removed.
   * Throws certificate_invalid when it is not for this key, not from this root, or for another node than before.
   * This machine's clock has no say: the server has just issued it, and a wrong clock must not brick a node.
   */
  adopt(keys: KeyPair, certificates: readonly Uint8Array[], rootPem: string): NodeIdentity {
    const identity = this.check(keys, certificates, rootPem);
    const name = identity.serial.toString('hex');
    this.write('root.pem', rootPem);
    mkdirSync(this.path(name), { recursive: true, mode: 0o700 });
    this.write(join(name, 'node.key'), identity.tls.key);
    this.write(join(name, 'node.pem'), identity.tls.cert);
    const link = this.path('current.new');
    rmSync(link, { force: true });
    symlinkSync(name, link);
    renameSync(link, this.path('current'));
    this.syncDirectory('.');
    this.loaded = identity;
    rmSync(this.path('pending.key'), { force: true });
    for (const entry of readdirSync(this.directory, { withFileTypes: true })) {
      if (entry.isDirectory() && entry.name !== name) rmSync(this.path(entry.name), { recursive: true });
    }
    return identity;
  }

  private check(keys: KeyPair, certificates: readonly Uint8Array[], rootPem: string): NodeIdentity {
    const refuse = (why: string): AppError =>
      new AppError('certificate_invalid', `the certificate that was given is refused: ${why}`);
    let identity: NodeIdentity;
    let trusted: boolean;
    try {
      const [leaf, ...chain] = certificates.map((der) => new X509Certificate(der));
      if (leaf === undefined) throw refuse('there is none');
      if (!leaf.checkPrivateKey(keys.privateKey)) throw refuse('it is for another key');
      trusted = leadsToRoot(leaf, loadTls({ root: rootPem + pemOf(chain) }, 0), leaf.validFromDate.getTime());
      identity = this.describe(leaf, {
        cert: pemOf([leaf, ...chain]),
        key: privateKeyPem(keys),
        root: rootPem,
      });
    } catch (error) {
      throw error instanceof AppError ? error : refuse('it cannot be read');
    }
    if (!trusted) throw refuse('it does not lead to the root');
    if (this.loaded !== null && this.loaded.nodeId !== identity.nodeId) {
      throw refuse(`it is for another node; this directory belongs to node ${this.loaded.nodeId}`);
    }
    return identity;
  }

  private read(name: string): NodeIdentity {
    const [certFile, keyFile] = [this.path(name, 'node.pem'), this.path(name, 'node.key')];
    requirePrivate(keyFile);
    const tls = {
      cert: readFileSync(certFile, 'utf8'),
      key: readFileSync(keyFile, 'utf8'),
      root: readFileSync(this.path('root.pem'), 'utf8'),
    };
    loadTls(tls, 0);
    const leaf = certificatesOf(tls.cert, certFile)[0];
    if (leaf === undefined) throw new AppError('failed_precondition', `${certFile} holds no certificate`);
    // Expired or not: what it says is read, what to do about it is decided by renewal.ts.
    return this.describe(leaf, tls);
  }

  private describe(leaf: X509Certificate, tls: Required<TlsMaterial>): NodeIdentity {
    const nowMs = leaf.validFromDate.getTime();
    const peer = readPeer(leaf, { trustDomain: this.trustDomain, usage: 'client', nowMs });
    if (typeof peer === 'string' || peer.kind !== 'node') {
      throw new AppError('certificate_invalid', `the node's certificate is refused: ${String(peer)}`);
    }
    const name = peer.serial.toString('hex');
    return {
      nodeId: peer.nodeId,
      certificate: peer.certificate,
      serial: peer.serial,
      privateKey: keyPairFromPem(tls.key).privateKey,
      notBefore: leaf.validFromDate,
      notAfter: leaf.validToDate,
      tls,
      tlsFiles: {
        certFile: this.path(name, 'node.pem'),
        keyFile: this.path(name, 'node.key'),
        rootFile: this.path('root.pem'),
      },
    };
  }

  private path(...parts: string[]): string {
    return join(this.directory, ...parts);
  }

  /** Whole or not at all, and on disk when this returns. Mode 0600. */
  private write(name: string, text: string): void {
    const path = this.path(name);
    const temporary = `${path}.new`;
    rmSync(temporary, { force: true });
    const file = openSync(temporary, 'wx', 0o600);
    try {
      writeSync(file, text);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
    this.syncDirectory(join(name, '..'));
  }

  private syncDirectory(name: string): void {
    const directory = openSync(this.path(name), 'r');
    try {
      fsyncSync(directory);
    } finally {
      closeSync(directory);
    }
  }
}
