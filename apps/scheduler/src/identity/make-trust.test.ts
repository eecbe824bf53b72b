// The trust directory: made once, kept by running again, rotated with time, usable by a server after each step.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { X509Certificate } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { FakeClock } from '@penstock/domain/clock';
import { newId, type NodeId } from '@penstock/domain/ids';
import { newKeyPair } from '@penstock/rpc/certificates';
import { readPeer } from '@penstock/rpc/identity';
import { certificatesOf, leadsToRoot, loadTls, readTlsFiles } from '@penstock/rpc/trust';
import { loadCa } from './ca.js';
import { makeTrust } from './make-trust.js';

const DAY_MS = 24 * 3_600_000;
const trustDomain = 'penstock.test';
let dir: string;
let clock: FakeClock;

beforeEach(() => {
  dir = join(mkdtempSync(join(tmpdir(), 'penstock-trust-')), 'trust');
  clock = new FakeClock(Date.now());
});
afterEach(() => rmSync(join(dir, '..'), { recursive: true }));

const run = (dnsNames: string[] = []) =>
  makeTrust({ dir, trustDomain, services: ['scheduler', 'control-api'], dnsNames, clock });
const filesOf = (service: string) => ({
  certFile: join(dir, service, 'cert.pem'),
  keyFile: join(dir, service, 'key.pem'),
  rootFile: join(dir, service, 'root.pem'),
});

/** The service's files as a process would load them; its leaf must be good now. */
function leafOf(service: string): X509Certificate {
  const trust = loadTls(readTlsFiles(filesOf(service)), 0);
  const [leaf] = certificatesOf(trust.cert ?? '', service);
  expect(leaf !== undefined && leadsToRoot(leaf, trust, clock.now())).toBe(true);
  return leaf as X509Certificate;
}

/** A node's certificate that is issued now must be good for every service. */
async function nodeIsTrusted(): Promise<void> {
  const ca = loadCa(join(dir, 'ca'), trustDomain, clock);
  const { der } = await ca.issueNode(newId<NodeId>(), newKeyPair().publicKey);
  const leaf = new X509Certificate(der);
  expect(leadsToRoot(leaf, loadTls(readTlsFiles(filesOf('scheduler')), 0), clock.now())).toBe(true);
  expect(readPeer(leaf, { trustDomain, usage: 'client', nowMs: clock.now() })).toMatchObject({
    kind: 'node',
  });
  expect(ca.chainOf(der, leaf)).toHaveLength(2);
}

test('the first run makes everything, the second nothing [R1-28]', async () => {
  expect(await run()).toEqual(['root', 'issuing-1', 'scheduler', 'control-api']);
  expect(await run()).toEqual([]);
  const leaf = leafOf('scheduler');
  expect(readPeer(leaf, { trustDomain, usage: 'server', nowMs: clock.now() })).toEqual({
    kind: 'service',
    name: 'scheduler',
  });
  expect(leaf.validToDate.getTime() - clock.now()).toBeLessThanOrEqual(30 * DAY_MS);
  await nodeIsTrusted();
  // The root stands first in the trust file and last in the chain.
  const root = readFileSync(join(dir, 'ca', 'root.pem'), 'utf8');
  expect(readFileSync(filesOf('scheduler').rootFile, 'utf8').startsWith(root)).toBe(true);
  expect(readFileSync(filesOf('scheduler').certFile, 'utf8').endsWith(root)).toBe(true);
});

test('keys are 0600, directories 0700 [R1-12]', async () => {
  await run();
  for (const name of readdirSync(dir, { recursive: true, encoding: 'utf8' })) {
    const entry = statSync(join(dir, name));
    const mode = entry.mode & 0o777;
    if (entry.isDirectory()) expect([name, mode]).toEqual([name, 0o700]);
    else if (name.includes('key')) expect([name, mode]).toEqual([name, 0o600]);
  }
});

test('a certificate is minted again past half life, for a new name, and when it is damaged [R2-12]', async () => {
  await run();
  const first = leafOf('scheduler').serialNumber;
  clock.advance(14 * DAY_MS);
  expect(await run()).toEqual([]);
  clock.advance(2 * DAY_MS);
  expect(await run()).toEqual(['scheduler', 'control-api']);
  expect(leafOf('scheduler').serialNumber).not.toBe(first);
  expect(await run(['nodes.example'])).toEqual(['scheduler', 'control-api']);
  expect(leafOf('scheduler').checkHost('nodes.example')).toBe('nodes.example');
  writeFileSync(filesOf('scheduler').keyFile, readFileSync(filesOf('control-api').keyFile));
  expect(await run(['nodes.example'])).toEqual(['scheduler']);
  chmodSync(filesOf('control-api').keyFile, 0o644);
  expect(await run(['nodes.example'])).toEqual(['control-api']);
});

test('over four years, run once a week, every service trusts every certificate and slots follow each other', async () => {
  await run();
  const slots = new Set<string>();
  for (let week = 0; week < 208; week += 1) {
    clock.advance(7 * DAY_MS);
    for (const made of await run()) if (made.startsWith('issuing')) slots.add(made);
    leafOf('control-api');
    if (week % 8 === 0) await nodeIsTrusted();
  }
  expect(slots).toEqual(new Set(['issuing-1', 'issuing-2']));
});

test('with the root key offline the present slot goes on to its end, then a sentence says what is missing', async () => {
  await run();
  renameSync(join(dir, 'ca', 'root.key'), join(dir, '..', 'root.key'));
  clock.advance(170 * DAY_MS);
  expect(await run()).toEqual(['scheduler', 'control-api']);
  await nodeIsTrusted();
  clock.advance(11 * DAY_MS);
  await expect(run()).rejects.toThrow(/no valid issuing certificate and no .*root\.key/);
  renameSync(join(dir, '..', 'root.key'), join(dir, 'ca', 'root.key'));
  // The expired slot is the one that is filled again.
  expect(await run()).toEqual(['issuing-1', 'scheduler', 'control-api']);
  await nodeIsTrusted();
});

test('the authority does not load without its files, with an open key or a wrong one', async () => {
  const caDir = join(dir, 'ca');
  expect(() => loadCa(caDir, trustDomain, clock)).toThrow(/run make-trust/);
  await run();
  const key = join(caDir, 'issuing-1', 'key.pem');
  chmodSync(key, 0o640);
  expect(() => loadCa(caDir, trustDomain, clock)).toThrow(/mode 0640/);
  chmodSync(key, 0o600);
  writeFileSync(key, readFileSync(filesOf('scheduler').keyFile));
  expect(() => loadCa(caDir, trustDomain, clock)).toThrow(/is not the key of/);
});

test('OpenSSL agrees with what was made', async () => {
  await run();
  const { certFile, rootFile } = filesOf('scheduler');
  const said = execFileSync('openssl', [
    'verify',
    '-CAfile',
    rootFile,
    '-untrusted',
    certFile,
    certFile,
  ]).toString();
  expect(said).toMatch(/OK/);
});
