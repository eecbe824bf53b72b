// Nodes after their registration, through the API: changes, drain, maintenance, deletion, join tokens, groups, what an
// admin says to a node that wants back in, to a frozen stream and to usage in quarantine.
import { openSecret } from '@penstock/service/secret-box';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { joinTokenList } from '../src/join-tokens/join-tokens.schema.js';
import { nodeGroup } from '../src/node-groups/node-groups.schema.js';
import { node, nodePage, nodeStatus } from '../src/nodes/nodes.schema.js';
import { quarantinePage, released } from '../src/quarantine/quarantine.schema.js';
import { make, reality, scene, vless, wireguard, type Scene } from './scene.js';
import { ABSENT, createWorld, type Answer, type Person, type World } from './world.js';

let world: World;
let own: Scene;
let other: Scene;
let platform: Person;
let shared: Scene;

beforeAll(async () => {
  world = await createWorld();
  own = await scene(world, await world.person(await world.tenant('own'), 'admin'));
  other = await scene(world, await world.person(await world.tenant('other'), 'admin'));
  platform = await world.person(world.platform, 'admin');
  shared = await scene(world, platform);
});
afterAll(() => world.close());

const ask = (
  method: string,
  path: string,
  body?: object,
  headers: Record<string, string> = {},
): Promise<Answer> =>
  world.ask(method, path, { as: own.admin, headers, ...(body === undefined ? {} : { body }) });

let made = 0;
async function newNode(inbounds: object[] = [vless, wireguard]): Promise<string> {
  const body = { name: `node ${++made}`, address: 'n.example.org', inbounds };
  return String((await make(world, own.admin, '/api/v1/nodes', body))['nodeId']);
}
const revoke = (nodeId: string): Promise<unknown> =>
  world.sql(`UPDATE node SET state = 'revoked', version = version + 1 WHERE node_id = $1`, [nodeId]);
const audited = async (action: string, entityId: string | null): Promise<number> =>
  (
    await world.sql<{ n: number }>(
      'SELECT count(*)::int AS n FROM audit_log WHERE action = $1 AND entity_id IS NOT DISTINCT FROM $2::uuid',
      [action, entityId],
    )
  )[0]?.n ?? 0;
const changes = async (nodeId: string): Promise<number> =>
  (
    await world.sql<{ n: number }>('SELECT count(*)::int AS n FROM access_change WHERE node_id = $1', [
      nodeId,
    ])
  )[0]?.n ?? 0;

interface Inbound {
  tag: string;
  port: number;
  settings: Record<string, unknown>;
}

test('200: a change needs the version that it was made from, and gives the next one', async () => {
  const nodeId = await newNode();
  const path = `/api/v1/nodes/${nodeId}`;
  const read = await ask('GET', path);
  expect(read.headers.get('etag')).toBe('"1"');
  const change = { name: 'renamed', address: '192.0.2.9', linkMbps: 500, multiplierPerMille: 2000 };
  const answer = await ask('PATCH', path, change, { 'if-match': '"1"' });
  expect(answer.headers.get('etag')).toBe('"2"');
  expect(node.parse(answer.body)).toMatchObject({ ...change, version: 2 });
  // Windows that end within the next minutes are billed as before; the change says from when on it holds.
  const from = Date.parse(String(answer.body['multiplierFrom']));
  expect(from - Date.now()).toBeGreaterThan(4 * 60_000);
  expect((await ask('PATCH', path, change, { 'if-match': '"1"' })).body).toMatchObject({
    ...{ status: 412, field: 'If-Match' },
  });
  for (const wrong of [
    {},
    { state: 'revoked' },
    { linkMbps: 0 },
    { inbounds: [] },
    { multiplierPerMille: NaN },
  ]) {
    expect((await ask('PATCH', path, wrong)).body, JSON.stringify(wrong)).toMatchObject({ status: 400 });
  }
  const rows = await world.sql(
    `SELECT per_mille, from_at = '-infinity' AS first FROM node_multiplier WHERE node_id = $1 ORDER BY from_at`,
    [nodeId],
  );
  expect(rows).toEqual([
    { per_mille: 1000, first: true },
    { per_mille: 2000, first: false },
  ]);
  expect(await audited('node.update', nodeId)).toBe(1);
});

test('200: an inbound keeps its keys while its tag, engine and security stay; others come and go with theirs', async () => {
  const nodeId = await newNode([vless, reality, wireguard]);
  const path = `/api/v1/nodes/${nodeId}`;
  const inboundsOf = (answer: Answer): Map<string, Inbound> =>
    new Map((answer.body['inbounds'] as Inbound[]).map((inbound) => [inbound.tag, inbound]));
  const sealed = async (): Promise<Map<string, Buffer | null>> =>
    new Map(
      (
        await world.sql<{ tag: string; secret: Buffer | null }>(
          'SELECT tag, secret FROM inbound WHERE node_id = $1',
          [nodeId],
        )
      ).map(({ tag, secret }) => [tag, secret]),
    );
  const before = inboundsOf(await ask('GET', path));
  const secrets = await sealed();
  const changed = await ask('PATCH', path, {
    inbounds: [
      { ...reality, port: 9443, serverNames: ['other.example.com'] },
      { ...wireguard, subnets: ['10.66.4.0/24'] },
      { ...vless, tag: 'second', port: 8080 },
    ],
  });
  const after = inboundsOf(changed);
  expect([...after.keys()].sort()).toEqual(['reality', 'second', 'wireguard']);
  for (const tag of ['reality', 'wireguard']) {
    expect(after.get(tag)?.settings['publicKey']).toBe(before.get(tag)?.settings['publicKey']);
    expect((await sealed()).get(tag)).toEqual(secrets.get(tag));
  }
  expect(after.get('reality')).toMatchObject({
    port: 9443,
    settings: { serverNames: ['other.example.com'] },
  });
  expect(after.get('reality')?.settings['shortIds']).toEqual(before.get('reality')?.settings['shortIds']);
  expect(await changes(nodeId)).toBe(2);

  // The same list again changes nothing about access.
  const same = changed.body['inbounds'] as Inbound[];
  expect(same).toHaveLength(3);
  await ask('PATCH', path, {
    inbounds: [
      { ...vless, tag: 'second', port: 8080 },
      { ...wireguard, subnets: ['10.66.4.0/24'] },
      { ...reality, port: 9443, serverNames: ['other.example.com'] },
    ],
  });
  expect(await changes(nodeId)).toBe(2);

  // WireGuard goes and comes back: with another key, and the old one is nobody's.
  const oldKey = Buffer.from(String(before.get('wireguard')?.settings['publicKey']), 'base64');
  const claims = (key: Buffer): Promise<unknown[]> =>
    world.sql('SELECT FROM device_key WHERE public_key = $1', [key]);
  expect(await claims(oldKey)).toHaveLength(1);
  await ask('PATCH', path, { inbounds: [vless] });
  expect(await claims(oldKey)).toHaveLength(0);
  const back = inboundsOf(await ask('PATCH', path, { inbounds: [vless, wireguard] }));
  const newKey = String(back.get('wireguard')?.settings['publicKey']);
  expect(newKey).not.toBe(oldKey.toString('base64'));
  expect(await claims(Buffer.from(newKey, 'base64'))).toHaveLength(1);
  const place = { table: 'inbound', tenant: '', row: `${nodeId}/wireguard` };
  const secret = (await sealed()).get('wireguard') ?? Buffer.alloc(0);
  expect(openSecret(world.context.config.DATA_KEY, secret, place).toString()).toMatch(/privateKey/);
});

test('409: names of nodes and groups that people take for the same are one name; a revoked node gives its name free', async () => {
  const body = { address: 'n.example.org', inbounds: [vless] };
  const register = (name: string): Promise<Answer> => ask('POST', '/api/v1/nodes', { ...body, name });
  expect((await register('Paris One')).status).toBe(201);
  for (const name of ['paris one', 'PARIS  ONE', 'Pаris One', 'Ｐaris One']) {
    expect((await register(name)).body, name).toMatchObject({ status: 409, field: 'name' });
  }
  const nodeId = await newNode();
  expect((await ask('PATCH', `/api/v1/nodes/${nodeId}`, { name: 'PARIS one' })).body).toMatchObject({
    ...{ status: 409, field: 'name' },
  });
  const group = await make(world, own.admin, '/api/v1/node-groups', { name: 'Île' });
  for (const [method, path] of [
    ['POST', '/api/v1/node-groups'],
    ['PATCH', `/api/v1/node-groups/${own.nodeGroupId}`],
  ] as const) {
    expect((await ask(method, path, { name: 'i\u0302LE' })).body).toMatchObject({
      status: 409,
      field: 'name',
    });
  }
  const renamed = await ask('PATCH', `/api/v1/node-groups/${String(group['nodeGroupId'])}`, { name: 'île' });
  expect(nodeGroup.parse(renamed.body)).toMatchObject({ name: 'île', version: 2 });
  // Another owner's names are another matter.
  expect(
    (await world.ask('POST', '/api/v1/nodes', { as: other.admin, body: { ...body, name: 'paris one' } }))
      .status,
  ).toBe(201);
  const answers = await Promise.all(Array.from({ length: 20 }, () => register('race')));
  expect(answers.filter((answer) => answer.status === 201)).toHaveLength(1);
  expect(answers.filter((answer) => answer.status === 409)).toHaveLength(19);
  await revoke(String(answers.find((answer) => answer.status === 201)?.body['nodeId']));
  expect((await register('race')).status).toBe(201);
});

test('200: drain, maintenance and activation ask for a new look at the node, once each', async () => {
  const nodeId = await newNode();
  const path = `/api/v1/nodes/${nodeId}`;
  let version = 1;
  let looks = 1;
  for (const [act, state] of [
    ['drain', 'drain'],
    ['maintenance', 'maintenance'],
    ['activate', 'active'],
  ] as const) {
    for (let i = 0; i < 2; i++) {
      const answer = await ask('POST', `${path}/${act}`);
      if (i === 0) [version, looks] = [version + 1, looks + 1];
      expect(node.parse(answer.body)).toMatchObject({ state, version });
      expect(await changes(nodeId)).toBe(looks);
    }
    expect(await audited(`node.${act}`, nodeId)).toBe(1);
  }
  expect((await ask('POST', `${path}/drain`, undefined, { 'if-match': '"1"' })).body).toMatchObject({
    status: 412,
  });
  await revoke(nodeId);
  for (const act of ['drain', 'maintenance', 'activate']) {
    expect((await ask('POST', `${path}/${act}`)).body).toMatchObject({ status: 412 });
  }
  expect((await ask('PATCH', path, { linkMbps: 5 })).body).toMatchObject({ status: 412 });
});

test('204: only a revoked node is deleted; its usage, its certificates and its audit stay, nobody sees it any more', async () => {
  const nodeId = await newNode();
  const path = `/api/v1/nodes/${nodeId}`;
  await ask('POST', `/api/v1/node-groups/${own.nodeGroupId}/nodes`, { nodeId });
  expect((await ask('DELETE', path)).body).toMatchObject({ status: 412, code: 'failed_precondition' });
  await revoke(nodeId);
  expect((await ask('DELETE', path)).status).toBe(204);
  for (const [method, where] of [
    ['GET', path],
    ['GET', `${path}/status`],
    ['DELETE', path],
    ['POST', `${path}/drain`],
  ] as const) {
    expect((await ask(method, where)).body, where).toMatchObject({ status: 404 });
  }
  const page = nodePage.parse((await ask('GET', '/api/v1/nodes?limit=200')).body);
  expect(page.items.map((item) => item.nodeId)).not.toContain(nodeId);
  expect(
    nodeGroup.parse((await ask('GET', `/api/v1/node-groups/${own.nodeGroupId}`)).body).nodeIds,
  ).not.toContain(nodeId);
  const rows = await world.sql(
    `SELECT state, deleted_at IS NOT NULL AS deleted, (SELECT count(*)::int FROM inbound i WHERE i.node_id = n.node_id) AS inbounds,
            (SELECT count(*)::int FROM device_key k WHERE k.device_id = n.node_id) AS keys
       FROM node n WHERE node_id = $1`,
    [nodeId],
  );
  expect(rows).toEqual([{ state: 'revoked', deleted: true, inbounds: 0, keys: 0 }]);
  expect(await audited('node.delete', nodeId)).toBe(1);
});

test('200: nodes are listed by state, engine, group and how their name begins', async () => {
  const nodeId = await newNode([reality]);
  await ask('PATCH', `/api/v1/nodes/${nodeId}`, { name: 'Zürich 1' });
  await ask('POST', `/api/v1/nodes/${nodeId}/drain`);
  const list = async (query: string): Promise<string[]> =>
    nodePage
      .parse((await ask('GET', `/api/v1/nodes?limit=200&${query}`)).body)
      .items.map((item) => item.nodeId);
  expect(await list('state=drain')).toEqual([nodeId]);
  expect(await list('q=ZÜRICH')).toEqual([nodeId]);
  expect(await list(`nodeGroupId=${own.nodeGroupId}`)).toEqual([own.nodeId]);
  expect(await list(`nodeGroupId=${other.nodeGroupId}`)).toEqual([]);
  expect(await list('engine=wireguard')).not.toContain(nodeId);
  for (const wrong of ['state=gone', 'engine=ssh', 'q=', 'nodeGroupId=1']) {
    expect((await ask('GET', `/api/v1/nodes?${wrong}`)).body, wrong).toMatchObject({ status: 400 });
  }
});

test('204: a join token that no node has used is revoked; the list shows no secret', async () => {
  const nodeId = await newNode();
  const path = `/api/v1/nodes/${nodeId}/join-tokens`;
  const first = await make(world, own.admin, path, {});
  const second = await make(world, own.admin, path, {});
  expect((await ask('DELETE', `${path}/${String(first['joinTokenId'])}`)).status).toBe(204);
  expect((await ask('DELETE', `${path}/${String(first['joinTokenId'])}`)).status).toBe(204);
  expect(await audited('join_token.revoke', String(first['joinTokenId']))).toBe(1);
  await world.sql(
    `INSERT INTO certificate (serial, node_id, join_token_id, public_key_hash, der, not_before, not_after)
     VALUES (decode(replace($2::text, '-', ''), 'hex'), $1, $2::uuid, '', '', now(), now() + interval '1 day')`,
    [nodeId, second['joinTokenId']],
  );
  const answer = await ask('GET', path);
  const { items } = joinTokenList.parse(answer.body);
  expect(
    items.map(({ joinTokenId, usedAt, revokedAt }) => [joinTokenId, usedAt === null, revokedAt === null]),
  ).toEqual([
    [second['joinTokenId'], false, true],
    [first['joinTokenId'], true, false],
  ]);
  expect(answer.text).not.toMatch(/"token"|hash|secret/);
  expect((await ask('DELETE', `${path}/${String(second['joinTokenId'])}`)).body).toMatchObject({
    status: 412,
  });
  const elsewhere = `/api/v1/nodes/${own.nodeId}/join-tokens/${String(first['joinTokenId'])}`;
  expect((await ask('DELETE', elsewhere)).body).toMatchObject({ status: 404 });
});

test('204 and 409: a node leaves a group; a group that a plan uses stays, and so do its nodes when it goes', async () => {
  const nodeId = await newNode();
  const group = await make(world, own.admin, '/api/v1/node-groups', { name: 'to go' });
  const path = `/api/v1/node-groups/${String(group['nodeGroupId'])}`;
  await ask('POST', `${path}/nodes`, { nodeId });
  const looks = await changes(nodeId);
  expect((await ask('DELETE', `${path}/nodes/${nodeId}`)).status).toBe(204);
  expect(await changes(nodeId)).toBe(looks + 1);
  expect((await ask('DELETE', `${path}/nodes/${nodeId}`)).body).toMatchObject({ status: 404 });
  await ask('POST', `${path}/nodes`, { nodeId });
  expect((await ask('GET', path)).headers.get('etag')).toBe('"4"');
  expect((await ask('DELETE', path, undefined, { 'if-match': '"1"' })).body).toMatchObject({ status: 412 });
  expect((await ask('DELETE', `/api/v1/node-groups/${own.nodeGroupId}`)).body).toMatchObject({
    ...{ status: 409, code: 'conflict' },
  });
  expect((await ask('DELETE', path)).status).toBe(204);
  expect((await ask('GET', path)).body).toMatchObject({ status: 404 });
  expect((await ask('GET', `/api/v1/nodes/${nodeId}`)).status).toBe(200);
  // A shared group that another tenant's plan uses: the operator may not delete it, and is not told whose plan it is.
  const terms = { name: 'uses it', limitBytes: null, engines: ['xray'], nodeGroupIds: [shared.nodeGroupId] };
  await make(world, own.admin, '/api/v1/plans', terms);
  await world.sql('DELETE FROM plan_node_group WHERE tenant_id = $1', [world.platform]);
  const refused = await world.ask('DELETE', `/api/v1/node-groups/${shared.nodeGroupId}`, { as: platform });
  expect(refused.body).toMatchObject({ status: 409 });
  expect(refused.text).not.toContain(own.admin.tenantId);
});

test('200: the status shows certificate, stream and wish to be attested; the approval names the very key', async () => {
  const nodeId = await newNode();
  const path = `/api/v1/nodes/${nodeId}`;
  const empty = nodeStatus.parse((await ask('GET', `${path}/status`)).body);
  expect(empty).toMatchObject({
    reported: null,
    certificate: null,
    stream: null,
    reattest: null,
    online: false,
  });
  const approve = (keyFingerprint: string): Promise<Answer> =>
    ask('POST', `${path}/reattest/approve`, { keyFingerprint });
  expect((await approve('ab'.repeat(32))).body).toMatchObject({ status: 412 });
  await world.sql(
    `INSERT INTO node_status VALUES ($1, now(), '0.1.0', 7, 1, '{"xray":"26.3.27"}', 5000000000, 3, 9, 12)`,
    [nodeId],
  );
  await world.sql(
    `INSERT INTO certificate (serial, node_id, public_key_hash, der, not_before, not_after)
     VALUES (decode(replace($1::text, '-', ''), 'hex'), $1::uuid, '', '', now() - interval '9 days', now() - interval '8 days')`,
    [nodeId],
  );
  await world.sql(
    `INSERT INTO reattest_request (node_id, public_key_hash, expired_at, asked_at, address)
     VALUES ($1, decode(repeat('ab', 32), 'hex'), now() - interval '8 days', now(), '192.0.2.1')`,
    [nodeId],
  );
  const waiting = nodeStatus.parse((await ask('GET', `${path}/status`)).body);
  expect(waiting).toMatchObject({
    online: true,
    reported: { agentVersion: '0.1.0', walBytes: '5000000000', clockSkewMs: 12 },
    reattest: { keyFingerprint: 'ab'.repeat(32), address: '192.0.2.1', approvedAt: null },
  });
  expect((await approve('cd'.repeat(32))).body).toMatchObject({ status: 412, field: 'keyFingerprint' });
  const approved = nodeStatus.parse((await approve('ab'.repeat(32))).body);
  expect(approved.reattest?.approvedAt).toEqual(expect.any(String));
  expect(await audited('node.approve_reattest', nodeId)).toBe(1);
  const operator = await world.person(own.admin.tenantId, 'operator');
  const body = { keyFingerprint: 'ab'.repeat(32) };
  expect((await world.ask('POST', `${path}/reattest/approve`, { as: operator, body })).status).toBe(403);
  expect((await ask('GET', `/api/v1/nodes/${shared.nodeId}/status`)).body).toMatchObject({ status: 403 });
  expect((await ask('GET', `/api/v1/nodes/${other.nodeId}/status`)).body).toMatchObject({ status: 404 });
});

test('200: a frozen stream is released once, and only the freeze that was seen', async () => {
  const nodeId = await newNode();
  const path = `/api/v1/nodes/${nodeId}/stream/release`;
  expect((await ask('POST', path)).body).toMatchObject({ status: 412 });
  await world.sql(
    `INSERT INTO stream_head (node_id, epoch, seq, digest, fence, holder, accepted_at) VALUES ($1, 3, 77, '', 1, '', now())`,
    [nodeId],
  );
  expect((await ask('POST', path)).body).toMatchObject({ status: 412 });
  await world.sql(
    `UPDATE stream_head SET frozen_at = now(), frozen_reason = 'frame_fork' WHERE node_id = $1`,
    [nodeId],
  );
  for (let i = 0; i < 2; i++) {
    const status = nodeStatus.parse((await ask('POST', path)).body);
    expect(status.stream).toMatchObject({ epoch: 3, seq: '77', frozenReason: 'frame_fork' });
    expect(status.stream?.releaseAskedAt).toEqual(expect.any(String));
  }
  expect(await audited('stream.release', nodeId)).toBe(1);
  const [wish] = await world.sql(
    'SELECT r.frozen_at = h.frozen_at AS same, r.asked_by FROM stream_release r JOIN stream_head h USING (node_id) WHERE node_id = $1',
    [nodeId],
  );
  expect(wish).toEqual({ same: true, asked_by: own.admin.accountId });
});

test('200: usage in quarantine is listed and released by node, subscription, reason or id, each row wished for once', async () => {
  const fill = (tenantId: string, nodeId: string, subscriptionId: string, reason: string, seq: number) =>
    world.sql(
      `INSERT INTO usage_quarantine (tenant_id, node_id, epoch, seq, subscription_id, engine, up_bytes, down_bytes, reason, created_at)
       VALUES ($1, $2, 1, $3, $4, 1, 9223372036854775807, $3, $5, now())`,
      [tenantId, nodeId, seq, subscriptionId, reason],
    );
  for (let seq = 1; seq <= 5; seq++) {
    const reason = seq <= 3 ? 'above_link_rate' : 'not_assigned';
    await fill(own.admin.tenantId, own.nodeId, own.subscriptionId, reason, seq);
  }
  await fill(other.admin.tenantId, own.nodeId, other.subscriptionId, 'not_assigned', 1);
  const list = async (query = ''): Promise<ReturnType<typeof quarantinePage.parse>> =>
    quarantinePage.parse((await ask('GET', `/api/v1/quarantine?${query}`)).body);
  expect((await list()).items).toHaveLength(5);
  expect((await list('reason=not_assigned')).items).toHaveLength(2);
  const page = await list('limit=2');
  expect((await list(`limit=200&cursor=${String(page.nextCursor)}`)).items).toHaveLength(3);
  const release = (body: object): Promise<Answer> => ask('POST', '/api/v1/quarantine/release', body);
  const answer = await release({ nodeId: own.nodeId, reason: 'above_link_rate' });
  expect(released.parse(answer.body)).toEqual({
    ...{ rows: 3, upBytes: (3n * 9223372036854775807n).toString(), downBytes: '6', more: false },
  });
  expect((await release({ nodeId: own.nodeId, reason: 'above_link_rate' })).body).toMatchObject({ rows: 0 });
  const [left] = (await list('reason=not_assigned')).items as { quarantineId: string }[];
  expect((await release({ quarantineIds: [left?.quarantineId] })).body).toMatchObject({ rows: 1 });
  expect((await list('released=false')).items).toHaveLength(5);
  expect(await audited('quarantine.release', null)).toBe(2);
  const wishes = await world.sql('SELECT DISTINCT tenant_id FROM quarantine_release');
  expect(wishes).toEqual([{ tenant_id: own.admin.tenantId }]);
  const [theirs] = await world.sql<{ id: string }>(
    'SELECT quarantine_id AS id FROM usage_quarantine WHERE tenant_id = $1',
    [other.admin.tenantId],
  );
  for (const id of [theirs?.id, ABSENT]) {
    expect((await release({ quarantineIds: [left?.quarantineId, id] })).body).toMatchObject({
      status: 404,
      field: 'quarantineIds',
    });
  }
  for (const id of [other.nodeId, ABSENT]) {
    expect((await release({ nodeId: id })).body).toMatchObject({ status: 404, field: 'nodeId' });
  }
  for (const id of [other.subscriptionId, ABSENT]) {
    expect((await release({ subscriptionId: id })).body).toMatchObject({
      status: 404,
      field: 'subscriptionId',
    });
  }
  for (const wrong of [{}, { reason: 'no_period' }, { quarantineIds: [] }]) {
    expect((await release(wrong)).body, JSON.stringify(wrong)).toMatchObject({ status: 400 });
  }
});

test('422: a tenant registers as many nodes as it may have, also when fifty are asked for at once', async () => {
  const tenantId = await world.tenant('small');
  await world.sql('UPDATE tenant SET limit_nodes = 3 WHERE tenant_id = $1', [tenantId]);
  const admin = await world.person(tenantId, 'admin');
  const answers = await Promise.all(
    Array.from({ length: 50 }, (_, n) =>
      world.ask('POST', '/api/v1/nodes', {
        as: admin,
        body: { name: `n${n}`, address: 'n.example.org', inbounds: [vless] },
      }),
    ),
  );
  expect(answers.filter((answer) => answer.status === 201)).toHaveLength(3);
  expect(answers.filter((answer) => answer.body['code'] === 'limit_reached')).toHaveLength(47);
});
