// The directory of the certificate authority: root.pem, and two slots (issuing-1, issuing-2) of an issuing certificate
// and its key. One slot signs; the other is prepared at half life of the first and signs from three quarters on, so
// every service knows it weeks before. Read by ca.ts, written by make-trust.ts only.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { X509Certificate } from 'node:crypto';
import { AppError } from '@penstock/domain/errors';
import { keyPairFromPem, subjectOf, type Signer } from '@penstock/rpc/certificates';
import { certificatesOf, requirePrivate } from '@penstock/rpc/trust';

export interface Slot {
  name: SlotName;
  certificate: X509Certificate;
  signer: Signer;
}

export const slotNames = ['issuing-1', 'issuing-2'] as const;
export type SlotName = (typeof slotNames)[number];

/** Part of its life after which a slot is followed by the next one. */
const SIGNS_UNTIL = 0.75;
/** Part of its life after which the next slot is prepared. */
const NEXT_PREPARED_AT = 0.5;

export interface Validity {
  notBeforeMs: number;
  notAfterMs: number;
}

export function rootFile(caDir: string): string {
  return join(caDir, 'root.pem');
}

export function slotFiles(caDir: string, name: SlotName): { certFile: string; keyFile: string } {
  return { certFile: join(caDir, name, 'cert.pem'), keyFile: join(caDir, name, 'key.pem') };
}

/** Throws failed_precondition when a key can be read by others or a file is damaged. */
export function readRoot(caDir: string): X509Certificate {
  const path = rootFile(caDir);
  if (!existsSync(path))
    throw new AppError('failed_precondition', `${path} is missing: run make-trust first`);
  const root = certificatesOf(readFileSync(path, 'utf8'), path)[0];
  if (root === undefined) throw new AppError('failed_precondition', `${path} holds no certificate`);
  return root;
}

export function readSlots(caDir: string): Slot[] {
  return slotNames.flatMap((name) => {
    const { certFile, keyFile } = slotFiles(caDir, name);
    if (!existsSync(certFile)) return [];
    requirePrivate(keyFile);
    const certificate = certificatesOf(readFileSync(certFile, 'utf8'), certFile)[0];
    if (certificate === undefined) return [];
    const keys = keyPairFromPem(readFileSync(keyFile, 'utf8'));
    if (!certificate.checkPrivateKey(keys.privateKey)) {
      throw new AppError('failed_precondition', `${keyFile} is not the key of ${certFile}`);
    }
    return [{ name, certificate, signer: { subject: subjectOf(certificate.raw), keys } }];
  });
}

export function validityOf(certificate: X509Certificate): Validity {
  return { notBeforeMs: certificate.validFromDate.getTime(), notAfterMs: certificate.validToDate.getTime() };
}

/** The part of its life that has passed: 0 at the start, 1 at the end. */
export function lifePassed(validity: Validity, nowMs: number): number {
  return (nowMs - validity.notBeforeMs) / (validity.notAfterMs - validity.notBeforeMs);
}

/**
 * Which slot signs: the older one while it is in the first three quarters of its life, then the other. -1 when none
 * is valid.
 */
export function signingSlot(slots: readonly Validity[], nowMs: number): number {
  const valid = slots
    .map((validity, index) => ({ index, validity, passed: lifePassed(validity, nowMs) }))
    .filter(({ passed }) => passed >= 0 && passed < 1)
    .sort((a, b) => a.validity.notAfterMs - b.validity.notAfterMs);
  return (valid.find(({ passed }) => passed < SIGNS_UNTIL) ?? valid.at(-1))?.index ?? -1;
}

/** True when no slot is in the first half of its life: the next one has to be made. */
export function nextSlotDue(slots: readonly Validity[], nowMs: number): boolean {
  return !slots.some((validity) => lifePassed(validity, nowMs) < NEXT_PREPARED_AT);
}
