// A node's way in and how it stays in, against the scheduler's real edges and a real database: pinning, retries with
// the same key, restarts, renewal at half life, the way back after expiry, crashes between two files.
import { X509Certificate } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { FakeClock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import { makeCsr } from '@penstock/rpc/certificates';
import { callUnary, connect } from '@penstock/rpc/client';
import { unary } from '@penstock/rpc/handlers';
import { createServer } from '@penstock/rpc/server';
import {
  IdentityServiceClient,
  IdentityServiceService,
} from '@penstock/rpc/gen/penstock/identity/v1/identity';
import { formatJoinToken, newJoinTokenSecret } from '@penstock/rpc/join-token';
import { pemOf, type TlsMaterial } from '@penstock/rpc/trust';
import { createMetrics } from '@penstock/service/metrics';
import { seedJoinToken, seedNode, type SeededNode } from '@penstock/testkit/enrollment';
import { createTestTrust } from '@penstock/testkit/trust';
import {
  startIdentityEdges,
  log,
  TRUST_DOMAIN,
  type IdentityEdges,
} from '../../scheduler/test/identity-edges.js';
import { openIdentity, type EnrollOptions, type Enrollment } from '../src/enrollment/enroll.js';
import { IdentityStore } from '../src/enrollment/identity-store.js';
import { createRenewal, nextStep, type Renewal } from '../src/enrollment/renewal.js';

const HOUR_MS = 3_600_000;
let edges: IdentityEdges;
let agentDir: string;
let node: SeededNode;

beforeAll(async () => {
  edges = await startIdentityEdges({ enrollLimit: { perSecond: 1000, burst: 1000, addressesMax: 10 } });
});
afterAll(() => edges.close());
beforeEach(async () => {
  agentDir = mkdtempSync(join(tmpdir(), 'penstock-agent-'));
  node = await seedNode(edges.database.superuserUrl);
});
afterEach(() => rmSync(agentDir, { recursive: true }));

async function joinToken(
  enroll = edges.enrollAddress,
  rootFingerprint = edges.rootFingerprint,
): Promise<string> {
  const expiresAt = new Date(edges.clock.now() + HOUR_MS);
  const options = { rootFingerprint, enroll, nodeEdge: edges.nodeAddress, expiresAt };
  return (await seedJoinToken(edges.database.superuserUrl, node, options)).text;
}

function options(token: string | undefined, change: Partial<EnrollOptions> = {}): EnrollOptions {
  const clock = new FakeClock(Date.now());
  const signal = new AbortController().signal;
  return {
    agentDir,
    trustDomain: TRUST_DOMAIN,
    joinToken: token,
    clock,
    log,
    random: () => 0,
    signal,
    ...change,
  };
}

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'done',
    (error: unknown) => (error instanceof AppError ? error.code : String(error)),
  );

async function certificates(): Promise<number> {
  const text = 'SELECT serial FROM certificate WHERE node_id = $1';
  return (await edges.pool.query(text, [node.nodeId])).rows.length;
}

/** True when this identity is let in at the node edge: what is refused then is the request, not the peer. */
async function isLetIn(enrollment: Enrollment): Promise<boolean> {
  const { tls } = enrollment.currentIdentity();
  const client = connect(IdentityServiceClient, edges.nodeAddress, {
    ...{ tls, trustDomain: TRUST_DOMAIN, servers: ['scheduler'], log },
  });
  try {
    return (await codeOf(callUnary(client, client.renew, { csr: Buffer.from('x') }))) === 'invalid_input';
  } finally {
    client.close();
  }
}

const identityPath = (...parts: string[]): string => join(agentDir, 'identity', ...parts);

describe('enrolment', () => {
  test('makes an identity that is let in, with files that only the agent can read [R1-12]', async () => {
    const enrollment = await openIdentity(options(await joinToken()));
    expect(enrollment.currentIdentity().nodeId).toBe(node.nodeId);
    expect(enrollment.currentIdentity().serial).toHaveLength(16);
    expect(await isLetIn(enrollment)).toBe(true);
    expect(statSync(identityPath()).mode & 0o777).toBe(0o700);
    for (const file of readdirSync(identityPath(), { recursive: true, encoding: 'utf8' })) {
      const mode = statSync(identityPath(file)).mode & 0o777;
      expect([file, mode & 0o077]).toEqual([file, 0]);
    }
    expect(existsSync(identityPath('pending.key'))).toBe(false);
  });

  test('is done once: a restart asks nobody, with or without the token, and follows new addresses', async () => {
    const first = await openIdentity(options(await joinToken()));
    const again = await openIdentity(options(undefined));
    expect(again.currentIdentity().serial).toEqual(first.currentIdentity().serial);
    expect(again.edge).toEqual(first.edge);
    const moved = await openIdentity(options(await joinToken('127.0.0.1:1')));
    expect(moved.edge.enroll).toBe('127.0.0.1:1');
    expect((await openIdentity(options(undefined))).edge.enroll).toBe('127.0.0.1:1');
    expect(await certificates()).toBe(1);
  });

  test('after a crash between answer and disk gets the same certificate: the key was kept', async () => {
    const token = await joinToken();
    const keys = new IdentityStore(agentDir, TRUST_DOMAIN).pendingKey();
    const tls = { root: edges.tlsOf('scheduler').root };
    const client = connect(IdentityServiceClient, edges.enrollAddress, {
      tls,
      trustDomain: TRUST_DOMAIN,
      servers: ['scheduler'],
      log,
    });
    const lost = await callUnary(client, client.enroll, { joinToken: token, csr: await makeCsr(keys) });
    client.close();
    const enrollment = await openIdentity(options(token));
    expect(enrollment.currentIdentity().certificate).toEqual(Buffer.from(lost.certificates[0] ?? []));
    expect(await certificates()).toBe(1);
  });

  test('stops for what waiting does not cure, each by its code [R1-07]', async () => {
    const used = await joinToken();
    await openIdentity(options(used));
    const other = mkdtempSync(join(tmpdir(), 'penstock-agent-'));
    expect(await codeOf(openIdentity(options(used, { agentDir: other })))).toBe('token_used');
    expect(await codeOf(openIdentity(options('pst1.nonsense', { agentDir: other })))).toBe('token_invalid');
    expect(await codeOf(openIdentity(options(undefined, { agentDir: other })))).toBe('failed_precondition');
    rmSync(other, { recursive: true });
  });

  test('waits for an edge that is not there yet', async () => {
    const abort = new AbortController();
    let tries = 0;
    const counting = { ...log, warn: () => void (++tries >= 3 && abort.abort()) };
    const token = await joinToken('127.0.0.1:9');
    await expect(openIdentity(options(token, { log: counting, signal: abort.signal }))).rejects.toThrow();
    expect(tries).toBeGreaterThanOrEqual(3);
  });

  test('tells its token to nobody but the root of the token', async () => {
    const foreign = await createTestTrust(TRUST_DOMAIN);
    let asked = 0;
    const listenAs = async (tls: TlsMaterial) => {
      const answer = unary(() => {
        asked += 1;
        return Promise.reject(new AppError('token_invalid', 'seen'));
      });
      const { enroll, reattest, renew } = IdentityServiceService;
      const server = createServer({
        ...{ tls, trustDomain: TRUST_DOMAIN, log, metrics: createMetrics(), clientCertificates: 'none' },
        allow: { [enroll.path]: ['anyone'], [reattest.path]: ['anyone'], [renew.path]: [] },
        services: [[IdentityServiceService, { enroll: answer, reattest: answer, renew: answer }]],
      });
      return { server, address: `127.0.0.1:${await server.listen('127.0.0.1', 0)}` };
    };
    const impostor = await foreign.service('scheduler');
    const plain = await listenAs(impostor.tls);
    expect(await codeOf(openIdentity(options(await joinToken(plain.address))))).toBe('certificate_invalid');
    // The impostor shows our real root behind its own certificate, under the name of its own.
    const copied = { ...impostor.tls, cert: impostor.tls.cert + pemOf([edges.ca.trustRoot]) };
    const copying = await listenAs(copied);
    const abort = new AbortController();
    const giveUp = { ...log, warn: () => abort.abort() };
    const token = await joinToken(copying.address);
    await expect(openIdentity(options(token, { log: giveUp, signal: abort.signal }))).rejects.toThrow();
    expect(asked).toBe(0);
    const forged = formatJoinToken({
      ...{ secret: newJoinTokenSecret(), rootFingerprint: '0'.repeat(64) },
      ...{ enroll: edges.enrollAddress, enforcement: edges.nodeAddress, usage: edges.nodeAddress },
    });
    expect(await codeOf(openIdentity(options(forged)))).toBe('certificate_invalid');
    await Promise.all([plain.server.close(0), copying.server.close(0)]);
  });
});

describe('renewal', () => {
  async function running(
    random = () => 0.5,
  ): Promise<{ enrollment: Enrollment; renewal: Renewal; clock: FakeClock; seen: string[] }> {
    const clock = new FakeClock(Date.now());
    const enrollment = await openIdentity(options(await joinToken(), { clock }));
    const seen: string[] = [];
    const onRenewed = (): void => void seen.push(enrollment.currentIdentity().serial.toString('hex'));
    const renewal = createRenewal({ enrollment, trustDomain: TRUST_DOMAIN, clock, log, random, onRenewed });
    edges.clock.advance(1);
    return { enrollment, renewal, clock, seen };
  }

  test('begins at half life, give or take a tenth [R2-12]', () => {
    const identity = { notBefore: new Date(0), notAfter: new Date(24 * HOUR_MS) };
    const at = (hours: number, jitter: number): string => nextStep(identity, hours * HOUR_MS, jitter);
    expect([at(11.9, 0), at(12, 0)]).toEqual(['nothing', 'renew']);
    expect([at(9.5, -1), at(9.7, -1)]).toEqual(['nothing', 'renew']);
    expect([at(14.3, 1), at(14.5, 1)]).toEqual(['nothing', 'renew']);
    expect([at(23.99, 0), at(24, 0), at(400, 0)]).toEqual(['renew', 'reattest', 'reattest']);
  });

  test('swaps key and certificate together and is let in with the new pair [R2-12]', async () => {
    const { enrollment, renewal, clock, seen } = await running();
    const before = enrollment.currentIdentity();
    await renewal.tick();
    expect(enrollment.currentIdentity()).toBe(before);
    clock.advance(12 * HOUR_MS);
    await renewal.tick();
    const after = enrollment.currentIdentity();
    expect(after.serial).not.toEqual(before.serial);
    expect(after.privateKey.equals(before.privateKey)).toBe(false);
    expect(seen).toEqual([after.serial.toString('hex')]);
    expect(await isLetIn(enrollment)).toBe(true);
    expect(new IdentityStore(agentDir, TRUST_DOMAIN).current?.serial).toEqual(after.serial);
    expect(readdirSync(identityPath()).sort()).toEqual(
      [after.serial.toString('hex'), 'current', 'edge.json', 'root.pem'].sort(),
    );
  });

  test('whose answer was lost asks with the same key and gets the same certificate', async () => {
    const { enrollment, renewal, clock } = await running();
    const keys = enrollment.store.pendingKey();
    const { tls } = enrollment.currentIdentity();
    const client = connect(IdentityServiceClient, edges.nodeAddress, {
      tls,
      trustDomain: TRUST_DOMAIN,
      servers: ['scheduler'],
      log,
    });
    const lost = await callUnary(client, client.renew, { csr: await makeCsr(keys) });
    client.close();
    clock.advance(12 * HOUR_MS);
    await renewal.tick();
    expect(enrollment.currentIdentity().certificate).toEqual(Buffer.from(lost.certificates[0] ?? []));
    expect(await certificates()).toBe(2);
  });

  test('of an expired certificate is a re-attestation', async () => {
    const { enrollment, renewal, clock } = await running();
    const before = enrollment.currentIdentity();
    clock.advance(48 * HOUR_MS);
    await edges.pool.query(
      `UPDATE certificate SET not_after = not_after - interval '2 days', issued_at = issued_at - interval '2 days' WHERE node_id = $1`,
      [node.nodeId],
    );
    await renewal.tick();
    expect(renewal.problem()).toBe('');
    expect(enrollment.currentIdentity().serial).not.toEqual(before.serial);
    expect(await isLetIn(enrollment)).toBe(true);
  });

  test('of one that expired long ago waits for an admin, names its key, and then goes on by itself', async () => {
    const { enrollment, renewal, clock, seen } = await running();
    await edges.pool.query(
      `UPDATE certificate SET not_before = not_before - interval '20 days', not_after = not_after - interval '20 days'
        WHERE node_id = $1`,
      [node.nodeId],
    );
    clock.advance(25 * HOUR_MS);
    await renewal.tick();
    const [, fingerprint = ''] = /approve this node; key ([0-9a-f]{64})$/.exec(renewal.problem()) ?? [];
    const approve = `UPDATE reattest_request SET approved_at = $2
                      WHERE node_id = $1 AND public_key_hash = decode($3, 'hex')`;
    const values = [node.nodeId, new Date(edges.clock.now()), fingerprint];
    expect((await edges.pool.query(approve, values)).rowCount).toBe(1);
    clock.advance(60_000);
    await renewal.tick();
    expect(renewal.problem()).toBe('');
    expect(seen).toEqual([enrollment.currentIdentity().serial.toString('hex')]);
    expect(await isLetIn(enrollment)).toBe(true);
  });

  test('with a clock that is a day ahead still works: the server says that the certificate is good', async () => {
    const { enrollment, renewal, clock } = await running();
    const before = enrollment.currentIdentity();
    clock.advance(25 * HOUR_MS);
    await renewal.tick();
    expect(renewal.problem()).toBe('');
    const after = enrollment.currentIdentity().serial;
    expect(after).not.toEqual(before.serial);
    edges.clock.advance(1);
    clock.advance(5 * HOUR_MS);
    await renewal.tick();
    expect(enrollment.currentIdentity().serial).toEqual(after);
  });

  test('that is refused says why and does not hammer', async () => {
    const { enrollment, renewal, clock } = await running();
    await edges.pool.query(`UPDATE certificate SET revoked_at = now() WHERE node_id = $1`, [node.nodeId]);
    clock.advance(12 * HOUR_MS);
    const refusals = async (): Promise<number> => {
      const text = await edges.metrics.registry.metrics();
      return Number(/rpc_failures_total\{code="certificate_revoked"\} (\d+)/.exec(text)?.[1] ?? 0);
    };
    const before = await refusals();
    await renewal.tick();
    expect(renewal.problem()).toMatch(/revoked/);
    clock.advance(10 * 60_000);
    await renewal.tick();
    expect(await refusals()).toBe(before + 1);
    clock.advance(15 * 60_000);
    await renewal.tick();
    expect(await refusals()).toBe(before + 2);
    expect(enrollment.currentIdentity().nodeId).toBe(node.nodeId);
  });

  test('a crash between any two files leaves a pair that fits', async () => {
    const { enrollment, renewal, clock } = await running();
    const before = enrollment.currentIdentity();
    const half = 'ab'.repeat(16);
    mkdirSync(identityPath(half));
    writeFileSync(identityPath(half, 'node.key'), 'half', { mode: 0o600 });
    writeFileSync(identityPath(half, 'node.pem.new'), 'half');
    writeFileSync(identityPath('root.pem.new'), 'half');
    symlinkSync(half, identityPath('current.new'));
    expect(new IdentityStore(agentDir, TRUST_DOMAIN).current?.serial).toEqual(before.serial);
    clock.advance(12 * HOUR_MS);
    await renewal.tick();
    expect(renewal.problem()).toBe('');
    const after = enrollment.currentIdentity();
    expect(readlinkSync(identityPath('current'))).toBe(after.serial.toString('hex'));
    expect(existsSync(identityPath(half))).toBe(false);
    expect(readFileSync(after.tlsFiles.certFile, 'utf8')).toBe(after.tls.cert);
  });

  test("another node's certificate is not taken into this directory", async () => {
    const { enrollment } = await running();
    const mine = node;
    node = await seedNode(edges.database.superuserUrl);
    const elsewhere = mkdtempSync(join(tmpdir(), 'penstock-agent-'));
    const other = await openIdentity(options(await joinToken(), { agentDir: elsewhere }));
    const { privateKey, certificate, tls } = other.currentIdentity();
    const keys = { privateKey, publicKey: privateKey };
    const chain = [
      certificate,
      Buffer.from(edges.ca.chainOf(certificate, new X509Certificate(certificate))[1] ?? []),
    ];
    expect(() => enrollment.store.adopt(keys, chain, tls.root)).toThrow(/another node/);
    expect(enrollment.currentIdentity().nodeId).toBe(mine.nodeId);
    rmSync(elsewhere, { recursive: true });
  });
});
