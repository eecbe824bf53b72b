// Key, certificate chain and trust of a process, from files or memory. Owns three rules: a key that others can read is
// refused, a key that does not fit its certificate is refused, and files that changed are used for new connections.
// The trust file holds roots (self-signed: what TLS trusts) and may hold issuing certificates, which are only used to
// build the path of a certificate that arrives without its chain (Caddy's header).
import { readFileSync, statSync } from 'node:fs';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { AppError } from '@penstock/domain/errors';
import { systemClock, type Clock } from '@penstock/domain/clock';
import type { Logger } from '@penstock/service/logger';

export interface TlsFiles {
  /** PEM, leaf first. */
  certFile: string;
  /** PEM PKCS#8; mode 0600 or stricter. */
  keyFile: string;
  /** PEM, roots and issuing certificates in any order. */
  rootFile: string;
}

/** PEM texts. Without `cert` and `key` only a client of the enrollment edge can be made. */
export interface TlsMaterial {
  cert?: string;
  key?: string;
  root: string;
}

export type TlsSource = TlsFiles | TlsMaterial | (() => TlsMaterial);

/** Trust in a form that can be checked against. */
export interface LoadedTls {
  /** Grows whenever the material changed. */
  version: number;
  cert: string | undefined;
  key: string | undefined;
  anchors: X509Certificate[];
  issuers: X509Certificate[];
  /** What TLS trusts: the self-signed ones only. */
  anchorsPem: string;
}

/** Files are looked at no more often than this. */
const FILES_CHECK_MS = 1000;
const CERTIFICATES_MAX = 16;
const PEM_BLOCK = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;

/** All certificates of a PEM text; throws failed_precondition naming `what`. */
export function certificatesOf(pem: string, what: string): X509Certificate[] {
  const blocks = pem.match(PEM_BLOCK) ?? [];
  if (blocks.length === 0 || blocks.length > CERTIFICATES_MAX) {
    throw new AppError(
      'failed_precondition',
      `${what} holds ${blocks.length} certificates, expected 1–${CERTIFICATES_MAX}`,
    );
  }
  try {
    return blocks.map((block) => new X509Certificate(block));
  } catch (error) {
    throw new AppError('failed_precondition', `${what} holds a certificate that cannot be read`, {
      cause: error,
    });
  }
}

export function pemOf(certificates: readonly (X509Certificate | Uint8Array)[]): string {
  return certificates
    .map((c) => (c instanceof X509Certificate ? c : new X509Certificate(c)).toString())
    .join('');
}

/** Reads the three files; throws failed_precondition with one sentence that says which and why. */
export function readTlsFiles(files: TlsFiles): TlsMaterial {
  requirePrivate(files.keyFile);
  const read = (path: string): string => {
    try {
      return readFileSync(path, 'utf8');
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
      throw new AppError('failed_precondition', `${path} cannot be read (${code})`, { cause: error });
    }
  };
  return { cert: read(files.certFile), key: read(files.keyFile), root: read(files.rootFile) };
}

/** Refuses a key file that group or others may read or write. */
export function requirePrivate(keyFile: string): void {
  let mode: number;
  try {
    mode = statSync(keyFile).mode & 0o777;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
    throw new AppError('failed_precondition', `${keyFile} cannot be read (${code})`, { cause: error });
  }
  if ((mode & 0o077) !== 0) {
    const octal = mode.toString(8).padStart(4, '0');
    throw new AppError('failed_precondition', `${keyFile} has mode ${octal}, a private key needs 0600`);
  }
}

export function loadTls(material: TlsMaterial, version: number): LoadedTls {
  const trusted = certificatesOf(material.root, 'the trust file');
  const anchors = trusted.filter((c) => c.ca && c.checkIssued(c) && c.verify(c.publicKey));
  if (anchors.length === 0)
    throw new AppError('failed_precondition', 'the trust file holds no self-signed root');
  if ((material.cert === undefined) !== (material.key === undefined)) {
    throw new AppError('failed_precondition', 'a certificate and its key come together');
  }
  if (material.cert !== undefined && material.key !== undefined) {
    const leaf = certificatesOf(material.cert, 'the certificate file')[0];
    if (leaf === undefined || !fits(leaf, material.key)) {
      throw new AppError('failed_precondition', 'the key does not belong to the certificate');
    }
  }
  return {
    version,
    cert: material.cert,
    key: material.key,
    anchors,
    issuers: trusted.filter((c) => c.ca && !anchors.includes(c)),
    anchorsPem: pemOf(anchors),
  };
}

function fits(leaf: X509Certificate, keyPem: string): boolean {
  try {
    return leaf.checkPrivateKey(createPrivateKey(keyPem));
  } catch {
    return false;
  }
}

/**
 * Material that follows its source: `current()` reads again when a file changed. Material that is not usable while a
 * renewal is being written leaves the one before in use; only the first read throws.
 */
export class TlsReader {
  private loaded: LoadedTls;
  private signature: string;
  private checkedAt: number;

  constructor(
    private readonly source: TlsSource,
    private readonly log: Pick<Logger, 'warn'>,
    private readonly clock: Clock = systemClock,
  ) {
    const { material, signature } = this.read();
    this.loaded = loadTls(material, 1);
    this.signature = signature;
    this.checkedAt = this.clock.monotonic();
  }

  current(): LoadedTls {
    if ('root' in this.source) return this.loaded;
    const now = this.clock.monotonic();
    if ('certFile' in this.source && now - this.checkedAt < FILES_CHECK_MS) return this.loaded;
    this.checkedAt = now;
    try {
      if ('certFile' in this.source && signatureOf(this.source) === this.signature) return this.loaded;
      const { material, signature } = this.read();
      if (signature === this.signature) return this.loaded;
      this.loaded = loadTls(material, this.loaded.version + 1);
      this.signature = signature;
    } catch (error) {
      this.log.warn({ error }, 'new TLS material is not usable, the one before stays');
    }
    return this.loaded;
  }

  private read(): { material: TlsMaterial; signature: string } {
    if (typeof this.source === 'function') {
      const material = this.source();
      return { material, signature: `${material.cert ?? ''}${material.root}` };
    }
    if ('root' in this.source) return { material: this.source, signature: '' };
    const signature = signatureOf(this.source);
    return { material: readTlsFiles(this.source), signature };
  }
}

function signatureOf(files: TlsFiles): string {
  return [files.certFile, files.keyFile, files.rootFile]
    .map((path) => {
      const { ino, size, mtimeMs } = statSync(path);
      return `${ino}:${size}:${mtimeMs}`;
    })
    .join(' ');
}

/** True when leaf ← issuing ← root holds with signatures, CA flags and dates. For a leaf that came without its chain. */
export function leadsToRoot(leaf: X509Certificate, trust: LoadedTls, nowMs: number): boolean {
  const issued = (child: X509Certificate, parent: X509Certificate): boolean =>
    parent.ca &&
    parent.validFromDate.getTime() <= nowMs &&
    parent.validToDate.getTime() > nowMs &&
    child.checkIssued(parent) &&
    child.verify(parent.publicKey);
  return trust.issuers.some(
    (issuer) => issued(leaf, issuer) && trust.anchors.some((root) => issued(issuer, root)),
  );
}
