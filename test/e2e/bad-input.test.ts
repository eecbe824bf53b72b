// What must not get in: bad tokens, foreign certificates, claims about other nodes, broken frames, broken requests. Each
// is refused with its own code, counted by the process that refused it, and leaves the database as it was.
import { generateKeyPairSync } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { AppError } from '@penstock/domain/errors';
import type { NodeId } from '@penstock/domain/ids';
import { makeCsr, newKeyPair } from '@penstock/rpc/certificates';
import { callUnary, connect, openBidi } from '@penstock/rpc/client';
import {
  EnforcementServiceClient,
  type SyncRequest,
  type SyncResponse,
} from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import { IdentityServiceClient } from '@penstock/rpc/gen/penstock/identity/v1/identity';
import { formatJoinToken, newJoinTokenSecret, parseJoinToken } from '@penstock/rpc/join-token';
import { TestJournal, type SealedFrame, type Usage } from '@penstock/testkit/journal';
import { createTestTrust } from '@penstock/testkit/trust';
import { download } from '@penstock/testkit/traffic/socks-client';
import { headOf, identityOf, log, RawNode, TRUST_DOMAIN } from './raw-node.js';
import { until } from './until.js';
import { edge, World, type Customer, type NodeOfWorld } from './world.js';

let world: World;
let node: NodeOfWorld;
let customer: Customer;
/** A registered node that nobody runs. */
let otherNodeId: string;

beforeAll(async () => {
  world = await World.start();
  node = await world.addNode('one', ['xray']);
  customer = await world.addCustomer(null, ['xray']);
  const client = await world.xrayClient(customer, node);
  expect((await download(world.socks(client), 100_003)).complete).toBe(true);
  await world.booked(customer, await world.xrayCounters(node, customer));
  otherNodeId = await registerNode('other');
  // From here on the test speaks for the node.
  await world.stack.process(node.process).stop();
});
afterAll(() => world?.destroy());

async function registerNode(name: string): Promise<string> {
  const inbounds = [{ engine: 'xray', port: 40443, security: 'none' }];
  const body = { name, address: '127.0.0.1', inbounds, nodeGroupIds: [world.nodeGroupId] };
  return String((await world.asOwner('POST', '/api/v1/nodes', body))['nodeId']);
}

/** Everything that a refused attempt could have changed. */
async function fingerprint(): Promise<unknown> {
  const { rows } = await world.sql.query(
    `SELECT (SELECT count(*) FROM certificate) AS certificates,
            (SELECT count(*) FROM ledger_frame) AS frames, (SELECT count(*) FROM ledger_slice) AS slices,
            (SELECT string_agg(node_id || '/' || epoch || '/' || seq || '/' || encode(digest, 'hex'), ',') FROM stream_head) AS heads,
            (SELECT coalesce(sum(up_bytes + down_bytes), 0) FROM usage_counter) AS used,
            (SELECT count(*) FROM usage_quarantine) AS quarantined, (SELECT count(*) FROM loss_mark) AS marks,
            (SELECT count(*) FROM revision) AS revisions, (SELECT count(*) FROM plan) AS plans,
            (SELECT count(*) FROM subscription) AS subscriptions`,
  );
  return rows[0];
}

/** `attempt` ends with `code`, its counter moves by one, nothing else does. */
async function refused(
  code: string,
  counter: { process: string; series: string } | null,
  attempt: () => Promise<string>,
): Promise<void> {
  const before = await fingerprint();
  const count = (): Promise<number> =>
    counter === null ? Promise.resolve(0) : world.metric(counter.process, counter.series);
  const counted = await count();
  expect(await attempt()).toBe(code);
  if (counter !== null) expect(await count(), counter.series).toBe(counted + 1);
  expect(await fingerprint()).toEqual(before);
}

const codeOf = (error: unknown): string => (error instanceof AppError ? error.code : String(error));
const rpcFailure = (process: string, code: string) => ({
  process,
  series: `penstock_rpc_failures_total{code="${code}"}`,
});
const rejected = (reason: string) => ({ process: 'collector', series: `rejected_total{reason="${reason}"}` });

describe('a join token', () => {
  async function enroll(joinToken: string): Promise<string> {
    const address = world.stack.edges.enrollEdge.replace('https://', '');
    const tls = { root: identityOf(node.agentDir).tls.root };
    const client = connect(IdentityServiceClient, address, {
      ...{ tls, trustDomain: TRUST_DOMAIN, servers: ['scheduler', 'caddy'] as const, log },
    });
    try {
      const csr = await makeCsr(newKeyPair());
      return await callUnary(client, client.enroll, { joinToken, csr }).then(() => 'enrolled', codeOf);
    } finally {
      client.close();
    }
  }

  async function newToken(): Promise<{ text: string; joinTokenId: string }> {
    const made = await world.asOwner('POST', `/api/v1/nodes/${otherNodeId}/join-tokens`, {});
    return { text: String(made['token']), joinTokenId: String(made['joinTokenId']) };
  }

  test('that was used is refused', async () => {
    const { text } = await newToken();
    expect(await enroll(text)).toBe('enrolled');
    await refused('token_used', rpcFailure('scheduler', 'token_used'), () => enroll(text));
  });

  test('that is wrong or damaged is refused', async () => {
    const { text } = await newToken();
    const forged = formatJoinToken({ ...parseJoinToken(text), secret: newJoinTokenSecret() });
    for (const bad of [forged, `${text.slice(0, 40)}`, 'pst1.', '']) {
      await refused('token_invalid', rpcFailure('scheduler', 'token_invalid'), () => enroll(bad));
    }
  });

  test('that has expired is refused', async () => {
    const { text, joinTokenId } = await newToken();
    const sql = `UPDATE join_token SET expires_at = now() - interval '1 s' WHERE join_token_id = $1`;
    expect((await world.sql.query(sql, [joinTokenId])).rowCount).toBe(1);
    await refused('token_expired', rpcFailure('scheduler', 'token_expired'), () => enroll(text));
  });
});

describe('the node edge', () => {
  test('refuses a certificate of another authority', async () => {
    const trust = await createTestTrust(TRUST_DOMAIN);
    const { tls } = await trust.node(node.nodeId as NodeId);
    const count = () => world.metric('collector', 'penstock_rpc_refused_connections_total{reason="chain"}');
    const counted = await count();
    await refused('unavailable', null, async () => {
      // It trusts the real root: only its own certificate is foreign.
      const raw = new RawNode(world, { tls: { ...tls, root: identityOf(node.agentDir).tls.root } });
      await raw.open({ nodeId: node.nodeId });
      return raw.refusedWith();
    });
    // Caddy ends the handshake itself; otherwise the collector has counted each try.
    if (edge === 'direct') await until(async () => (await count()) > counted, 'the refusal is counted');
  });

  test('refuses usage in another node’s name', async () => {
    await refused('node_mismatch', rejected('node_mismatch'), async () => {
      const raw = new RawNode(world, identityOf(node.agentDir));
      await raw.open({ nodeId: otherNodeId });
      return raw.refusedWith();
    });
  });

  test('refuses orders in another node’s name', async () => {
    await refused('node_mismatch', rpcFailure('scheduler', 'node_mismatch'), async () => {
      const address = world.stack.edges.nodeEdge.replace('https://', '');
      const { tls } = identityOf(node.agentDir);
      const client = connect(EnforcementServiceClient, address, {
        ...{ tls, trustDomain: TRUST_DOMAIN, servers: ['scheduler', 'caddy'] as const, log },
      });
      const call = openBidi<SyncRequest, SyncResponse>((metadata, options) => client.sync(metadata, options));
      const hello = {
        ...{ nodeId: otherNodeId, agentVersion: 'raw', appliedRevision: 0n, appliedDigest: Buffer.alloc(0) },
        ...{ fence: 0n, engines: ['xray'], clockMs: BigInt(Date.now()), pending: [] },
      };
      try {
        await call.write({ message: { $case: 'hello', value: hello } });
        for await (const { message } of call) return `answered with ${message?.$case ?? 'nothing'}`;
        return 'ended without a word';
      } catch (error) {
        return codeOf(error);
      } finally {
        call.cancel();
        client.close();
      }
    });
  });
});

describe('a frame', () => {
  let raw: RawNode;
  let journal: TestJournal;
  let usage: Usage[];

  beforeEach(async () => {
    const identity = identityOf(node.agentDir);
    const head = await headOf(world, node);
    journal = new TestJournal(node.nodeId as NodeId, identity.serial, identity.privateKey, Date.now() - 1000);
    Object.assign(journal, { epoch: head.epoch, seq: head.seq, link: head.digest });
    const { rows } = await world.sql.query<{ tenant_id: string; digest: Buffer }>(
      'SELECT tenant_id, digest FROM slice_head WHERE node_id = $1',
      [node.nodeId],
    );
    for (const { tenant_id, digest } of rows) journal.sliceEnds.set(tenant_id, digest);
    usage = [{ tenantId: customer.tenantId, subscriptionId: customer.subscriptionId, up: 10n, down: 20n }];
    raw = new RawNode(world, identity);
    await raw.open({ nodeId: node.nodeId, epoch: head.epoch, seq: head.seq, digest: head.digest });
    expect(await raw.answer('opened')).toMatchObject({ nextSeq: head.seq + 1n });
    return () => raw.close();
  });

  async function refusal(frame: SealedFrame, change: Parameters<RawNode['send']>[1] = {}): Promise<string> {
    await raw.send(frame, change);
    return String((await raw.answer('refused'))['code']);
  }

  test('whose bytes are not a frame is refused', async () => {
    const frame = journal.seal(usage);
    await refused('frame_malformed', rejected('frame_malformed'), () =>
      refusal(frame, { data: frame.bytes.subarray(0, frame.bytes.length - 3) }),
    );
  });

  test('with a slice whose sums are wrong is refused', async () => {
    const frame = journal.seal(usage, {
      rows: (rows) => rows.map((row) => ({ ...row, cumulativeDown: row.cumulativeDown + 1n })),
    });
    await refused('sum_mismatch', rejected('sum_mismatch'), () => refusal(frame));
  });

  test('that names another frame before it is refused, and the stream goes on when an operator releases it', async () => {
    const frame = journal.seal(usage, { header: { prevDigest: Buffer.alloc(32, 7) } });
    await refused('digest_mismatch', rejected('digest_mismatch'), () => refusal(frame));
    const head = await headOf(world, node);
    const again = async (): Promise<RawNode> => {
      raw.close();
      raw = new RawNode(world, identityOf(node.agentDir));
      await raw.open({ nodeId: node.nodeId, epoch: head.epoch, seq: head.seq, digest: head.digest });
      return raw;
    };
    expect(await (await again()).refusedWith()).toBe('stream_frozen');
    const status = await world.asOwner('POST', `/api/v1/nodes/${node.nodeId}/stream/release`);
    expect(status['stream']).toMatchObject({ frozenReason: 'other_predecessor' });
    expect(await (await again()).answer('opened')).toMatchObject({ epoch: head.epoch + 1, nextSeq: 1n });
  });

  test('with a slice that names another slice before it is refused', async () => {
    const frame = journal.seal(usage, { slicePrevDigest: Buffer.alloc(32, 7) });
    await refused('digest_mismatch', rejected('digest_mismatch'), () => refusal(frame));
  });

  test('that somebody else signed is refused', async () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    await refused('signature_invalid', rejected('signature_invalid'), () =>
      refusal(journal.seal(usage, { signWith: privateKey })),
    );
  });

  test('of another node is refused', async () => {
    const foreign = Buffer.from(otherNodeId.replaceAll('-', ''), 'hex');
    const frame = journal.seal(usage, { header: { nodeId: foreign } });
    await refused('node_mismatch', rejected('node_mismatch'), () => refusal(frame));
  });

  test('with a part larger than a message may be is refused', async () => {
    const data = Buffer.alloc(1_048_577);
    await refused('frame_too_large', rejected('frame_too_large'), () =>
      refusal(journal.seal(usage), { data }),
    );
  });

  test('of too many bytes in all is refused', async () => {
    const frame = journal.seal(usage);
    const data = Buffer.alloc(1_048_576);
    await refused('frame_too_large', rejected('frame_too_large'), async () => {
      for (let part = 0; part < 17; part++) await raw.send(frame, { data, part, parts: 32 });
      return String((await raw.answer('refused'))['code']);
    });
  });

  test('that comes too early is not taken; the expected one is asked for', async () => {
    const first = journal.seal(usage);
    const second = journal.seal(usage);
    await refused('expected', rejected('order_overflow'), async () => {
      await raw.send(second);
      expect(await raw.answer('expected')).toEqual({ seq: first.seq });
      return 'expected';
    });
  });

  test('that comes again is acknowledged and not counted again', async () => {
    const before = await world.ledgerBytes(customer);
    const frame = journal.seal(usage);
    await raw.send(frame);
    await raw.answer('accepted');
    await world.booked(customer, { up: before.up + 10n, down: before.down + 20n });
    const again = { process: 'collector', series: 'penstock_collector_frames_total{result="duplicate"}' };
    await refused('duplicate', again, async () => {
      raw.responses.length = 0;
      await raw.send(frame);
      return (await raw.answer('accepted'))['duplicate'] === true ? 'duplicate' : 'taken';
    });
  });
});

describe('a request', () => {
  const good = { name: 'plan', limitBytes: '1000', engines: ['xray'] };
  const bad: [string, Record<string, unknown>, string][] = [
    ['an unknown field', { colour: 'red' }, 'colour'],
    ['no engine', { engines: [] }, 'engines'],
    ['a negative limit', { limitBytes: '-1' }, 'limitBytes'],
    ['a limit beyond 63 bits', { limitBytes: '9223372036854775808' }, 'limitBytes'],
    ['a limit that is no whole number', { limitBytes: '1e3' }, 'limitBytes'],
  ];
  test.each(bad)('with %s is refused and names the field', async (_name, change, field) => {
    const token = await world.tokenFor(world.tenantId);
    const counter = { process: 'control-api', series: 'http_problems_total{code="invalid_input"}' };
    await refused('invalid_input', counter, async () => {
      const body = { ...good, nodeGroupIds: [world.nodeGroupId], ...change };
      const answer = await world.raw('POST', '/api/v1/plans', token, body);
      expect(answer.status).toBe(400);
      expect(JSON.stringify(answer.body)).toContain(field);
      return String(answer.body['code']);
    });
  });
});
