// The certificate authority as the scheduler holds it: issues certificates of nodes with the slot that signs now. The
// root's key is never read here (in production it is offline); the kind, name and life of a certificate are decided
// here and nothing of a request but its key is taken over.
import type { KeyObject, X509Certificate } from 'node:crypto';
import type { Clock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import type { NodeId } from '@penstock/domain/ids';
import { issueCertificate, newSerial, publicKeyHash } from '@penstock/rpc/certificates';
import { nodeUri } from '@penstock/rpc/identity';
import { readRoot, readSlots, signingSlot, validityOf, type Slot } from './slots.js';

export interface IssuedCertificate {
  serial: Buffer;
  publicKeyHash: Buffer;
  der: Buffer;
  notBefore: Date;
  notAfter: Date;
}

export interface Ca {
  readonly trustRoot: Buffer;
  issueNode(nodeId: NodeId, publicKey: KeyObject): Promise<IssuedCertificate>;
  /** The leaf and the issuing certificate that signed it. */
  chainOf(leaf: Buffer, parsed: X509Certificate): Buffer[];
}

export const NODE_CERTIFICATE_MS = 24 * 3_600_000;
/** A node's clock may be behind by this much. */
export const NOT_BEFORE_SLACK_MS = 5 * 60_000;
/** A slot prepared while we run is seen after at most this. */
const SLOTS_REREAD_MS = 60_000;

/** Throws failed_precondition, with what to do, when the directory is not usable. */
export function loadCa(caDir: string, trustDomain: string, clock: Clock): Ca {
  const root = readRoot(caDir);
  let slots = readSlots(caDir);
  let readAt = clock.monotonic();
  const current = (): Slot[] => {
    if (clock.monotonic() - readAt >= SLOTS_REREAD_MS) {
      slots = readSlots(caDir);
      readAt = clock.monotonic();
    }
    return slots;
  };
  const signing = (): Slot => {
    const known = current();
    const slot =
      known[
        signingSlot(
          known.map((s) => validityOf(s.certificate)),
          clock.now(),
        )
      ];
    if (slot === undefined) {
      throw new AppError(
        'failed_precondition',
        `${caDir} holds no valid issuing certificate: run make-trust`,
      );
    }
    return slot;
  };
  signing();
  return {
    trustRoot: Buffer.from(root.raw),
    async issueNode(nodeId, publicKey) {
      const slot = signing();
      const now = clock.now();
      const serial = newSerial();
      // Certificates have whole seconds; the database holds the same values.
      const notBefore = wholeSeconds(now - NOT_BEFORE_SLACK_MS);
      const notAfter = wholeSeconds(
        Math.min(now + NODE_CERTIFICATE_MS, slot.certificate.validToDate.getTime()),
      );
      const der = await issueCertificate({
        subject: `CN=node ${nodeId}`,
        publicKey,
        signer: slot.signer,
        notBefore,
        notAfter,
        names: [{ type: 'url', value: nodeUri(trustDomain, nodeId) }],
        usages: ['client'],
        serial,
      });
      return { serial, publicKeyHash: publicKeyHash(publicKey), der, notBefore, notAfter };
    },
    chainOf(leaf, parsed) {
      const issuer = current().find((slot) => parsed.checkIssued(slot.certificate));
      return issuer === undefined ? [leaf] : [leaf, Buffer.from(issuer.certificate.raw)];
    },
  };
}

function wholeSeconds(ms: number): Date {
  return new Date(Math.floor(ms / 1000) * 1000);
}
