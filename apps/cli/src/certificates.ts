// Which key may have signed a frame: the node certificate's, when it leads to the trust root, was valid when the window
// closed and was not revoked before.
import { createHash, X509Certificate, type KeyObject } from 'node:crypto';
import { AppError } from '@penstock/domain/errors';

export interface KnownCertificate {
  der: Buffer;
  revokedAtMs: number | null;
}

const PEM = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;

export class CertificateBook {
  private readonly bySerial = new Map<string, { certificate: X509Certificate; revokedAtMs: number | null }>();
  private readonly anchors: X509Certificate[];
  readonly rootFingerprints: string[];

  /** `pem`: root and issuing certificates. */
  constructor(pem: string) {
    this.anchors = (pem.match(PEM) ?? []).map((block) => new X509Certificate(block));
    const roots = this.anchors.filter((anchor) => anchor.checkIssued(anchor));
    if (roots.length === 0) throw new AppError('invalid_input', 'there is no trust root to verify against');
    this.rootFingerprints = roots.map((root) => createHash('sha256').update(root.raw).digest('hex'));
  }

  /** Takes a node certificate; one that does not lead to the root is left out, so its frames do not verify. */
  add({ der, revokedAtMs }: KnownCertificate): void {
    const certificate = new X509Certificate(der);
    if (this.isTrusted(certificate, 0)) {
      const serial = certificate.serialNumber.toLowerCase().padStart(32, '0');
      this.bySerial.set(serial, { certificate, revokedAtMs });
    }
  }

  publicKey(serial: Buffer, nodeId: string, closedAtMs: number): KeyObject | null {
    const known = this.bySerial.get(serial.toString('hex'));
    if (known === undefined) return null;
    const { certificate, revokedAtMs } = known;
    if (!certificate.subjectAltName?.includes(`/node/${nodeId}`)) return null;
    if (revokedAtMs !== null && revokedAtMs <= closedAtMs) return null;
    const from = certificate.validFromDate.getTime();
    const to = certificate.validToDate.getTime();
    return closedAtMs >= from && closedAtMs <= to ? certificate.publicKey : null;
  }

  private isTrusted(certificate: X509Certificate, depth: number): boolean {
    if (depth > 3) return false;
    return this.anchors.some(
      (anchor) =>
        certificate.checkIssued(anchor) &&
        certificate.verify(anchor.publicKey) &&
        (anchor.checkIssued(anchor) ? anchor.verify(anchor.publicKey) : this.isTrusted(anchor, depth + 1)),
    );
  }
}
