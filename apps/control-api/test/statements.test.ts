// Statements through the API: what was signed is what is given out, to its own tenant only.
import { createHash, createPublicKey } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { newId, type TenantId } from '@penstock/domain/ids';
import { headerText, type StatementHeader } from '@penstock/domain/statement';
import { verifyStatement } from '@penstock/ledger/verify-statement';
import { openStatementKey } from '@penstock/service/statement-key';
import { seedHours } from '@penstock/testkit/series-seed';
import { seedStatement, statementKey, statementKeyId } from '@penstock/testkit/statement-seed';
import { createWorld, type Person, type World } from './world.js';

let world: World;
let tenantId: TenantId;
let owner: Person;
let auditor: Person;
let stranger: Person;

/** More lines than a page of the file. */
const LINES = 12_001;

let first: StatementHeader;
let second: StatementHeader;

beforeAll(async () => {
  world = await createWorld();
  tenantId = await world.tenant('own');
  owner = await world.person(tenantId, 'owner');
  auditor = await world.person(tenantId, 'auditor');
  stranger = await world.person(await world.tenant('other'), 'owner');
  first = await seedStatement(client(), { tenantId, month: '2026-08', lines: LINES });
  const previous = createHash('sha256').update(headerText(first)).digest('hex');
  second = await seedStatement(client(), { tenantId, month: '2026-09', lines: 0, previous });
});
afterAll(() => world.close());

const client = () => ({ query: (text: string, values: unknown[]) => world.sql(text, values) }) as never;

const get = (path: string, as: Person, headers: Record<string, string> = {}) =>
  world.ask('GET', `/api/v1/statements${path}`, { as, headers });

async function* linesOf(text: string): AsyncGenerator<string> {
  for (const line of text.split('\n').slice(0, -1)) yield await Promise.resolve(line);
}

describe('statements', () => {
  test('are listed newest first, in pages', async () => {
    const all = await get('', auditor);
    expect(all.status).toBe(200);
    const items = all.body['items'] as unknown as { month: string; statementId: string }[];
    expect(items.map((item) => item.month)).toEqual(['2026-09', '2026-08']);
    const page = await get('?limit=1', owner);
    const rest = await get(`?limit=1&cursor=${String(page.body['nextCursor'])}`, owner);
    expect(rest.body).toMatchObject({ items: [{ month: '2026-08' }], nextCursor: null });
  });

  test('show what was signed', async () => {
    const answer = await get(`/${second.statementId}`, owner);
    const shown: Partial<StatementHeader> = { ...second };
    delete shown.format;
    delete shown.tenantId;
    expect(answer.body).toMatchObject(shown);
    const missing = await get(`/${newId()}`, owner);
    expect([missing.status, missing.body['code']]).toEqual([404, 'not_found']);
  });

  test('come as a file that verifies without the product, whole however many lines it has', async () => {
    const answer = await get(`/${first.statementId}/file`, owner);
    expect(answer.headers.get('content-type')).toMatch(/ndjson/);
    expect(answer.headers.get('content-disposition')).toContain('statement-2026-08.ndjson');
    const report = await verifyStatement(linesOf(answer.text));
    expect(report.problem).toBeNull();
    expect(report.header).toEqual(first);
    expect(report.keyFingerprint).toBe(createHash('sha256').update(statementKey).digest('hex'));
    const known = await get('/keys', owner);
    expect(known.body['items']).toMatchObject([
      { keyId: statementKeyId, fingerprint: report.keyFingerprint },
    ]);
    expect(known.text).not.toContain(Buffer.from('sealed').toString('base64'));
    const next = await verifyStatement(linesOf((await get(`/${second.statementId}/file`, owner)).text));
    expect(next.problem).toBeNull();
    expect(next.header.previous).toBe(report.digest);
  });

  test('come as CSV for a spreadsheet', async () => {
    const answer = await get(`/${first.statementId}/file`, owner, { accept: 'text/csv' });
    const lines = answer.text.split('\r\n');
    expect(lines[0]).toBe('month,subscription,engine,up_bytes,down_bytes,billable_bytes');
    expect(lines).toHaveLength(LINES + 2);
    expect(lines[1]).toMatch(/^2026-08,[0-9a-f-]{36},xray,0,1,1$/);
  });

  test('of another tenant do not exist', async () => {
    expect((await get('', stranger)).body['items']).toEqual([]);
    for (const path of ['', '/file']) {
      const answer = await get(`/${first.statementId}${path}`, stranger);
      expect(answer.status).toBe(404);
    }
  });
});

test('a preview of a month without usage is zero', async () => {
  const { body } = await get('/preview?month=2026-10', stranger);
  expect(body['usage']).toEqual({ upBytes: '0', downBytes: '0', billableBytes: '0' });
});

test('a preview is the month so far, in the tenant’s zone, with when it will be closed', async () => {
  const hour = { tenantId, subscriptionId: newId(), nodeId: newId() };
  await world.sql(`SELECT make_series_partitions('2026-09-01', 2)`);
  await seedHours(client(), [
    { ...hour, hour: '2026-10-31T23:00:00Z', day: '2026-10-31', up: 5n },
    { ...hour, hour: '2026-11-01T00:00:00Z', day: '2026-11-01', up: 7n },
  ]);
  const answer = await get('/preview?month=2026-10', owner);
  expect(answer.body).toEqual({
    ...{ month: '2026-10', timeZone: 'UTC', closesAt: '2026-11-03T00:00:00.000Z', statementId: null },
    usage: { upBytes: '5', downBytes: '0', billableBytes: '5' },
  });
  expect((await get('/preview?month=2026-08', owner)).body['statementId']).toBe(first.statementId);
  expect((await get('/preview', owner)).body['month']).toBe(new Date().toISOString().slice(0, 7));
  const wrong = await get('/preview?month=2026-13', owner);
  expect([wrong.status, wrong.body['field']]).toEqual([400, 'month']);
});

test('a new key signs from now on; the old one stays published and its statements verify', async () => {
  const platform = await world.person(world.platform, 'owner');
  const rotate = (as: Person) => world.ask('POST', '/api/v1/statements/keys/rotate', { as });
  for (const as of [owner, auditor, await world.person(world.platform, 'admin')])
    expect((await rotate(as)).body).toMatchObject({ status: 403, code: 'forbidden' });
  const made = await rotate(platform);
  expect(made.status, made.text).toBe(200);
  expect(made.body['retiredAt']).toBeNull();
  const second = await rotate(platform);
  const { items } = (await get('/keys', auditor)).body as unknown as { items: Record<string, unknown>[] };
  expect(items.map((key) => [key['keyId'], key['retiredAt'] === null])).toEqual([
    [second.body['keyId'], true],
    [made.body['keyId'], false],
    [statementKeyId, false],
  ]);
  // Sealed, and nowhere to be seen.
  const [row] = await world.sql<{ sealed: Buffer; public: Buffer }>(
    'SELECT private_key AS sealed, public_key AS public FROM statement_key WHERE key_id = $1',
    [second.body['keyId']],
  );
  const keyId = String(second.body['keyId']);
  const key = openStatementKey(world.context.config.DATA_KEY, keyId, row?.sealed ?? Buffer.alloc(0));
  expect(createPublicKey(key).export({ format: 'der', type: 'spki' })).toEqual(row?.public);
  expect(second.body['fingerprint']).toBe(
    createHash('sha256')
      .update(row?.public ?? '')
      .digest('hex'),
  );
  const report = await verifyStatement(linesOf((await get(`/${first.statementId}/file`, owner)).text));
  expect(report.problem).toBeNull();
  expect(items.map((one) => one['fingerprint'])).toContain(report.keyFingerprint);
  const audit = await world.sql(
    `SELECT tenant_id, entity_id, before FROM audit_log WHERE action = 'statement_key.rotate' ORDER BY seq`,
  );
  expect(audit).toEqual([
    { tenant_id: world.platform, entity_id: made.body['keyId'], before: { keyIds: [statementKeyId] } },
    { tenant_id: world.platform, entity_id: keyId, before: { keyIds: [made.body['keyId']] } },
  ]);
});

test('rotations at once follow each other, and one key signs after them', async () => {
  const platform = await world.person(world.platform, 'owner');
  const path = '/api/v1/statements/keys/rotate';
  const answers = await Promise.all([1, 2, 3, 4].map(() => world.ask('POST', path, { as: platform })));
  expect(answers.map((answer) => answer.status)).toEqual([200, 200, 200, 200]);
  const signing = await world.sql('SELECT key_id FROM statement_key WHERE retired_at IS NULL');
  expect(signing).toHaveLength(1);
});

test('a retired key signs never again, no key is changed, and there is no second one that signs', async () => {
  const [signing] = await world.sql<{ id: string }>(
    'SELECT key_id AS id FROM statement_key WHERE retired_at IS NULL',
  );
  expect(signing).toBeDefined();
  for (const change of ['retired_at = NULL', 'retired_at = now()'])
    await expect(
      world.sql(`UPDATE statement_key SET ${change} WHERE retired_at IS NOT NULL`),
    ).rejects.toThrow(/retired once/);
  for (const change of [`public_key = '\\x00'`, `private_key = '\\x00'`, 'key_id = gen_random_uuid()'])
    await expect(world.sql(`UPDATE statement_key SET ${change} WHERE retired_at IS NULL`)).rejects.toThrow(
      /never changed/,
    );
  await expect(
    world.sql(
      `INSERT INTO statement_key (key_id, public_key, private_key) VALUES (gen_random_uuid(), '\\x00', '\\x00')`,
    ),
  ).rejects.toThrow(/statement_key_active/);
});
