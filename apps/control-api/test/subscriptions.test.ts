import { createHash } from 'node:crypto';
import { vlessId, presharedKey } from '@penstock/domain/credentials';
import type { DeviceId, NodeId } from '@penstock/domain/ids';
import { newWireguardPrivateKey, wireguardPublicKey } from '@penstock/domain/wireguard-keys';
import { openSecret } from '@penstock/service/secret-box';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { access } from '../src/access/access.schema.js';
import { canonicalJson } from '@penstock/domain/canonical-json';
import { device, deviceList } from '../src/devices/devices.schema.js';
import { enforcement } from '../src/enforcement/enforcement.schema.js';
import { subscription, subscriptionPage } from '../src/subscriptions/subscriptions.schema.js';
import { usage } from '../src/usage/usage.schema.js';
import { make, planTerms, reality, scene, wireguard, type Scene } from './scene.js';
import { ABSENT, createWorld, type Answer, type Ask, type Person, type World } from './world.js';

let world: World;
let own: Scene;
let other: Scene;
let operator: Person;
let auditor: Person;

beforeAll(async () => {
  world = await createWorld();
  own = await scene(world, await world.person(await world.tenant('own'), 'admin'));
  other = await scene(world, await world.person(await world.tenant('other'), 'admin'));
  operator = await world.person(own.admin.tenantId, 'operator');
  auditor = await world.person(own.admin.tenantId, 'auditor');
});
afterAll(() => world.close());

const at = (id: string, rest = ''): string => `/api/v1/subscriptions/${id}${rest}`;
const ask = (method: string, path: string, options: Ask = {}): Promise<Answer> =>
  world.ask(method, path, { as: operator, ...options });
const create = (change: object = {}): Promise<Answer> =>
  ask('POST', '/api/v1/subscriptions', { body: { planId: own.planId, name: 'somebody', ...change } });
const changes = async (id: string): Promise<number> =>
  (
    await world.sql<{ n: number }>(
      'SELECT count(*)::int AS n FROM access_change WHERE subscription_id = $1',
      [id],
    )
  )[0]?.n ?? 0;

test('201: terms are copied from the plan, the secret is sealed and never answered', async () => {
  const answer = await create({ externalRef: 'crm/17' });
  expect(answer.status).toBe(201);
  const made = subscription.parse(answer.body);
  expect(made).toMatchObject({
    ...{ limitBytes: planTerms.limitBytes, period: 'month', engines: planTerms.engines, deviceLimit: 2 },
    ...{ adminState: 'active', state: null, externalRef: 'crm/17', version: 1 },
  });
  const days = (new Date(String(made.expiresAt)).getTime() - new Date(made.createdAt).getTime()) / 86_400_000;
  expect(days).toBeCloseTo(30, 3);
  const [row] = await world.sql<{ secret: Buffer }>(
    'SELECT secret FROM subscription WHERE subscription_id = $1',
    [made.subscriptionId],
  );
  const place = { table: 'subscription', tenant: own.admin.tenantId, row: made.subscriptionId };
  expect(openSecret(world.context.config.DATA_KEY, row?.secret ?? Buffer.alloc(0), place)).toHaveLength(32);
  expect(() =>
    openSecret(world.context.config.DATA_KEY, row?.secret ?? Buffer.alloc(0), { ...place, row: ABSENT }),
  ).toThrow();
  expect(
    await world.sql('SELECT tenant_id, cause FROM access_change WHERE subscription_id = $1', [
      made.subscriptionId,
    ]),
  ).toEqual([{ tenant_id: own.admin.tenantId, cause: 'edit' }]);
  // A later change of the plan changes nobody's contract.
  await world.sql('UPDATE plan SET limit_bytes = 1 WHERE plan_id = $1', [own.planId]);
  expect((await ask('GET', at(made.subscriptionId))).body).toMatchObject({
    limitBytes: planTerms.limitBytes,
  });
  await world.sql('UPDATE plan SET limit_bytes = $2 WHERE plan_id = $1', [own.planId, planTerms.limitBytes]);
});

test('201: an expiry of its own, and none at all', async () => {
  expect((await create({ expiresAt: null })).body['expiresAt']).toBeNull();
  const moment = '2031-05-06T07:08:09+02:00';
  expect((await create({ expiresAt: moment })).body['expiresAt']).toBe('2031-05-06T05:08:09.000Z');
});

test('400, 403, 404 of making one', async () => {
  for (const [field, value] of [
    ['name', ''],
    ['planId', 'x'],
    ['planId', [own.planId]],
    ['expiresAt', 'tomorrow'],
    ['limitBytes', '1'],
    ['tenantId', ABSENT],
    ['externalRef', 'x'.repeat(201)],
  ] as const) {
    expect((await create({ [field]: value })).body, field).toMatchObject({ status: 400, field });
  }
  expect((await world.ask('POST', '/api/v1/subscriptions', { as: auditor, body: {} })).status).toBe(403);
  expect((await create({ planId: ABSENT })).body).toMatchObject({ status: 404, field: 'planId' });
  expect((await create({ planId: other.planId })).body).toMatchObject({ status: 404, field: 'planId' });
});

test('200: pages by cursor, filtered, without tombstones and without other tenants', async () => {
  const ids: string[] = [];
  let cursor = '';
  do {
    const page = subscriptionPage.parse((await ask('GET', `/api/v1/subscriptions?limit=2${cursor}`)).body);
    expect(page.items.length).toBeLessThanOrEqual(2);
    ids.push(...page.items.map((item) => item.subscriptionId));
    cursor = page.nextCursor === null ? '' : `&cursor=${page.nextCursor}`;
  } while (cursor !== '');
  const rows = await world.sql<{ id: string }>(
    'SELECT subscription_id AS id FROM subscription WHERE tenant_id = $1 ORDER BY 1',
    [own.admin.tenantId],
  );
  expect(ids).toEqual(rows.map((row) => row.id));
  expect((await ask('GET', `/api/v1/subscriptions?planId=${other.planId}`)).body['items']).toEqual([]);
  expect((await ask('GET', '/api/v1/subscriptions?adminState=deleted')).body).toMatchObject({
    status: 400,
    field: 'adminState',
  });
  expect((await ask('GET', '/api/v1/subscriptions?state=active')).body['items']).toEqual([]);
});

test('200 and 412: a change raises the version, asks for a new look, and does not overwrite another’s', async () => {
  const made = (await create()).body;
  const path = at(String(made['subscriptionId']));
  expect((await ask('GET', path)).headers.get('etag')).toBe('"1"');
  const body = {
    limitBytes: '0',
    adminState: 'disabled',
    name: 'new name',
    expiresAt: '2030-01-01T00:00:00Z',
  };
  const changed = await ask('PATCH', path, { body, headers: { 'if-match': '"1"' } });
  expect(changed.headers.get('etag')).toBe('"2"');
  expect(subscription.parse(changed.body)).toMatchObject({
    ...body,
    expiresAt: '2030-01-01T00:00:00.000Z',
    version: 2,
  });
  expect(await changes(String(made['subscriptionId']))).toBe(2);
  const stale = await ask('PATCH', path, { body: { name: 'x' }, headers: { 'if-match': '"1"' } });
  expect(stale.body).toMatchObject({ status: 412, code: 'failed_precondition', field: 'If-Match' });
  expect((await ask('PATCH', path, { body: { limitBytes: null } })).body).toMatchObject({
    limitBytes: null,
    version: 3,
  });
  const racing = await Promise.all(
    Array.from({ length: 10 }, (_, i) =>
      ask('PATCH', path, { body: { name: `r${i}` }, headers: { 'if-match': '"3"' } }),
    ),
  );
  expect(racing.filter((answer) => answer.status === 200)).toHaveLength(1);
  expect(racing.filter((answer) => answer.status === 412)).toHaveLength(9);
});

test('400: what a change may not say', async () => {
  const path = at(own.subscriptionId);
  for (const [field, value] of [
    ['limitBytes', '-1'],
    ['limitBytes', '9223372036854775808'],
    ['limitBytes', 5],
    ['adminState', 'deleted'],
    ['adminState', 'limited'],
    ['planId', own.planId],
    ['tenantId', ABSENT],
    ['version', 1],
    ['secret', 'x'],
    ['engines', []],
  ] as const) {
    expect((await ask('PATCH', path, { body: { [field]: value } })).body, field).toMatchObject({
      status: 400,
      field,
    });
  }
  expect((await ask('PATCH', path, { body: {} })).body).toMatchObject({ status: 400 });
});

test('204: a deleted subscription is a tombstone: its row stays, its address is gone', async () => {
  const id = String((await create()).body['subscriptionId']);
  expect((await ask('DELETE', at(id), { headers: { 'if-match': '"9"' } })).status).toBe(412);
  const gone = await ask('DELETE', at(id));
  expect([gone.status, gone.text]).toEqual([204, '']);
  for (const [method, path] of [
    ['GET', at(id)],
    ['DELETE', at(id)],
    ['GET', at(id, '/usage')],
    ['GET', at(id, '/access')],
    ['GET', at(id, '/devices')],
  ] as const) {
    expect((await ask(method, path)).body, path).toMatchObject({ status: 404, code: 'not_found' });
  }
  expect((await ask('PATCH', at(id), { body: { name: 'x' } })).status).toBe(404);
  expect(
    await world.sql(
      'SELECT admin_state, deleted_at IS NOT NULL AS dead FROM subscription WHERE subscription_id = $1',
      [id],
    ),
  ).toEqual([{ admin_state: 'deleted', dead: true }]);
  expect(await changes(id)).toBe(2);
  // That its access ended has still to be seen.
  expect((await ask('GET', at(id, '/enforcement'))).status).toBe(200);
});

test('devices: our key pair or the customer’s, a limit that holds in a race, one key once', async () => {
  const id = String((await create()).body['subscriptionId']);
  const add = (body: object): Promise<Answer> => ask('POST', at(id, '/devices'), { body });
  const publicKey = wireguardPublicKey(newWireguardPrivateKey());
  const theirs = await add({ name: 'laptop', publicKey });
  expect(device.parse(theirs.body)).toMatchObject({ publicKey, hasPrivateKey: false });
  const raced = await Promise.all(Array.from({ length: 5 }, () => add({ name: 'phone' })));
  expect(raced.map((answer) => answer.status).sort()).toEqual([201, 422, 422, 422, 422]);
  const ours = raced.find((answer) => answer.status === 201)?.body ?? {};
  expect(device.parse(ours)).toMatchObject({ hasPrivateKey: true });
  expect(deviceList.parse((await ask('GET', at(id, '/devices'))).body).items).toHaveLength(2);
  expect((await ask('DELETE', at(id, `/devices/${String(ours['deviceId'])}`))).status).toBe(204);
  expect((await ask('DELETE', at(id, `/devices/${String(ours['deviceId'])}`))).status).toBe(404);
  expect((await add({ name: 'again', publicKey })).body).toMatchObject({ status: 409, field: 'publicKey' });
  for (const wrong of [
    '',
    'x',
    `${publicKey}A`,
    publicKey.replace('=', ''),
    Buffer.alloc(31).toString('base64'),
  ]) {
    expect((await add({ name: 'x', publicKey: wrong })).body, wrong).toMatchObject({
      status: 400,
      field: 'publicKey',
    });
  }
  expect((await add({ name: 'x', privateKey: 'mine' })).body).toMatchObject({
    status: 400,
    field: 'privateKey',
  });
  const plan = await make(world, own.admin, '/api/v1/plans', {
    ...planTerms,
    name: 'Xray only',
    engines: ['xray'],
    nodeGroupIds: [own.nodeGroupId],
  });
  const xrayOnly = String((await create({ planId: plan['planId'] })).body['subscriptionId']);
  expect((await ask('POST', at(xrayOnly, '/devices'), { body: { name: 'x' } })).body).toMatchObject({
    status: 412,
  });
});

test('a key that another tenant’s device has is refused, and free again when that device is removed', async () => {
  const publicKey = wireguardPublicKey(newWireguardPrivateKey());
  const body = { name: 'laptop', publicKey };
  const mine = String((await create()).body['subscriptionId']);
  const taken = await ask('POST', at(mine, '/devices'), { body });
  expect(taken.status).toBe(201);
  const theirs = { name: 'x', planId: other.planId };
  const made = await make(world, other.admin, '/api/v1/subscriptions', theirs);
  const path = at(String(made['subscriptionId']), '/devices');
  const claim = (): Promise<Answer> => world.ask('POST', path, { as: other.admin, body });
  expect((await claim()).body).toMatchObject({ status: 409, field: 'publicKey' });
  expect((await ask('DELETE', at(mine))).status).toBe(204);
  expect((await claim()).status).toBe(201);
});

test('the key of a node, own, shared or another tenant’s, is no device’s', async () => {
  const keys = await world.sql<{ key: string }>(
    `SELECT DISTINCT settings ->> 'publicKey' AS key FROM inbound WHERE engine = 'wireguard'`,
  );
  expect(keys.length).toBeGreaterThan(1);
  const id = String((await create()).body['subscriptionId']);
  for (const { key } of keys) {
    const body = { name: 'the node', publicKey: key };
    expect((await ask('POST', at(id, '/devices'), { body })).body).toMatchObject({
      ...{ status: 409, code: 'conflict', field: 'publicKey' },
    });
  }
});

test('access: 409 until a device has its address, then what a client connects with; looked at by those who may', async () => {
  const path = at(own.subscriptionId, '/access');
  expect((await world.ask('GET', path, { as: auditor })).body).toMatchObject({
    status: 403,
    code: 'forbidden',
  });
  const early = await ask('GET', path);
  expect(early.body).toMatchObject({ status: 409, code: 'pending' });
  expect(early.headers.get('retry-after')).toBe('1');
  await world.sql('INSERT INTO node_address (node_id, address, device_id) VALUES ($1, $2, $3)', [
    own.nodeId,
    '10.66.0.2',
    own.deviceId,
  ]);
  const answer = await ask('GET', path);
  expect(answer.headers.get('cache-control')).toBe('no-store');
  const { items } = access.parse(answer.body);
  expect(items).toHaveLength(1);
  const [node] = items;
  const [row] = await world.sql<{ secret: Buffer }>(
    'SELECT secret FROM subscription WHERE subscription_id = $1',
    [own.subscriptionId],
  );
  const place = { table: 'subscription', tenant: own.admin.tenantId, row: own.subscriptionId };
  const secret = openSecret(world.context.config.DATA_KEY, row?.secret ?? Buffer.alloc(0), place);
  const uri = new URL(node?.vless[0]?.uri ?? '');
  expect(uri.protocol).toBe('vless:');
  expect([uri.username, uri.hostname, uri.port]).toEqual([
    vlessId(secret, own.nodeId as NodeId),
    'n1.example.org',
    '443',
  ]);
  expect(Object.fromEntries(uri.searchParams)).toEqual({ encryption: 'none', type: 'tcp', security: 'none' });
  const conf = node?.wireguard[0]?.conf ?? '';
  const value = (name: string): string => new RegExp(`^${name} = (.+)$`, 'm').exec(conf)?.[1] ?? '';
  const [stored] = await world.sql<{ key: string }>(
    `SELECT encode(public_key, 'base64') AS key FROM device WHERE device_id = $1`,
    [own.deviceId],
  );
  expect(wireguardPublicKey(value('PrivateKey'))).toBe(stored?.key);
  const [inbound] = await world.sql<{ key: string }>(
    `SELECT settings ->> 'publicKey' AS key FROM inbound WHERE node_id = $1 AND engine = 'wireguard'`,
    [own.nodeId],
  );
  expect(value('PublicKey')).toBe(inbound?.key);
  expect(value('PresharedKey')).toBe(presharedKey(secret, own.nodeId as NodeId, own.deviceId as DeviceId));
  expect([value('Address'), value('Endpoint')]).toEqual(['10.66.0.2/32', 'n1.example.org:51820']);
  const looks = await world.sql(
    `SELECT account_id FROM audit_log WHERE action = 'subscription.secret.read' AND entity_id = $1`,
    [own.subscriptionId],
  );
  expect(looks).toEqual([{ account_id: operator.accountId }]);
});

test('access: an engine that its node does not run is not shown, and the answer names it', async () => {
  const path = at(own.subscriptionId, '/access');
  const report = async (wireguard: object): Promise<void> => {
    const engines = [{ engine: 'xray', running: true, version: '26.3.27', problem: '' }, wireguard];
    await world.sql(
      `INSERT INTO node_status (node_id, heartbeat_at, agent_version, applied_revision, subscriptions, engines, wal_bytes,
                                wal_frames, acknowledged_seq, clock_skew_ms)
       VALUES ($1, now(), '0', 0, 0, $2, 0, 0, 0, 0) ON CONFLICT (node_id) DO UPDATE SET engines = excluded.engines`,
      [own.nodeId, JSON.stringify(engines)],
    );
  };
  const shown = async (): Promise<unknown> => {
    const { items, missingEngines } = access.parse((await ask('GET', path)).body);
    return [items.map((node) => [node.vless.length, node.wireguard.length]), missingEngines];
  };
  const missing = {
    engine: 'wireguard',
    running: false,
    version: '',
    problem: 'WireGuard is not switched on for this node',
  };
  await report(missing);
  expect(await shown()).toEqual([[[1, 0]], ['wireguard']]);
  // One that is only down is offered: a customer keeps his configuration.
  await report({ ...missing, version: '0.0.20230223', problem: 'it died' });
  expect(await shown()).toEqual([[[1, 1]], []]);
  await report({ ...missing, running: true });
  expect(await shown()).toEqual([[[1, 1]], []]);
});

test('access: no node at all is said by naming every engine', async () => {
  const group = await make(world, own.admin, '/api/v1/node-groups', { name: 'empty' });
  const plan = await make(world, own.admin, '/api/v1/plans', {
    ...{ ...planTerms, name: 'nowhere', nodeGroupIds: [group['nodeGroupId']] },
  });
  const id = String((await create({ planId: plan['planId'] })).body['subscriptionId']);
  const answer = access.parse((await ask('GET', at(id, '/access'))).body);
  expect(answer).toEqual({ items: [], missingEngines: ['xray', 'wireguard'] });
});

test('access: REALITY parameters, Vision and an IPv6 host; a customer’s own key leaves the line to him', async () => {
  const node = await make(world, own.admin, '/api/v1/nodes', {
    name: 'r',
    address: '2001:db8::7',
    inbounds: [reality, wireguard],
  });
  const group = await make(world, own.admin, '/api/v1/node-groups', { name: 'reality' });
  await make(world, own.admin, `/api/v1/node-groups/${String(group['nodeGroupId'])}/nodes`, {
    nodeId: node['nodeId'],
  });
  const plan = await make(world, own.admin, '/api/v1/plans', {
    ...planTerms,
    name: 'REALITY',
    nodeGroupIds: [group['nodeGroupId']],
  });
  const id = String((await create({ planId: plan['planId'], name: 'näme & co' })).body['subscriptionId']);
  const publicKey = wireguardPublicKey(newWireguardPrivateKey());
  const made = await make(world, operator, at(id, '/devices'), { name: 'own', publicKey });
  await world.sql('INSERT INTO node_address (node_id, address, device_id) VALUES ($1, $2, $3)', [
    node['nodeId'],
    'fd00::2',
    made['deviceId'],
  ]);
  const { items } = access.parse((await ask('GET', at(id, '/access'))).body);
  const uri = items[0]?.vless[0]?.uri ?? '';
  expect(uri).toContain('@[2001:db8::7]:8443?');
  expect(decodeURIComponent(uri.split('#')[1] ?? '')).toBe('näme & co r');
  const [inbound] = await world.sql<{ settings: { publicKey: string; shortIds: string[] } }>(
    `SELECT settings FROM inbound WHERE node_id = $1 AND tag = 'reality'`,
    [node['nodeId']],
  );
  expect(Object.fromEntries(new URL(uri).searchParams)).toEqual({
    ...{
      encryption: 'none',
      type: 'tcp',
      security: 'reality',
      flow: 'xtls-rprx-vision',
      sni: 'www.example.com',
    },
    ...{ pbk: inbound?.settings.publicKey, sid: inbound?.settings.shortIds[0], fp: 'chrome' },
  });
  const conf = items[0]?.wireguard[0]?.conf ?? '';
  expect(conf).toContain('Address = fd00::2/128');
  expect(conf).toContain('Endpoint = [2001:db8::7]:51820');
  expect(conf).not.toMatch(/^PrivateKey/m);
});

test('usage: nothing yet, then the current period in exact bytes', async () => {
  const path = at(own.subscriptionId, '/usage');
  expect(usage.parse((await world.ask('GET', path, { as: auditor })).body)).toMatchObject({
    period: null,
    usedBytes: '0',
    limitBytes: '10000000000',
  });
  const keys = [own.admin.tenantId, own.subscriptionId];
  await world.sql(
    `INSERT INTO usage_period (tenant_id, subscription_id, period_id, started_at, ends_at, limit_bytes, observed_bytes) VALUES
     ($1, $2, $3, now() - interval '2 days', now() - interval '1 day', 5, 5), ($1, $2, $4, now() - interval '1 day', now() + interval '1 day', 5, 7)`,
    [...keys, ABSENT, own.planId],
  );
  await world.sql(
    `INSERT INTO usage_counter VALUES ($1, $2, $3, 9007199254740993, 9223372036854775807, 3, now())`,
    [...keys, own.planId],
  );
  expect(usage.parse((await ask('GET', path)).body)).toMatchObject({
    ...{ period: { periodId: own.planId }, upBytes: '9007199254740993', downBytes: '9223372036854775807' },
    ...{ billableBytes: '3', observedBytes: '7', usedBytes: '7' },
  });
});

test('enforcement: an order of the wrong kind confirms nothing; times are from cause to proof', async () => {
  const id = String((await create()).body['subscriptionId']);
  const read = async (): Promise<Record<string, unknown>> =>
    enforcement.parse((await ask('GET', at(id, '/enforcement'))).body);
  expect(await read()).toMatchObject({
    state: 'confirmed on 0 of 0 nodes',
    confirmed: 0,
    nodes: 0,
    ms: null,
    items: [],
  });
  const keys = [own.admin.tenantId, id, own.nodeId];
  await world.sql(
    `INSERT INTO assignment (tenant_id, subscription_id, node_id, assigned_at) VALUES ($1, $2, $3, now())`,
    keys,
  );
  expect(await read()).toMatchObject({ state: 'confirmed on 0 of 1 nodes' });
  const order = (revision: number, kind: string, state: string, ms: number | null): Promise<unknown> =>
    world.sql(
      `INSERT INTO enforcement (tenant_id, subscription_id, node_id, revision, kind, cause, state, caused_at, ordered_at, acknowledged_at, cut_us)
       VALUES ($1, $2, $3, $4, $5, 'edit', $6, $7, $7, $7::timestamptz + $8 * interval '1 ms', 41000)`,
      [...keys, revision, kind, state, new Date(), ms],
    );
  await order(1, 'grant', 'confirmed', 212);
  expect(await read()).toMatchObject({
    state: 'confirmed on 1 of 1 nodes',
    ms: 212,
    items: [{ kind: 'grant', revision: '1' }],
  });
  await ask('PATCH', at(id), { body: { adminState: 'disabled' } });
  expect(await read()).toMatchObject({ state: 'confirmed on 0 of 1 nodes', ms: null });
  await order(2, 'cut', 'unproven', null);
  expect(await read()).toMatchObject({
    state: 'confirmed on 0 of 1 nodes',
    items: [{ state: 'unproven', cutUs: 41000 }],
  });
  await order(3, 'cut', 'confirmed', 97);
  expect(await read()).toMatchObject({
    state: 'confirmed on 1 of 1 nodes',
    ms: 97,
    items: [{ kind: 'cut', revision: '3' }],
  });
});

test('404: another tenant’s subscription on every route, like one that does not exist', async () => {
  for (const id of [other.subscriptionId, ABSENT]) {
    const routes: [string, string, object?][] = [
      ['GET', at(id)],
      ['PATCH', at(id), { name: 'mine now' }],
      ['DELETE', at(id)],
      ['GET', at(id, '/devices')],
      ['POST', at(id, '/devices'), { name: 'mine' }],
      ['GET', at(id, `/devices/${other.deviceId}`)],
      ['PATCH', at(id, `/devices/${other.deviceId}`), { name: 'mine' }],
      ['POST', at(id, `/devices/${other.deviceId}/rotate`), {}],
      ['GET', at(id, '/acts')],
      ...['activate', 'disable', 'enable', 'reset', 'rotate'].map((verb): [string, string] => [
        'POST',
        at(id, `/${verb}`),
      ]),
      ['POST', at(id, '/renew'), {}],
      ['POST', at(id, '/top-up'), { bytes: '1' }],
      ['DELETE', at(id, `/devices/${other.deviceId}`)],
      ['GET', at(id, '/access')],
      ['GET', at(id, '/usage')],
      ['GET', at(id, '/enforcement')],
    ];
    for (const [method, path, body] of routes) {
      const answer = await ask(method, path, body === undefined ? {} : { body });
      expect(answer.body, `${method} ${path}`).toMatchObject({ status: 404, code: 'not_found' });
    }
  }
  expect((await ask('DELETE', at(own.subscriptionId, `/devices/${other.deviceId}`))).status).toBe(404);
});

test('the audit log has one row a change, chained by hash, and holds no secret', async () => {
  const rows = await world.sql<{
    seq: bigint;
    at: Date;
    account_id: string;
    action: string;
    entity: string;
    entity_id: string;
    before: object | null;
    after: object | null;
    ip: string;
    user_agent: string;
    request_id: string;
    prev_hash: Buffer;
    hash: Buffer;
    text: string;
  }>(
    `SELECT *, host(ip) AS ip, coalesce(before::text, '') || coalesce(after::text, '') AS text FROM audit_log WHERE tenant_id = $1 ORDER BY seq`,
    [own.admin.tenantId],
  );
  expect(rows.length).toBeGreaterThan(20);
  let previous: Buffer = Buffer.alloc(32);
  rows.forEach((row, i) => {
    expect(row.seq).toBe(BigInt(i + 1));
    expect(row.prev_hash).toEqual(previous);
    const { at, action, entity, before, after, ip } = row;
    const text = canonicalJson({
      ...{
        tenantId: own.admin.tenantId,
        at,
        accountId: row.account_id,
        action,
        entity,
        entityId: row.entity_id,
      },
      ...{ before, after, ip, userAgent: row.user_agent, requestId: row.request_id },
    });
    expect(row.hash).toEqual(createHash('sha256').update(previous).update(text).digest());
    expect(row.text).not.toMatch(/secret|"privateKey"|password|refresh/i);
    previous = row.hash;
  });
});

test('no change without audit: when its row cannot be written nothing else is', async () => {
  const before = await world.sql('SELECT count(*)::int AS n FROM subscription');
  await world.sql('REVOKE INSERT ON audit_log FROM penstock_control_api');
  try {
    expect((await create()).body).toMatchObject({ status: 500, code: 'internal' });
    expect((await ask('PATCH', at(own.subscriptionId), { body: { name: 'x' } })).status).toBe(500);
  } finally {
    await world.sql('GRANT INSERT ON audit_log TO penstock_control_api');
  }
  expect(await world.sql('SELECT count(*)::int AS n FROM subscription')).toEqual(before);
  expect((await ask('GET', at(own.subscriptionId))).body).toMatchObject({ name: 'customer', version: 1 });
});
