import { createHash } from 'node:crypto';
import { parseJoinToken } from '@penstock/rpc/join-token';
import type { RevokeNodeRequest } from '@penstock/rpc/gen/penstock/scheduler_admin/v1/scheduler_admin';
import { isWireguardKey, wireguardPublicKey } from '@penstock/domain/wireguard-keys';
import { openSecret } from '@penstock/service/secret-box';
import { freePort } from '@penstock/testkit/traffic/xray-client';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { nodeGroup } from '../src/node-groups/node-groups.schema.js';
import { node, nodePage } from '../src/nodes/nodes.schema.js';
import { parseSubnet } from '../src/nodes/subnet.js';
import { startScheduler } from './revoking-scheduler.js';
import { make, reality, scene, vless, wireguard, type Scene } from './scene.js';
import { validateInbounds } from '../../node-agent/src/engines/xray/config.js';
import { ABSENT, createWorld, type Person, type World } from './world.js';

let world: World;
let own: Scene;
let other: Scene;
let platform: Person;
let shared: { nodeId: string; nodeGroupId: string };
const schedulerPort = await freePort();

beforeAll(async () => {
  world = await createWorld({ env: { SCHEDULER_ADDRESS: `127.0.0.1:${schedulerPort}` } });
  own = await scene(world, await world.person(await world.tenant('own'), 'admin'));
  other = await scene(world, await world.person(await world.tenant('other'), 'admin'));
  platform = await world.person(world.platform, 'admin');
  const made = await scene(world, platform);
  shared = { nodeId: made.nodeId, nodeGroupId: made.nodeGroupId };
});
afterAll(() => world.close());

test('201: registration makes the keys; the public ones are shown, the private ones are sealed', async () => {
  const body = { name: 'n2', address: '192.0.2.7', inbounds: [vless, reality, wireguard] };
  const answer = await world.ask('POST', '/api/v1/nodes', { as: own.admin, body });
  const made = node.parse(answer.body);
  expect(made).toMatchObject({
    shared: false,
    online: false,
    status: null,
    state: 'active',
    multiplierPerMille: 1000,
  });
  expect(answer.text).not.toMatch(/private|secret/i);
  const rows = await world.sql<{ tag: string; settings: Record<string, unknown>; secret: Buffer | null }>(
    'SELECT tag, settings, secret FROM inbound WHERE node_id = $1 ORDER BY tag',
    [made.nodeId],
  );
  expect(rows.map((row) => [row.tag, row.secret === null])).toEqual([
    ['reality', false],
    ['vless', true],
    ['wireguard', false],
  ]);
  for (const { tag, settings, secret } of rows) {
    if (secret === null) continue;
    const place = { table: 'inbound', tenant: '', row: `${made.nodeId}/${tag}` };
    const { privateKey } = JSON.parse(
      openSecret(world.context.config.DATA_KEY, secret, place).toString(),
    ) as { privateKey: string };
    const standard = Buffer.from(privateKey, 'base64url').toString('base64');
    const publicKey = Buffer.from(wireguardPublicKey(standard), 'base64');
    if (tag === 'wireguard')
      expect([settings['publicKey'], privateKey]).toEqual([publicKey.toString('base64'), standard]);
    else
      expect([settings['publicKey'], privateKey]).toEqual([
        publicKey.toString('base64url'),
        Buffer.from(standard, 'base64').toString('base64url'),
      ]);
    expect(isWireguardKey(standard)).toBe(true);
    expect(secret.toString('latin1')).not.toContain(privateKey);
  }
  expect(rows[0]?.settings['shortIds']).toEqual([expect.stringMatching(/^[0-9a-f]{16}$/)]);
  expect(await world.sql(`SELECT cause FROM access_change WHERE node_id = $1`, [made.nodeId])).toEqual([
    { cause: 'node' },
  ]);
});

test('200: a tenant lists its own nodes and the shared ones, and sees what only its own say of themselves', async () => {
  for (const nodeId of [own.nodeId, shared.nodeId]) {
    await world.sql(`INSERT INTO node_status VALUES ($1, now(), '0.1.0', 7, 1, '{}', 5000000000, 3, 9, 12)`, [
      nodeId,
    ]);
  }
  const page = nodePage.parse((await world.ask('GET', '/api/v1/nodes', { as: own.admin })).body);
  const byId = new Map(page.items.map((item) => [item.nodeId, item]));
  expect(byId.has(other.nodeId)).toBe(false);
  expect(byId.get(own.nodeId)).toMatchObject({
    online: true,
    status: { appliedRevision: '7', walBytes: '5000000000' },
  });
  expect(byId.get(shared.nodeId)).toMatchObject({ shared: true, online: true, status: null });
  const all = nodePage.parse((await world.ask('GET', '/api/v1/nodes', { as: platform })).body);
  expect(all.items.map((item) => item.nodeId)).toEqual(
    expect.arrayContaining([own.nodeId, other.nodeId, shared.nodeId]),
  );
});

test('400: addresses, ports, tags, subnets and engines that cannot be [R3-13]', async () => {
  const wrong: [string, object][] = [
    ['address', { address: 'http://x' }],
    ['address', { address: '300.1.1.1' }],
    ['inbounds', { inbounds: [] }],
    ['inbounds', { inbounds: [vless, { ...vless, port: 444 }] }],
    ['inbounds', { inbounds: [vless, { ...vless, tag: 'again' }] }],
    ['inbounds', { inbounds: [{ ...vless, port: 0 }] }],
    ['inbounds', { inbounds: [{ ...vless, port: 65_536 }] }],
    ...['80', -1, 1.5, null, true, [80], {}, '', 1e300].map((port): [string, object] => [
      'inbounds',
      { inbounds: [{ ...vless, port }] },
    ]),
    ...[null, 7, '', ' ', [], {}, 'a b', 'x'.repeat(1_000_000), 'host:80', '-x.example', '\u0000'].map(
      (address): [string, object] => ['address', { address }],
    ),
    ...['1000', 1.5, null, [], 1e300].map((linkMbps): [string, object] => ['linkMbps', { linkMbps }]),
    ['inbounds', { inbounds: [{ ...vless, tag: 'A B' }] }],
    ['inbounds', { inbounds: [{ ...vless, tag: '-a' }] }],
    ['inbounds', { inbounds: [{ ...vless, tag: 'a'.repeat(33) }] }],
    ['inbounds', { inbounds: [{ ...vless, tag: 'api' }] }],
    ['inbounds', { inbounds: [{ ...vless, tag: 'direct' }] }],
    ['inbounds', { inbounds: [{ ...wireguard, tag: 'blocked' }] }],
    ['inbounds', { inbounds: [wireguard, { ...wireguard, tag: 'wg-2', port: 51_999 }] }],
    ['inbounds', { inbounds: [{ ...vless, engine: 'openvpn' }] }],
    ['inbounds', { inbounds: [{ ...vless, privateKey: 'mine' }] }],
    ['inbounds', { inbounds: [{ ...reality, serverNames: [] }] }],
    ['inbounds', { inbounds: [{ ...wireguard, subnets: ['8.8.8.0/24'] }] }],
    ['inbounds', { inbounds: [{ ...wireguard, subnets: ['10.66.0.1/16'] }] }],
    ['multiplierPerMille', { multiplierPerMille: -1 }],
    ['linkMbps', { linkMbps: 0 }],
    ['state', { state: 'revoked' }],
  ];
  for (const [field, change] of wrong) {
    const body = { name: 'n', address: 'n.example.org', inbounds: [vless], ...change };
    const answer = await world.ask('POST', '/api/v1/nodes', { as: own.admin, body });
    expect(answer.body, JSON.stringify(change)).toMatchObject({ status: 400, code: 'invalid_input' });
    expect(String(answer.body['field']).split('.')[0], JSON.stringify(change)).toBe(field);
  }
});

test('201: the longest tag that is taken is one that the node’s Xray takes', async () => {
  const tag = `0${'-'.repeat(31)}`;
  const body = { name: 'long', address: 'n.example.org', inbounds: [{ ...vless, tag }] };
  expect((await world.ask('POST', '/api/v1/nodes', { as: own.admin, body })).status).toBe(201);
  const inbound = { tag, listen: '0.0.0.0', port: vless.port, security: 'none' as const };
  expect(() => validateInbounds([inbound])).not.toThrow();
});

test.each([
  ['10.0.0.0/8', '10.0.0.0/8'],
  ['192.168.7.0/30', '192.168.7.0/30'],
  ['FD00:1::/64', 'fd00:1::/64'],
  ['10.0.0.0/7', null],
  ['10.0.0.0/31', null],
  ['11.0.0.0/8', null],
  ['172.32.0.0/12', null],
  ['2001:db8::/64', null],
  ['10.0.0.0', null],
  ['10.0.0.0/8; DROP', null],
])('subnet %s', (text, expected) => {
  expect(parseSubnet(text)).toBe(expected);
});

test('404 and 403: another tenant’s node is not found, a shared one is seen but not changed', async () => {
  const ask = (method: string, path: string, body?: object): Promise<{ body: object }> =>
    world.ask(method, path, { as: own.admin, body });
  expect((await ask('GET', `/api/v1/nodes/${own.nodeId}`)).body).toMatchObject({ nodeId: own.nodeId });
  for (const id of [other.nodeId, ABSENT]) {
    expect((await ask('GET', `/api/v1/nodes/${id}`)).body).toMatchObject({ status: 404 });
    expect((await ask('POST', `/api/v1/nodes/${id}/join-tokens`, {})).body).toMatchObject({ status: 404 });
    expect((await ask('POST', `/api/v1/nodes/${id}/revoke`, { reason: 'x' })).body).toMatchObject({
      status: 404,
    });
    expect(
      (await ask('POST', `/api/v1/node-groups/${own.nodeGroupId}/nodes`, { nodeId: id })).body,
    ).toMatchObject({ status: 404, field: 'nodeId' });
  }
  expect(
    (await ask('POST', `/api/v1/node-groups/${other.nodeGroupId}/nodes`, { nodeId: own.nodeId })).body,
  ).toMatchObject({ status: 404 });
  expect((await ask('GET', `/api/v1/node-groups/${other.nodeGroupId}`)).body).toMatchObject({ status: 404 });
  expect((await ask('GET', `/api/v1/nodes/${shared.nodeId}`)).body).toMatchObject({ shared: true });
  expect((await ask('POST', `/api/v1/nodes/${shared.nodeId}/join-tokens`, {})).body).toMatchObject({
    status: 403,
  });
  expect((await ask('POST', `/api/v1/nodes/${shared.nodeId}/revoke`, { reason: 'x' })).body).toMatchObject({
    status: 403,
  });
  expect(
    (await ask('POST', `/api/v1/node-groups/${shared.nodeGroupId}/nodes`, { nodeId: own.nodeId })).body,
  ).toMatchObject({ status: 403 });
  const into = { name: 'n', address: 'n.example.org', inbounds: [vless], nodeGroupIds: [shared.nodeGroupId] };
  expect((await ask('POST', '/api/v1/nodes', into)).body).toMatchObject({
    status: 403,
    field: 'nodeGroupIds',
  });
});

test('200: a node joins a group once, and each change of membership asks for a new look at the node', async () => {
  const group = await make(world, own.admin, '/api/v1/node-groups', { name: 'second' });
  const path = `/api/v1/node-groups/${String(group['nodeGroupId'])}/nodes`;
  const changes = (): Promise<{ n: number }[]> =>
    world.sql('SELECT count(*)::int AS n FROM access_change WHERE node_id = $1', [own.nodeId]);
  const [before] = await changes();
  for (let i = 0; i < 2; i++) {
    const answer = await world.ask('POST', path, { as: own.admin, body: { nodeId: own.nodeId } });
    expect(nodeGroup.parse(answer.body).nodeIds).toEqual([own.nodeId]);
  }
  expect(await changes()).toEqual([{ n: (before?.n ?? 0) + 1 }]);
});

test('201: a join token is shown once, hashed in the database and carries what a node needs', async () => {
  const path = `/api/v1/nodes/${own.nodeId}/join-tokens`;
  const answer = await world.ask('POST', path, { as: own.admin, body: { ttlMinutes: 10 } });
  expect(answer.status).toBe(201);
  expect(answer.headers.get('cache-control')).toBe('no-store');
  const token = parseJoinToken(String(answer.body['token']));
  expect(token).toMatchObject({
    enroll: 'edge.test:8444',
    enforcement: 'edge.test:8443',
    usage: 'edge.test:8443',
  });
  expect(token.rootFingerprint).toBe(createHash('sha256').update(world.trust.root.certificate).digest('hex'));
  const rows = await world.sql(
    `SELECT r.kind, r.tenant_id, t.node_id, t.created_by, t.expires_at - t.created_at = interval '10 minutes' AS "tenMinutes"
       FROM credential_route r JOIN join_token t ON t.join_token_id = r.id WHERE r.hash = $1`,
    [createHash('sha256').update(token.secret).digest()],
  );
  expect(rows).toEqual([
    {
      kind: 'join_token',
      tenant_id: own.admin.tenantId,
      node_id: own.nodeId,
      created_by: own.admin.accountId,
      tenMinutes: true,
    },
  ]);
  const audit = await world.sql<{ text: string }>(
    `SELECT a::text AS text FROM audit_log a WHERE action = 'join_token.create'`,
  );
  expect(audit.some((row) => row.text.includes(token.secret.toString('base64url')))).toBe(false);
  for (const ttlMinutes of [9, 61, 10.5, '30']) {
    const wrong = await world.ask('POST', path, { as: own.admin, body: { ttlMinutes } });
    expect(wrong.body).toMatchObject({ status: 400, field: 'ttlMinutes' });
  }
  expect((await world.ask('POST', path, { as: own.admin })).status).toBe(201);
});

test('412: no join token for a revoked node', async () => {
  await world.sql(`UPDATE node SET state = 'revoked' WHERE node_id = $1`, [other.nodeId]);
  const answer = await world.ask('POST', `/api/v1/nodes/${other.nodeId}/join-tokens`, {
    as: other.admin,
    body: {},
  });
  expect(answer.body).toMatchObject({ status: 412, code: 'failed_precondition' });
});

test('503, then 200: revocation is asked of the scheduler over mTLS and audited', async () => {
  const path = `/api/v1/nodes/${own.nodeId}/revoke`;
  const body = { reason: 'stolen' };
  const operator = await world.person(own.admin.tenantId, 'operator');
  expect((await world.ask('POST', path, { as: operator, body })).body).toMatchObject({ status: 403 });
  expect((await world.ask('POST', path, { as: own.admin, body })).body).toMatchObject({
    status: 503,
    code: 'unavailable',
  });
  const asked: RevokeNodeRequest[] = [];
  const scheduler = await startScheduler(world, schedulerPort, asked);
  try {
    const revoked = await eventually(
      () => world.ask('POST', path, { as: own.admin, body, headers: { 'idempotency-key': 'once' } }),
      (a) => a.status === 200,
    );
    expect(revoked.body).toEqual({ nodeId: own.nodeId, certificatesRevoked: 2 });
    expect(asked.at(-1)).toMatchObject({ nodeId: own.nodeId, reason: 'stolen' });
  } finally {
    await scheduler.close(0);
  }
  const audit = await world.sql(
    `SELECT after FROM audit_log WHERE action = 'node.revoke' AND entity_id = $1`,
    [own.nodeId],
  );
  expect(audit).toContainEqual({ after: { state: 'revoked', reason: 'stolen' } });
});

async function eventually<T>(probe: () => Promise<T>, good: (value: T) => boolean): Promise<T> {
  for (let i = 0; i < 200; i++) {
    const value = await probe();
    if (good(value)) return value;
  }
  throw new Error('never');
}
