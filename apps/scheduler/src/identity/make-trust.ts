// Makes and keeps the trust of one installation in a directory: a root, the issuing slots, and for each service a
// certificate of at most 30 days. Run at every start and once a day; it makes only what is missing or past half life.
//   node make-trust.js --dir D [--trust-domain X] --service control-api --service scheduler … [--dns name]…
// D/ca/           root.pem, root.key (take it offline in production), issuing-1/, issuing-2/  → CA_DIR of the scheduler
// D/<service>/    cert.pem (leaf, issuing, root), key.pem, root.pem (root first, then the issuing certificates)
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { systemClock, type Clock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import {
  issueCertificate,
  keyPairFromPem,
  newKeyPair,
  privateKeyPem,
  subjectOf,
} from '@penstock/rpc/certificates';
import type { Signer } from '@penstock/rpc/certificates';
import { isServiceName, readPeer, serviceNames, serviceUri, type ServiceName } from '@penstock/rpc/identity';
import { certificatesOf, pemOf, requirePrivate } from '@penstock/rpc/trust';
import { lifePassed, nextSlotDue, readRoot, readSlots, rootFile, signingSlot } from './slots.js';
import { slotFiles, slotNames, validityOf, type Slot } from './slots.js';

export interface MakeTrustOptions {
  dir: string;
  trustDomain: string;
  services: readonly ServiceName[];
  /** DNS names of the services' certificates, beside localhost. */
  dnsNames: readonly string[];
  clock: Clock;
}

const DAY_MS = 24 * 3_600_000;
const ROOT_LIFE_MS = 3650 * DAY_MS;
const ISSUING_LIFE_MS = 180 * DAY_MS;
const SERVICE_LIFE_MS = 30 * DAY_MS;
const SLACK_MS = 5 * 60_000;
const RENEW_AT = 0.5;

/** Returns what was made, one word each; empty when everything was still good. Safe to run again at any time. */
export async function makeTrust(options: MakeTrustOptions): Promise<string[]> {
  const caDir = join(options.dir, 'ca');
  for (const directory of [options.dir, caDir]) makeDirectory(directory);
  const made: string[] = [];
  if (!existsSync(rootFile(caDir))) {
    await makeRoot(caDir, options);
    made.push('root');
  }
  const slot = await makeSlots(caDir, options);
  if (slot !== undefined) made.push(slot);
  const slots = readSlots(caDir);
  const trust = pemOf([readRoot(caDir), ...slots.map(({ certificate }) => certificate)]);
  const signing =
    slots[
      signingSlot(
        slots.map(({ certificate }) => validityOf(certificate)),
        options.clock.now(),
      )
    ];
  if (signing === undefined)
    throw new AppError('failed_precondition', `${caDir} holds no valid issuing certificate`);
  for (const name of options.services) {
    if (await makeService(options, name, signing, trust)) made.push(name);
  }
  return made;
}

async function makeRoot(caDir: string, { trustDomain, clock }: MakeTrustOptions): Promise<void> {
  const keys = newKeyPair();
  const signer = { subject: `CN=${trustDomain} root`, keys };
  const certificate = await issueCertificate({
    subject: signer.subject,
    publicKey: keys.publicKey,
    signer,
    ...lifeFrom(clock.now(), ROOT_LIFE_MS),
    names: [],
    usages: [],
    authority: { pathLength: 1 },
  });
  // The key first: a root without its key would be of no use, a key without its root is made again.
  writePrivate(join(caDir, 'root.key'), privateKeyPem(keys));
  writeAtomically(rootFile(caDir), pemOf([certificate]), 0o644);
}

/** Prepares the next issuing slot when it is due; returns its name. Without the root's key the present one goes on. */
async function makeSlots(
  caDir: string,
  { trustDomain, clock }: MakeTrustOptions,
): Promise<string | undefined> {
  const slots = readSlots(caDir);
  const now = clock.now();
  const validities = slots.map(({ certificate }) => validityOf(certificate));
  if (!nextSlotDue(validities, now)) return undefined;
  const keyFile = join(caDir, 'root.key');
  if (!existsSync(keyFile)) {
    if (signingSlot(validities, now) >= 0) return undefined;
    throw new AppError('failed_precondition', `no valid issuing certificate and no ${keyFile} to make one`);
  }
  requirePrivate(keyFile);
  const root = readRoot(caDir);
  const rootSigner: Signer = {
    subject: subjectOf(root.raw),
    keys: keyPairFromPem(readFileSync(keyFile, 'utf8')),
  };
  const signing = slots[signingSlot(validities, now)];
  const name = slotNames.find((candidate) => candidate !== signing?.name) ?? slotNames[0];
  const keys = newKeyPair();
  const certificate = await issueCertificate({
    subject: `CN=${trustDomain} ${name} ${new Date(now).toISOString().slice(0, 10)}`,
    publicKey: keys.publicKey,
    signer: rootSigner,
    ...lifeFrom(now, ISSUING_LIFE_MS, root),
    names: [],
    usages: [],
    authority: { pathLength: 0 },
  });
  const files = slotFiles(caDir, name);
  makeDirectory(join(caDir, name));
  writePrivate(files.keyFile, privateKeyPem(keys));
  writeAtomically(files.certFile, pemOf([certificate]), 0o644);
  return name;
}

/** True when a new certificate was minted. The trust file follows the slots in any case. */
async function makeService(
  options: MakeTrustOptions,
  name: ServiceName,
  slot: Slot,
  trust: string,
): Promise<boolean> {
  const { trustDomain, clock } = options;
  const directory = join(options.dir, name);
  const [certFile, keyFile] = [join(directory, 'cert.pem'), join(directory, 'key.pem')];
  makeDirectory(directory);
  const trustFile = join(directory, 'root.pem');
  if (!existsSync(trustFile) || readFileSync(trustFile, 'utf8') !== trust)
    writeAtomically(trustFile, trust, 0o644);
  const dnsNames = [...new Set(['localhost', ...options.dnsNames])];
  if (isGood(certFile, keyFile, dnsNames, trust, options, name)) return false;
  const keys = newKeyPair();
  const certificate = await issueCertificate({
    subject: `CN=${name}`,
    publicKey: keys.publicKey,
    signer: slot.signer,
    ...lifeFrom(clock.now(), SERVICE_LIFE_MS, slot.certificate),
    names: [
      { type: 'url', value: serviceUri(trustDomain, name) },
      ...dnsNames.map((value) => ({ type: 'dns' as const, value })),
    ],
    usages: ['server', 'client'],
  });
  writePrivate(keyFile, privateKeyPem(keys));
  // The root travels in the chain: a node that enrolls knows only its fingerprint.
  const root = certificatesOf(trust, 'the trust file')[0];
  if (root === undefined) throw new AppError('failed_precondition', 'the trust file is empty');
  writeAtomically(certFile, pemOf([certificate, slot.certificate, root]), 0o644);
  return true;
}

function isGood(
  certFile: string,
  keyFile: string,
  dnsNames: readonly string[],
  trust: string,
  { trustDomain, clock }: MakeTrustOptions,
  name: ServiceName,
): boolean {
  if (!existsSync(certFile) || !existsSync(keyFile)) return false;
  try {
    requirePrivate(keyFile);
    const [leaf, issuing, root] = certificatesOf(readFileSync(certFile, 'utf8'), certFile);
    if (leaf === undefined || issuing === undefined || root === undefined) return false;
    const peer = readPeer(leaf, { trustDomain, usage: 'server', nowMs: clock.now() });
    const known = certificatesOf(trust, 'the trust file').map(({ fingerprint256 }) => fingerprint256);
    return (
      typeof peer !== 'string' &&
      peer.kind === 'service' &&
      peer.name === name &&
      lifePassed(validityOf(leaf), clock.now()) < RENEW_AT &&
      dnsNames.every((dns) => leaf.checkHost(dns) !== undefined) &&
      leaf.checkPrivateKey(keyPairFromPem(readFileSync(keyFile, 'utf8')).privateKey) &&
      known.includes(issuing.fingerprint256) &&
      known[0] === root.fingerprint256
    );
  } catch {
    return false;
  }
}

function lifeFrom(
  nowMs: number,
  lifeMs: number,
  issuer?: X509Certificate,
): { notBefore: Date; notAfter: Date } {
  const end = Math.min(nowMs + lifeMs, issuer?.validToDate.getTime() ?? Infinity);
  return { notBefore: new Date(nowMs - SLACK_MS), notAfter: new Date(end) };
}

function makeDirectory(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  chmodSync(path, 0o700);
}

function writePrivate(path: string, text: string): void {
  writeAtomically(path, text, 0o600);
}

function writeAtomically(path: string, text: string, mode: number): void {
  const temporary = `${path}.new`;
  writeFileSync(temporary, text, { mode });
  chmodSync(temporary, mode);
  renameSync(temporary, path);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      dir: { type: 'string' },
      'trust-domain': { type: 'string', default: 'penstock.internal' },
      service: { type: 'string', multiple: true, default: [] },
      dns: { type: 'string', multiple: true, default: [] },
    },
  });
  if (values.dir === undefined) throw new AppError('invalid_input', '--dir is needed');
  const services = values.service.map((name) => {
    if (isServiceName(name)) return name;
    throw new AppError('invalid_input', `--service ${name}: expected one of ${serviceNames.join(', ')}`);
  });
  const made = await makeTrust({
    dir: values.dir,
    trustDomain: values['trust-domain'],
    services,
    dnsNames: values.dns,
    clock: systemClock,
  });
  process.stdout.write(made.length === 0 ? 'trust is up to date\n' : `made: ${made.join(', ')}\n`);
}

if (import.meta.main) {
  main().catch((error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  });
}
