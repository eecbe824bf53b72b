import { afterAll, beforeAll, expect, test } from 'vitest';
import { settingsReply } from '../src/settings/settings.schema.js';
import { createWorld, type Person, type World } from './world.js';

const path = '/api/v1/settings';
let world: World;
let owner: Person;
let admin: Person;
let customer: Person;

beforeAll(async () => {
  world = await createWorld();
  owner = await world.person(world.platform, 'owner');
  admin = await world.person(world.platform, 'admin');
  customer = await world.person(await world.tenant(), 'owner');
});
afterAll(() => world.close());

test('defaults, then what the owner set; If-Match; one row in the log a change, none for no change', async () => {
  const first = await world.ask('GET', path, { as: admin });
  expect(settingsReply.parse(first.body)).toMatchObject({
    minPasswordLength: 12,
    sessionDays: 30,
    version: 0,
  });
  const set = { supportName: 'Nord help', supportUrl: 'https://example.org/help', minPasswordLength: 16 };
  const headers = { 'if-match': first.headers.get('etag') ?? '' };
  const changed = await world.ask('PATCH', path, { as: owner, body: set, headers });
  expect(changed.body).toMatchObject({ ...set, version: 3 });
  expect((await world.ask('PATCH', path, { as: owner, body: set, headers })).status).toBe(412);
  await world.ask('PATCH', path, { as: owner, body: set });
  const rows = await world.sql(`SELECT before, after FROM audit_log WHERE action = 'settings.update'`);
  expect(rows).toEqual([{ before: { supportName: '', supportUrl: '', minPasswordLength: 12 }, after: set }]);
});

test('a password that is set after that has the new length', async () => {
  const invited = await world.ask('POST', '/api/v1/invitations', {
    as: customer,
    body: { email: 'p@example.org', role: 'auditor' },
  });
  const token = String(invited.body['link']).split('#')[1];
  const body = { token, password: 'fourteen chars' };
  const answer = await world.ask('POST', '/api/v1/invitations/accept', { body });
  expect(answer.body).toMatchObject({ status: 400, field: 'password' });
});

test('400: what is out of range or unknown', async () => {
  for (const [field, value] of [
    ['minPasswordLength', 11],
    ['supportUrl', 'http://example.org'],
    ['supportUrl', 'javascript:alert(1)'],
    ['defaultTimeZone', '+02:00'],
    ['sessionDays', 0],
    ['logo', 'x'],
  ] as const) {
    const answer = await world.ask('PATCH', path, { as: owner, body: { [field]: value } });
    expect(answer.body, `${field} ${String(value)}`).toMatchObject({ status: 400, field });
  }
  expect((await world.ask('PATCH', path, { as: owner, body: {} })).status).toBe(400);
});

test('403: an admin changes none, a tenant sees none', async () => {
  expect((await world.ask('PATCH', path, { as: admin, body: { sessionDays: 2 } })).status).toBe(403);
  expect((await world.ask('GET', path, { as: customer })).status).toBe(403);
});

test('a stored value that no release would write does no harm', async () => {
  await world.sql(`UPDATE setting SET value = '3' WHERE key = 'minPasswordLength'`);
  await world.sql(`INSERT INTO setting (key, value, updated_at) VALUES ('gone', 'true', now())`);
  const answer = await world.ask('GET', path, { as: owner });
  expect(settingsReply.parse(answer.body)).toMatchObject({ minPasswordLength: 12 });
});
