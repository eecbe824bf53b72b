// Statements through the API: what was signed is what is given out, to its own tenant only.
import { createHash, generateKeyPairSync, sign } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { newId, type TenantId } from '@penstock/domain/ids';
import { headerText, lineText, STATEMENT_FORMAT, type StatementHeader } from '@penstock/domain/statement';
import { verifyStatement } from '@penstock/ledger/verify-statement';
import { seedHours } from '@penstock/testkit/series-seed';
import { createWorld, type Person, type World } from './world.js';

let world: World;
let tenantId: TenantId;
let owner: Person;
let auditor: Person;
let stranger: Person;
const keyId = newId();
const keys = generateKeyPairSync('ed25519');
const publicKey = keys.publicKey.export({ format: 'der', type: 'spki' });

/** As the scheduler closes one: more lines than a page of the file. */
const LINES = 12_001;

async function close(month: string, lines: number, previous: string | null): Promise<StatementHeader> {
  const statementId = newId();
  const subscriptions = Array.from({ length: lines }, () => newId()).sort();
  const hash = createHash('sha256');
  subscriptions.forEach((subscriptionId, i) => {
    const bytes = { upBytes: BigInt(i), downBytes: 1n, billableBytes: BigInt(i) + 1n };
    hash.update(lineText({ month, subscriptionId, engine: 'xray', ...bytes }));
  });
  const up = (lines * (lines - 1)) / 2;
  const header: StatementHeader = {
    ...{ format: STATEMENT_FORMAT, tenantId, statementId, month, timeZone: 'UTC' },
    ...{ closedAt: new Date().toISOString(), lines, linesDigest: hash.digest('hex') },
    usage: { upBytes: String(up), downBytes: String(lines), billableBytes: String(up + lines) },
    corrections: { lines: 0, upBytes: '0', downBytes: '0', billableBytes: '0' },
    ...{ previous, keyId },
  };
  const text = headerText(header);
  await world.sql(
    `INSERT INTO statement (tenant_id, statement_id, month, time_zone, lines, up_bytes, down_bytes, billable_bytes, corrections,
                            closed_at, key_id, header, signature, digest)
     VALUES ($1, $2, $3, 'UTC', $4::int, $5, $4::int, $6, 0, now(), $7, $8, $9, $10)`,
    [
      ...[tenantId, statementId, `${month}-01`, lines, up, up + lines, keyId, text],
      ...[sign(null, Buffer.from(text), keys.privateKey), createHash('sha256').update(text).digest()],
    ],
  );
  await world.sql(
    `INSERT INTO statement_line SELECT $1, $2, $3, s, 1, n - 1, 1, n FROM unnest($4::uuid[]) WITH ORDINALITY AS i (s, n)`,
    [tenantId, statementId, `${month}-01`, subscriptions],
  );
  return header;
}

let first: StatementHeader;
let second: StatementHeader;

beforeAll(async () => {
  world = await createWorld();
  tenantId = await world.tenant('own');
  owner = await world.person(tenantId, 'owner');
  auditor = await world.person(tenantId, 'auditor');
  stranger = await world.person(await world.tenant('other'), 'owner');
  await world.sql(`INSERT INTO statement_key (key_id, public_key, private_key) VALUES ($1, $2, 'sealed')`, [
    keyId,
    publicKey,
  ]);
  first = await close('2026-08', LINES, null);
  second = await close('2026-09', 0, createHash('sha256').update(headerText(first)).digest('hex'));
});
afterAll(() => world.close());

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
    expect(report.keyFingerprint).toBe(createHash('sha256').update(publicKey).digest('hex'));
    const known = await get('/keys', owner);
    expect(known.body['items']).toMatchObject([{ keyId, fingerprint: report.keyFingerprint }]);
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

test('a preview is the month so far, in the tenant’s zone, with when it will be closed', async () => {
  const hour = { tenantId, subscriptionId: newId(), nodeId: newId() };
  const client = { query: (text: string, values: unknown[]) => world.sql(text, values) };
  await world.sql(`SELECT make_series_partitions('2026-09-01', 2)`);
  await seedHours(client as never, [
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
