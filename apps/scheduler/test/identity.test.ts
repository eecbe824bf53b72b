// Renewal, re-attestation and revocation against a real database over both edges.
import { createPrivateKey, sign, X509Certificate } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { AppError } from '@penstock/domain/errors';
import type { NodeId } from '@penstock/domain/ids';
import { makeCsr, publicKeyHash, newKeyPair, privateKeyPem, type KeyPair } from '@penstock/rpc/certificates';
import { callUnary, connect, openBidi } from '@penstock/rpc/client';
import { bidi } from '@penstock/rpc/handlers';
import { pemOf, type TlsMaterial } from '@penstock/rpc/trust';
import { IdentityServiceClient } from '@penstock/rpc/gen/penstock/identity/v1/identity';
import { SchedulerAdminServiceClient } from '@penstock/rpc/gen/penstock/scheduler_admin/v1/scheduler_admin';
import { UsageServiceClient, UsageServiceService } from '@penstock/rpc/gen/penstock/usage/v1/usage';
import { seedJoinToken, seedNode } from '@penstock/testkit/enrollment';
import { startIdentityEdges, log, TRUST_DOMAIN, type IdentityEdges } from './identity-edges.js';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
let edges: IdentityEdges;
const closing: { close(): void }[] = [];

beforeAll(async () => {
  edges = await startIdentityEdges({
    enrollLimit: { perSecond: 1000, burst: 1000, addressesMax: 10 },
    // Any long stream will do to see whether it is ended.
    more: () => ({
      services: [
        [
          UsageServiceService,
          {
            ingest: bidi(async (stream) => {
              for (const all = stream[Symbol.asyncIterator](); !(await all.next()).done;)
                await stream.write({ message: { $case: 'expected', value: { seq: 1n } } });
            }),
            baselines: () => undefined,
          },
        ],
      ],
      allow: { [UsageServiceService.ingest.path]: ['node'], [UsageServiceService.baselines.path]: [] },
    }),
  });
});
afterEach(() => {
  for (const client of closing.splice(0)) client.close();
});
afterAll(() => edges.close());

function keep<C extends { close(): void }>(client: C): C {
  closing.push(client);
  return client;
}

interface Node {
  nodeId: NodeId;
  keys: KeyPair;
  leaf: Buffer;
  tls: TlsMaterial;
}

const trust = (): string => edges.tlsOf('scheduler').root;
const common = { trustDomain: TRUST_DOMAIN, servers: ['scheduler' as const], log };
const enrollEdge = () =>
  keep(connect(IdentityServiceClient, edges.enrollAddress, { tls: { root: trust() }, ...common }));
const nodeEdge = (tls: TlsMaterial) =>
  keep(connect(IdentityServiceClient, edges.nodeAddress, { tls, ...common }));
const admin = () =>
  keep(
    connect(SchedulerAdminServiceClient, edges.nodeAddress, { tls: edges.filesOf('control-api'), ...common }),
  );

function nodeOf(nodeId: NodeId, keys: KeyPair, certificates: Uint8Array[]): Node {
  const tls = { cert: pemOf(certificates), key: privateKeyPem(keys), root: trust() };
  return { nodeId, keys, leaf: Buffer.from(certificates[0] ?? []), tls };
}

async function enrolled(): Promise<Node> {
  const seeded = await seedNode(edges.database.superuserUrl);
  const { text } = await seedJoinToken(edges.database.superuserUrl, seeded, {
    rootFingerprint: edges.rootFingerprint,
    enroll: edges.enrollAddress,
    expiresAt: new Date(edges.clock.now() + HOUR_MS),
  });
  const [keys, client] = [newKeyPair(), enrollEdge()];
  const answer = await callUnary(client, client.enroll, { joinToken: text, csr: await makeCsr(keys) });
  return nodeOf(seeded.nodeId, keys, answer.certificates);
}

async function renewed(node: Node, keys: KeyPair = newKeyPair()): Promise<Node> {
  edges.clock.advance(1);
  const client = nodeEdge(node.tls);
  const { certificates } = await callUnary(client, client.renew, { csr: await makeCsr(keys) });
  return nodeOf(node.nodeId, keys, certificates);
}

async function askReattest(
  node: Node,
  keys: KeyPair,
  signer: KeyPair = node.keys,
): Promise<{ certificates: Uint8Array[]; pending: boolean }> {
  const [client, csr] = [enrollEdge(), await makeCsr(keys)];
  const proof = sign('sha256', csr, createPrivateKey(privateKeyPem(signer)));
  return callUnary(client, client.reattest, { certificate: node.leaf, csr, proof });
}

async function reattested(
  node: Node,
  keys: KeyPair = newKeyPair(),
  signer: KeyPair = node.keys,
): Promise<Node> {
  const { certificates, pending } = await askReattest(node, keys, signer);
  expect(pending).toBe(false);
  return nodeOf(node.nodeId, keys, certificates);
}

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'served',
    (error: unknown) => (error instanceof AppError ? error.code : String(error)),
  );

/** As if the certificate had been issued that much earlier (TLS has a clock of its own that no test can move). */
async function age(node: Node, ms: number): Promise<void> {
  const text = `UPDATE certificate SET not_before = not_before - $2 * interval '1 ms', not_after = not_after - $2 * interval '1 ms',
                issued_at = issued_at - $2 * interval '1 ms' WHERE node_id = $1`;
  await edges.pool.query(text, [node.nodeId, ms]);
}

async function rows(nodeId: NodeId) {
  const text = `SELECT serial, der, not_before, not_after, revoked_at, revoke_reason FROM certificate WHERE node_id = $1 ORDER BY issued_at`;
  return (await edges.pool.query(text, [nodeId])).rows as {
    der: Buffer;
    not_before: Date;
    not_after: Date;
    revoked_at: Date | null;
    revoke_reason: string | null;
  }[];
}

/** The same certificate with the other ECDSA signature that is as good: (r, n − s) for (r, s). */
function malleated(certificate: Buffer): Buffer {
  const order = BigInt('0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551');
  const integer = (value: bigint): Buffer => {
    const hex = value.toString(16);
    const bytes = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex');
    const body = ((bytes[0] ?? 0) & 0x80) === 0 ? bytes : Buffer.concat([Buffer.alloc(1), bytes]);
    return Buffer.concat([Buffer.from([0x02, body.length]), body]);
  };
  // SEQUENCE { tbs, algorithm, BIT STRING { SEQUENCE { r, s } } }: lengths below 64 KiB, the signature's below 128.
  const tbsLength = 4 + certificate.readUInt16BE(6);
  const algorithmLength = 2 + (certificate[4 + tbsLength + 1] ?? 0);
  const signed = certificate.subarray(4, 4 + tbsLength + algorithmLength);
  const signature = certificate.subarray(4 + signed.length + 3);
  const rLength = signature[3] ?? 0;
  const s = BigInt(`0x${signature.subarray(4 + rLength + 2).toString('hex')}`);
  const pair = Buffer.concat([signature.subarray(2, 4 + rLength), integer(order - s)]);
  const bits = Buffer.concat([Buffer.from([0x03, pair.length + 3, 0, 0x30, pair.length]), pair]);
  const head = Buffer.from([0x30, 0x82, 0, 0]);
  head.writeUInt16BE(signed.length + bits.length, 2);
  return Buffer.concat([head, signed, bits]);
}

describe('a new certificate', () => {
  test('is a client certificate of one node for 24 h, from five minutes ago, and stands in the database [R2-12, R1-28]', async () => {
    const node = await enrolled();
    const leaf = new X509Certificate(node.leaf);
    expect(leaf.subjectAltName).toBe(`URI:spiffe://${TRUST_DOMAIN}/node/${node.nodeId}`);
    expect(leaf.keyUsage).toEqual(['1.3.6.1.5.5.7.3.2']);
    expect(leaf.ca).toBe(false);
    expect(Math.abs(leaf.validToDate.getTime() - edges.clock.now() - DAY_MS)).toBeLessThan(1000);
    expect(Math.abs(leaf.validFromDate.getTime() - edges.clock.now() + 5 * 60_000)).toBeLessThan(1000);
    const [row] = await rows(node.nodeId);
    expect(row?.der).toEqual(node.leaf);
    expect(row?.not_after).toEqual(leaf.validToDate);
  });
});

describe('renewal', () => {
  test('gives a certificate for the new key; the old one still connects until it expires', async () => {
    const node = await enrolled();
    const next = await renewed(node);
    expect(new X509Certificate(next.leaf).checkPrivateKey(next.keys.privateKey)).toBe(true);
    expect((await renewed(next)).nodeId).toBe(node.nodeId);
    expect(await rows(node.nodeId)).toHaveLength(3);
  });

  test('wants a new key each time', async () => {
    const node = await enrolled();
    expect(await codeOf(renewed(node, node.keys))).toBe('invalid_input');
  });

  test('asked again with the same key gives the same certificate: the answer got lost', async () => {
    const node = await enrolled();
    const keys = newKeyPair();
    const [first, second] = [await renewed(node, keys), await renewed(node, keys)];
    expect(second.leaf).toEqual(first.leaf);
  });

  test('of a certificate that has a successor is refused: two hold this identity', async () => {
    const node = await enrolled();
    await renewed(node);
    expect(await codeOf(renewed(node))).toBe('certificate_superseded');
    expect(await rows(node.nodeId)).toHaveLength(2);
  });

  test('at once by twenty gives one certificate', async () => {
    const node = await enrolled();
    edges.clock.advance(1);
    const codes = await Promise.all(Array.from({ length: 20 }, () => codeOf(renewed(node))));
    expect(codes.filter((code) => code === 'served')).toHaveLength(1);
    expect(codes.filter((code) => code === 'certificate_superseded')).toHaveLength(19);
    expect(await rows(node.nodeId)).toHaveLength(2);
  });

  test('is refused to a certificate that the database does not know', async () => {
    const node = await enrolled();
    // Refused by the door already, since every call of a node asks the table; a superuser forges the loss.
    await edges.pool.query(
      `UPDATE certificate SET public_key_hash = decode(repeat('00', 32), 'hex') WHERE node_id = $1`,
      [node.nodeId],
    );
    expect(await codeOf(renewed(node))).toBe('certificate_invalid');
  });
});

describe('re-attestation', () => {
  test('is the way back for a certificate that expired less than a week ago', async () => {
    const node = await enrolled();
    expect(await codeOf(reattested(node))).toBe('failed_precondition');
    await age(node, 8 * DAY_MS - HOUR_MS);
    const back = await reattested(node);
    expect((await renewed(back)).nodeId).toBe(node.nodeId);
    expect(await codeOf(reattested(node))).toBe('certificate_superseded');
  });

  test('is refused after that, without the old key, and for a certificate of somebody else', async () => {
    const [node, other] = [await enrolled(), await enrolled()];
    await age(node, 2 * DAY_MS);
    expect(await codeOf(reattested(node, newKeyPair(), newKeyPair()))).toBe('certificate_invalid');
    expect(await codeOf(reattested({ ...other, leaf: node.leaf }))).toBe('certificate_invalid');
    expect(await codeOf(reattested({ ...node, leaf: Buffer.from('nonsense') }))).toBe('certificate_invalid');
    await age(node, 30 * DAY_MS);
    expect(await codeOf(reattested(node))).toBe('certificate_invalid');
  });

  test('after that waits until an admin approves that very key, up to 30 days', async () => {
    const node = await enrolled();
    await age(node, 30 * DAY_MS);
    const [mine, thief] = [newKeyPair(), newKeyPair()];
    const pending = { certificates: [], pending: true };
    const approve = (hash: Buffer): Promise<unknown> =>
      edges.pool.query(
        'UPDATE reattest_request SET approved_at = $3 WHERE node_id = $1 AND public_key_hash = $2',
        [node.nodeId, hash, new Date(edges.clock.now())],
      );
    expect(await askReattest(node, mine)).toEqual(pending);
    await approve(publicKeyHash(mine.publicKey));
    // Whoever holds the old key too neither uses nor replaces what was approved.
    expect(await askReattest(node, thief)).toEqual(pending);
    expect((await rows(node.nodeId)).length).toBe(1);
    const back = await reattested(node, mine);
    expect((await renewed(back)).nodeId).toBe(node.nodeId);
    expect(await codeOf(askReattest(node, mine))).toBe('certificate_superseded');
    const left = await edges.pool.query('SELECT FROM reattest_request WHERE node_id = $1', [node.nodeId]);
    expect(left.rowCount).toBe(0);
  });

  test('waits again when the approval is a day old, and for good when the node is revoked', async () => {
    const node = await enrolled();
    await age(node, 20 * DAY_MS);
    const keys = newKeyPair();
    expect(await askReattest(node, keys)).toMatchObject({ pending: true });
    await edges.pool.query('UPDATE reattest_request SET approved_at = $2 WHERE node_id = $1', [
      node.nodeId,
      new Date(edges.clock.now() - DAY_MS),
    ]);
    expect(await askReattest(node, keys)).toMatchObject({ pending: true });
    const client = admin();
    await callUnary(client, client.revokeNode, { nodeId: node.nodeId, reason: 'lost' });
    expect(await codeOf(askReattest(node, keys))).toBe('certificate_revoked');
    const left = await edges.pool.query('SELECT FROM reattest_request WHERE node_id = $1', [node.nodeId]);
    expect(left.rowCount).toBe(0);
  });

  test('asked again with the same key gives the same certificate', async () => {
    const node = await enrolled();
    await age(node, 2 * DAY_MS);
    const keys = newKeyPair();
    expect((await reattested(node, keys)).leaf).toEqual((await reattested(node, keys)).leaf);
  });
});

describe('revocation', () => {
  async function streaming(node: Node) {
    const client = keep(connect(UsageServiceClient, edges.nodeAddress, { tls: node.tls, ...common }));
    const stream = openBidi((metadata, options) => client.ingest(metadata, options));
    const answers = stream[Symbol.asyncIterator]();
    await stream.write({ message: undefined });
    await answers.next();
    return { stream, answers };
  }
  const revoke = (nodeId: string, reason = 'stolen') => {
    const client = admin();
    return callUnary(client, client.revokeNode, { nodeId, reason });
  };

  test('ends the stream within 5 s, kills every certificate and token, and leaves the neighbour alone [V27, R2-12]', async () => {
    const [node, neighbour] = [await enrolled(), await enrolled()];
    const next = await renewed(node);
    const [theirs, mine] = [await streaming(neighbour), await streaming(next)];
    const started = performance.now();
    expect(await revoke(node.nodeId)).toEqual({ certificatesRevoked: 2 });
    expect(await codeOf(mine.answers.next())).toBe('certificate_revoked');
    expect(performance.now() - started).toBeLessThan(5000);
    for (const holder of [node, next]) expect(await codeOf(renewed(holder))).toBe('certificate_revoked');
    await age(next, 2 * DAY_MS);
    expect(await codeOf(reattested(next))).toBe('certificate_revoked');
    const state = await edges.pool.query('SELECT state FROM node WHERE node_id = $1', [node.nodeId]);
    expect(state.rows).toEqual([{ state: 'revoked' }]);
    expect((await rows(node.nodeId)).map((row) => row.revoke_reason)).toEqual(['stolen', 'stolen']);
    expect(await revoke(node.nodeId)).toEqual({ certificatesRevoked: 0 });
    theirs.stream.cancel();
  });

  test('holds for a copy of the certificate with another valid signature [V27]', async () => {
    const node = await enrolled();
    const copy = malleated(node.leaf);
    expect(new X509Certificate(copy).fingerprint256).not.toBe(new X509Certificate(node.leaf).fingerprint256);
    const [, issuing] = edges.ca.chainOf(copy, new X509Certificate(copy));
    const thief = nodeOf(node.nodeId, node.keys, [copy, issuing ?? Buffer.alloc(0)]);
    await revoke(node.nodeId);
    expect(await codeOf(renewed(thief))).toBe('certificate_revoked');
    expect(await codeOf(reattested(thief))).toBe('certificate_revoked');
  });

  test('by another process ends the stream too: the notification is heard', async () => {
    const node = await enrolled();
    const { answers } = await streaming(node);
    await edges.pool.query(`UPDATE certificate SET revoked_at = now() WHERE node_id = $1`, [node.nodeId]);
    await edges.pool.query(`SELECT pg_notify('node_revoked', $1)`, [node.nodeId]);
    const started = performance.now();
    expect(await codeOf(answers.next())).toBe('certificate_revoked');
    expect(performance.now() - started).toBeLessThan(5000);
  });

  test('whose notification got lost is found by the sweep', async () => {
    const node = await enrolled();
    const { answers } = await streaming(node);
    await edges.pool.query(`UPDATE certificate SET revoked_at = now() WHERE node_id = $1`, [node.nodeId]);
    const started = performance.now();
    expect(await codeOf(answers.next())).toBe('certificate_revoked');
    expect(performance.now() - started).toBeLessThan(5000);
  });

  test('is for control-api, of a node that exists, for a reason of readable length', async () => {
    const node = await enrolled();
    expect(await codeOf(revoke('nonsense'))).toBe('invalid_input');
    expect(await codeOf(revoke('00000000-0000-7000-8000-000000000000'))).toBe('not_found');
    expect(await codeOf(revoke(node.nodeId, 'x'.repeat(201)))).toBe('invalid_input');
    for (const tls of [edges.filesOf('collector'), edges.filesOf('caddy'), node.tls]) {
      const client = keep(connect(SchedulerAdminServiceClient, edges.nodeAddress, { tls, ...common }));
      const request = { nodeId: node.nodeId, reason: '' };
      expect(await codeOf(callUnary(client, client.revokeNode, request))).toBe('forbidden');
    }
  });
});
