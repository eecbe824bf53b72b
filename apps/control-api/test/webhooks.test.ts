// Settings of webhooks: secrets shown once, URLs never, nobody else's.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openSecret } from '@penstock/service/secret-box';
import { ABSENT, createWorld, type Answer, type Person, type World } from './world.js';

let world: World;
let owner: Person;
const url = 'https://hooks.example.org/penstock?token=canary-of-the-url';

beforeAll(async () => {
  world = await createWorld();
  owner = await world.person(await world.tenant('own'), 'owner');
});
afterAll(() => world.close());

const create = (change: object = {}, as = owner): Promise<Answer> =>
  world.ask('POST', '/api/v1/webhooks', {
    as,
    body: { name: 'hook', url, events: ['subscription.*'], ...change },
  });

test('the secret is shown once and the URL never; both lie sealed [R3-08]', async () => {
  const made = await create();
  expect(made.status, made.text).toBe(201);
  expect(made.body).toMatchObject({ origin: 'https://hooks.example.org', enabled: true, failures: 0 });
  const secret = String(made.body['secret']);
  expect(secret).toMatch(/^whsec_[A-Za-z0-9_-]{43}$/);
  const id = String(made.body['webhookId']);
  const reads = [
    await world.ask('GET', `/api/v1/webhooks/${id}`, { as: owner }),
    await world.ask('GET', '/api/v1/webhooks', { as: owner }),
    await world.ask('GET', '/api/v1/audit', { as: owner }),
  ];
  for (const { status, text } of reads) {
    expect(status).toBe(200);
    expect(text).not.toContain('canary-of-the-url');
    expect(text).not.toContain(secret);
  }
  const [row] = await world.sql<{ url: Buffer; secret: Buffer }>(
    'SELECT url, secret FROM webhook WHERE webhook_id = $1',
    [id],
  );
  expect(row?.url.includes('canary')).toBe(false);
  const open = (table: string, bytes: Buffer = Buffer.alloc(0)): string =>
    openSecret(world.context.config.DATA_KEY, bytes, { table, tenant: owner.tenantId, row: id }).toString();
  expect(open('webhook_url', row?.url)).toBe(url);
  expect(open('webhook', row?.secret)).toBe(secret);
});

test.each([
  ['http', { url: 'http://hooks.example.org/' }, 'url'],
  ['another port', { url: 'https://hooks.example.org:22/' }, 'url'],
  ['a user name', { url: 'https://user:word@hooks.example.org/' }, 'url'],
  ['a password alone', { url: 'https://:word@hooks.example.org/' }, 'url'],
  ['no events', { events: [] }, 'events'],
  ['an event that is none', { events: ['; drop table'] }, 'events.0'],
  ['a well-formed event that there never is', { events: ['*', 'subscription.explode'] }, 'events.1'],
  ['all events of a noun that there is not', { events: ['customer.*'] }, 'events.0'],
  ['the same event twice', { events: ['*', '*'] }, 'events'],
  ['an unknown field', { tenantId: ABSENT }, 'tenantId'],
])('%s is refused', async (_name, change, field) => {
  const answer = await create(change);
  expect([answer.status, answer.body['field']]).toEqual([400, field]);
});

test.each([
  ['hooks.example.org', 'must be an address such as https://hooks.example.org/penstock'],
  ['http://hooks.example.org/', 'must be an https address'],
  ['https://hooks.example.org:22/', 'must be on port 443 or 8443'],
  ['https://user@hooks.example.org/', 'must hold no user name or password'],
  ['https://127.0.0.1:8443/', 'must hold a host name, not an IP address'],
  ['https://2130706433/', 'must hold a host name, not an IP address'],
  ['https://[::1]/', 'must hold a host name, not an IP address'],
  ...['localhost:8443', 'LOCALHOST.', 'a.localhost', 'printer.local', 'metadata.google.internal'].map(
    (host) => [
      `https://${host}/`,
      'must hold a public host name, not localhost or one of .local or .internal',
    ],
  ),
  ['https://control-api/', 'must hold a full host name such as hooks.example.org'],
])('the address %s is refused with the rule that it breaks', async (address, rule) => {
  const refused = { status: 400, code: 'invalid_input', field: 'url', detail: `url: ${rule}` };
  expect((await create({ url: address })).body).toMatchObject(refused);
});

test('names that only look like those of a home network are taken', async () => {
  for (const host of ['localhost.example.org', 'mylocal.example', 'thelocal.se:8443', 'hooks.example.org.']) {
    expect((await create({ url: `https://${host}/` })).status, host).toBe(201);
  }
});

test('a wrong event is named by its place, and the answer tells nothing else', async () => {
  const made = await create();
  const path = `/api/v1/webhooks/${String(made.body['webhookId'])}`;
  const body = { events: ['plan.*', 'subscription.explode'] };
  const answer = await world.ask('PATCH', path, { as: owner, body });
  expect(answer.body).toMatchObject({
    ...{ status: 400, code: 'invalid_input', field: 'events.1' },
    detail: 'events.1: must be an event that there is (subscription.create), noun.* or *',
  });
  const after = await world.ask('GET', path, { as: owner });
  expect(after.body['events']).toEqual(['subscription.*']);
});

test('a webhook is changed by its version, rotated, pinged and deleted', async () => {
  const made = await create();
  const path = `/api/v1/webhooks/${String(made.body['webhookId'])}`;
  const stale = await world.ask('PATCH', path, {
    as: owner,
    body: { enabled: false },
    headers: { 'if-match': '"7"' },
  });
  expect(stale.status).toBe(412);
  const off = await world.ask('PATCH', path, {
    as: owner,
    body: { enabled: false },
    headers: { 'if-match': '"1"' },
  });
  expect(off.body).toMatchObject({ enabled: false, version: 2 });
  const rotated = await world.ask('POST', `${path}/rotate`, { as: owner });
  expect(rotated.body['secret']).not.toBe(made.body['secret']);
  await world.ask('PATCH', path, { as: owner, body: { enabled: true } });
  const ping = await world.ask('POST', `${path}/ping`, { as: owner });
  expect(ping.status, ping.text).toBe(201);
  const list = await world.ask('GET', `${path}/deliveries`, { as: owner });
  expect(list.body['items']).toMatchObject([
    { deliveryId: ping.body['deliveryId'], type: 'webhook.ping', state: 'pending' },
  ]);
  expect((await world.ask('DELETE', path, { as: owner })).status).toBe(204);
  expect((await world.ask('GET', path, { as: owner })).status).toBe(404);
});

test('nobody has a server told what he may not hear himself', async () => {
  const admin = await world.person(owner.tenantId, 'admin');
  expect((await create({ events: ['*'] }, admin)).status).toBe(403);
  expect((await create({ events: ['subscription.*', 'session.create'] }, admin)).body).toMatchObject({
    ...{ status: 403, field: 'events' },
  });
  expect((await create({ events: ['member.*', 'subscription.state'] }, admin)).status).toBe(201);
  const all = await create({ events: ['*'] });
  const path = `/api/v1/webhooks/${String(all.body['webhookId'])}`;
  const elsewhere = { url: 'https://elsewhere.example.org/' };
  expect((await world.ask('PATCH', path, { as: admin, body: elsewhere })).status).toBe(403);
  expect((await world.ask('PATCH', path, { as: admin, body: { enabled: false } })).status).toBe(200);
  const key = await world.ask('POST', '/api/v1/api-keys', {
    as: owner,
    body: {
      name: 'key',
      scopes: ['webhook.create'],
      expiresAt: new Date(Date.now() + 3_600_000).toISOString(),
    },
  });
  expect(key.status, key.text).toBe(201);
  const byKey = await world.ask('POST', '/api/v1/webhooks', {
    as: String(key.body['key']),
    body: { name: 'hook', url, events: ['subscription.*'] },
  });
  expect(byKey.status, byKey.text).toBe(403);
});

test('nothing waits for a webhook that is switched off', async () => {
  const made = await create();
  const path = `/api/v1/webhooks/${String(made.body['webhookId'])}`;
  await world.ask('POST', `${path}/ping`, { as: owner });
  await world.ask('PATCH', path, { as: owner, body: { enabled: false } });
  const list = await world.ask('GET', `${path}/deliveries`, { as: owner });
  expect(list.body['items']).toMatchObject([{ state: 'failed', error: 'webhook_disabled' }]);
  expect((await world.ask('POST', `${path}/ping`, { as: owner })).status).toBe(412);
});

test('another tenant’s webhook is not found', async () => {
  const made = await create();
  const stranger = await world.person(await world.tenant('other'), 'owner');
  const path = `/api/v1/webhooks/${String(made.body['webhookId'])}`;
  for (const [method, suffix, body] of [
    ['GET', '', undefined],
    ['PATCH', '', { enabled: false }],
    ['DELETE', '', undefined],
    ['POST', '/rotate', undefined],
    ['POST', '/ping', undefined],
    ['GET', '/deliveries', undefined],
  ] as const) {
    const answer = await world.ask(method, path + suffix, { as: stranger, ...(body && { body }) });
    expect([answer.status, answer.body['code']], `${method} ${suffix}`).toEqual([404, 'not_found']);
  }
  expect((await world.ask('GET', path, { as: owner })).body).toMatchObject({ version: 1, enabled: true });
});

test('an operator and an auditor see no webhooks', async () => {
  for (const role of ['operator', 'auditor'] as const) {
    const person = await world.person(owner.tenantId, role);
    expect((await world.ask('GET', '/api/v1/webhooks', { as: person })).status).toBe(403);
  }
});
