// V25: a join token is good for one certificate, however many ask at once; expired, revoked, forged, other tenant's and
// used ones are refused, each by its own code.
import { X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { AppError } from '@penstock/domain/errors';
import { keyPairFromPem, makeCsr, newKeyPair, privateKeyPem, type KeyPair } from '@penstock/rpc/certificates';
import { callUnary, connect } from '@penstock/rpc/client';
import { formatJoinToken, newJoinTokenSecret, parseJoinToken } from '@penstock/rpc/join-token';
import { IdentityServiceClient, type EnrollResponse } from '@penstock/rpc/gen/penstock/identity/v1/identity';
import { seedJoinToken, seedNode, type SeededNode } from '@penstock/testkit/enrollment';
import {
  startIdentityEdges,
  log,
  TRUST_DOMAIN,
  type IdentityEdges,
} from '../../apps/scheduler/test/identity-edges.js';

const TRIES = 500;
const MINUTE_MS = 60_000;
let edges: IdentityEdges;
let client: IdentityServiceClient;

beforeAll(async () => {
  // The limit is wide here, so that the race is decided by the database; the limit has its own test below.
  edges = await startIdentityEdges({ enrollLimit: { perSecond: 1000, burst: 5000, addressesMax: 10 } });
  client = clientOf(edges);
});
afterAll(async () => {
  client.close();
  await edges.close();
});

function clientOf({ enrollAddress, tlsOf }: IdentityEdges): IdentityServiceClient {
  const options = {
    tls: { root: tlsOf('scheduler').root },
    trustDomain: TRUST_DOMAIN,
    servers: ['scheduler' as const],
    log,
  };
  return connect(IdentityServiceClient, enrollAddress, options);
}

async function token(
  node: SeededNode,
  expiresInMs = 10 * MINUTE_MS,
  revokedAt?: Date,
  of: IdentityEdges = edges,
) {
  return seedJoinToken(of.database.superuserUrl, node, {
    rootFingerprint: of.rootFingerprint,
    enroll: of.enrollAddress,
    expiresAt: new Date(of.clock.now() + expiresInMs),
    ...(revokedAt && { revokedAt }),
  });
}

async function attempt(
  text: string,
  keys: KeyPair = newKeyPair(),
  using = client,
): Promise<EnrollResponse | AppError> {
  const csr = await makeCsr(keys);
  for (;;) {
    const request = { joinToken: text, csr };
    const result = await callUnary(using, using.enroll, request, { deadlineMs: 30_000 }).catch(
      (e: AppError) => e,
    );
    // Not an answer: the database's queue was full for a moment. A node asks again too.
    if (!(result instanceof AppError) || result.code !== 'unavailable') return result;
  }
}

const codeOf = (result: EnrollResponse | AppError): string =>
  result instanceof AppError ? result.code : 'enrolled';

async function certificates(joinTokenId: string, of: IdentityEdges = edges): Promise<number> {
  const result = await of.pool.query('SELECT serial FROM certificate WHERE join_token_id = $1', [
    joinTokenId,
  ]);
  return result.rows.length;
}

test('V25 500 parallel enrolments with one token give exactly one certificate', async () => {
  const node = await seedNode(edges.database.superuserUrl);
  const { text, joinTokenId } = await token(node);
  const codes = (await Promise.all(Array.from({ length: TRIES }, () => attempt(text)))).map(codeOf);
  expect(codes.filter((code) => code === 'enrolled')).toHaveLength(1);
  expect(codes.filter((code) => code === 'token_used')).toHaveLength(TRIES - 1);
  expect(await certificates(joinTokenId)).toBe(1);
  expect(await edges.metrics.registry.metrics()).toContain(
    `rpc_failures_total{code="token_used"} ${TRIES - 1}`,
  );
});

test('parallel enrolments with one token and one key give the same certificate', async () => {
  const node = await seedNode(edges.database.superuserUrl);
  const { text, joinTokenId } = await token(node);
  const keys = newKeyPair();
  const results = await Promise.all(Array.from({ length: 100 }, () => attempt(text, keys)));
  expect(new Set(results.map(codeOf))).toEqual(new Set(['enrolled']));
  const leaves = results.map((r) =>
    r instanceof AppError ? '' : Buffer.from(r.certificates[0]!).toString('hex'),
  );
  expect(new Set(leaves).size).toBe(1);
  expect(await certificates(joinTokenId)).toBe(1);
});

test('the limit of an address holds in front of the race', async () => {
  const narrow = await startIdentityEdges();
  const using = clientOf(narrow);
  try {
    const node = await seedNode(narrow.database.superuserUrl);
    const { text, joinTokenId } = await token(node, 10 * MINUTE_MS, undefined, narrow);
    const codes = (
      await Promise.all(Array.from({ length: TRIES }, () => attempt(text, newKeyPair(), using)))
    ).map(codeOf);
    expect(codes.filter((code) => code === 'enrolled')).toHaveLength(1);
    expect(codes.filter((code) => code === 'token_used')).toHaveLength(19);
    expect(codes.filter((code) => code === 'rate_limited')).toHaveLength(TRIES - 20);
    expect(await certificates(joinTokenId, narrow)).toBe(1);
    narrow.clock.advance(1000);
    expect(codeOf(await attempt(text, newKeyPair(), using))).toBe('token_used');
    expect(codeOf(await attempt(text, newKeyPair(), using))).toBe('rate_limited');
  } finally {
    using.close();
    await narrow.close();
  }
});

test('a lost answer can be asked for again within five minutes, with the same key only', async () => {
  const node = await seedNode(edges.database.superuserUrl);
  const { text } = await token(node, 60 * MINUTE_MS);
  const keys = newKeyPair();
  const first = (await attempt(text, keys)) as EnrollResponse;
  expect(first.nodeId).toBe(node.nodeId);
  edges.clock.advance(5 * MINUTE_MS);
  const second = (await attempt(text, keys)) as EnrollResponse;
  expect(Buffer.from(second.certificates[0]!)).toEqual(Buffer.from(first.certificates[0]!));
  expect(codeOf(await attempt(text))).toBe('token_used');
  edges.clock.advance(1);
  expect(codeOf(await attempt(text, keys))).toBe('token_used');
});

test('V25 expired, revoked and unknown tokens are refused and leave nothing', async () => {
  const node = await seedNode(edges.database.superuserUrl);
  const expired = await token(node, 0);
  expect(codeOf(await attempt(expired.text))).toBe('token_expired');
  const revoked = await token(node, 10 * MINUTE_MS, new Date(edges.clock.now()));
  expect(codeOf(await attempt(revoked.text))).toBe('token_invalid');
  const good = await token(node);
  const forged = formatJoinToken({ ...parseJoinToken(good.text), secret: newJoinTokenSecret() });
  expect(codeOf(await attempt(forged))).toBe('token_invalid');
  for (const text of [
    '',
    'pst1.',
    'pst1.e30',
    'x'.repeat(5000),
    good.text.slice(0, -9),
    `pst2.${good.text.slice(5)}`,
  ]) {
    expect(codeOf(await attempt(text))).toBe('token_invalid');
  }
  for (const { joinTokenId } of [expired, revoked, good]) expect(await certificates(joinTokenId)).toBe(0);
});

test("V25 another tenant's token enrolls that tenant's node, never mine", async () => {
  const mine = await seedNode(edges.database.superuserUrl);
  const theirs = await seedNode(edges.database.superuserUrl);
  await token(mine);
  const result = (await attempt((await token(theirs)).text)) as EnrollResponse;
  expect(result.nodeId).toBe(theirs.nodeId);
  const leaf = new X509Certificate(result.certificates[0]!);
  expect(leaf.subjectAltName).toBe(`URI:spiffe://${TRUST_DOMAIN}/node/${theirs.nodeId}`);
});

test("a revoked node's tokens are dead [V27]", async () => {
  const node = await seedNode(edges.database.superuserUrl);
  const { text, joinTokenId } = await token(node);
  await edges.pool.query(`UPDATE node SET state = 'revoked' WHERE node_id = $1`, [node.nodeId]);
  expect(codeOf(await attempt(text))).toBe('token_invalid');
  expect(await certificates(joinTokenId)).toBe(0);
});

test('only the key of a request is taken, and only a proven P-256 one', async () => {
  const node = await seedNode(edges.database.superuserUrl);
  const { text, joinTokenId } = await token(node);
  const keys = keyPairFromPem(privateKeyPem(newKeyPair()));
  const good = await makeCsr(keys);
  const broken = Buffer.from(good);
  broken[broken.length - 5]! ^= 1;
  for (const csr of [Buffer.alloc(0), Buffer.from('x'), broken, good.subarray(0, 50), Buffer.alloc(5000)]) {
    const error = await callUnary(client, client.enroll, { joinToken: text, csr }).catch((e: AppError) => e);
    expect(error).toMatchObject({ code: 'invalid_input', field: 'csr' });
  }
  expect(await certificates(joinTokenId)).toBe(0);
  expect(codeOf(await attempt(text, keys))).toBe('enrolled');
});
