// V19: the audit log is for a tenant's owners, admins and auditors. An operator sees none of it, nobody sees another
// tenant's, and what was removed by force is named by the walk along the chain.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { auditPage, auditReport } from '../../apps/control-api/src/audit/audit.schema.js';
import { scene, type Scene } from '../../apps/control-api/test/scene.js';
import { createWorld, type Answer, type Person, type World } from '../../apps/control-api/test/world.js';

interface Row {
  seq: string;
  action: string;
  entityId: string | null;
  accountId: string | null;
  traceId: string | null;
  hash: string;
}

describe('V19 the audit log', () => {
  let world: World;
  let own: Scene;
  let other: Scene;
  let auditor: Person;

  beforeAll(async () => {
    world = await createWorld();
    own = await scene(world, await world.person(await world.tenant('own'), 'owner'));
    other = await scene(world, await world.person(await world.tenant('other'), 'owner'));
    auditor = await world.person(own.admin.tenantId, 'auditor');
  });
  afterAll(() => world.close());

  const get = (path: string, as: Person): Promise<Answer> => world.ask('GET', `/api/v1/audit${path}`, { as });
  const rowsOf = (answer: Answer): Row[] => auditPage.parse(answer.body).items as unknown as Row[];
  const all = async (as: Person): Promise<Row[]> => rowsOf(await get('?limit=200', as));

  test('403: an operator reads, exports and verifies none of it', async () => {
    const operator = await world.person(own.admin.tenantId, 'operator');
    for (const path of ['', '/export', '/verify']) {
      expect((await get(path, operator)).body, path).toMatchObject({ status: 403, code: 'forbidden' });
    }
  });

  test('an auditor sees his own tenant’s rows and no other’s, however he asks', async () => {
    const mine = await all(auditor);
    expect(mine.length).toBeGreaterThan(5);
    const [theirs] = await world.sql<{ text: string }>(
      `SELECT string_agg(encode(hash, 'hex'), ' ') AS text FROM audit_log WHERE tenant_id = $1`,
      [other.admin.tenantId],
    );
    for (const row of mine) expect(theirs?.text).not.toContain(row.hash);
    const paths = [
      `?entityId=${other.subscriptionId}`,
      `?accountId=${other.admin.accountId}`,
      `?entityId=${other.planId}&limit=200`,
      `/export?entityId=${other.subscriptionId}`,
    ];
    for (const path of paths) {
      const answer = await get(path, auditor);
      expect(answer.status, path).toBe(200);
      expect(answer.text).not.toContain(other.subscriptionId);
      if (!path.startsWith('/export')) expect(rowsOf(answer)).toEqual([]);
      else expect(answer.text).toBe('');
    }
  });

  test('search: by action, entity, person and time; pages by row number, newest first', async () => {
    const mine = await all(auditor);
    expect(mine.map((row) => Number(row.seq))).toEqual(mine.map((_row, n) => mine.length - n));
    expect(rowsOf(await get('?action=subscription.create', auditor))).toMatchObject([
      { action: 'subscription.create', entityId: own.subscriptionId, accountId: own.admin.accountId },
    ]);
    expect(rowsOf(await get(`?entityId=${own.planId}`, auditor))).toHaveLength(1);
    expect(rowsOf(await get('?to=2020-01-01T00:00:00Z', auditor))).toEqual([]);
    const first = await get('?limit=3', auditor);
    const second = await get(`?limit=200&cursor=${String(first.body['nextCursor'])}`, auditor);
    expect([...rowsOf(first), ...rowsOf(second)].map((row) => row.seq)).toEqual(mine.map((row) => row.seq));
    expect(second.body['nextCursor']).toBeNull();
    for (const path of ["?action=x'--", '?seq=1', '?limit=0', '?from=yesterday', '?cursor=-1']) {
      expect((await get(path, auditor)).status, path).toBe(400);
    }
  });

  test('a row says which trace it belongs to', async () => {
    const trace = '4bf92f3577b34da6a3ce929d0e0e4736';
    const answer = await world.ask('POST', '/api/v1/node-groups', {
      ...{ as: own.admin, body: { name: 'traced' } },
      headers: { traceparent: `00-${trace}-00f067aa0ba902b7-01` },
    });
    const rows = rowsOf(await get(`?entityId=${String(answer.body['nodeGroupId'])}`, auditor));
    expect(rows).toMatchObject([{ traceId: trace }]);
  });

  test('export: every row, oldest first, one JSON object a line, and it goes on where it ended', async () => {
    const mine = (await all(auditor)).toReversed();
    const whole = await get('/export', auditor);
    expect(whole.headers.get('content-type')).toContain('application/x-ndjson');
    const lines = whole.text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Row);
    expect(lines.map((row) => row.hash)).toEqual(mine.map((row) => row.hash));
    const rest = await get(`/export?afterSeq=${lines.length - 1}`, auditor);
    expect(rest.text.trim().split('\n')).toHaveLength(1);
    expect((await get(`/export?afterSeq=${lines.length}`, auditor)).text).toBe('');
  });

  test('verify: whole as it is; a row that a superuser changed is named to its own tenant alone', async () => {
    const mine = await all(auditor);
    const whole = await get('/verify', auditor);
    expect(auditReport.parse(whole.body)).toMatchObject({ ok: true, rows: mine.length, nextSeq: null });
    await world.sql(`SET session_replication_role = replica; UPDATE audit_log SET action = 'plan.delete'
      WHERE tenant_id = '${other.admin.tenantId}' AND seq = 3; SET session_replication_role = origin`);
    expect((await get('/verify', auditor)).body).toMatchObject({ ok: true });
    expect((await get('/verify', other.admin)).body).toMatchObject({
      ...{ ok: false, rows: 2, firstWrongSeq: '3', reason: 'this row was changed' },
    });
    // The platform's auditor may look into the tenant.
    const platform = await world.person(world.platform, 'auditor');
    const there = await world.ask('POST', '/api/v1/auth/switch', {
      as: platform,
      body: { tenantId: other.admin.tenantId },
    });
    const report = await world.ask('GET', '/api/v1/audit/verify', { as: String(there.body['accessToken']) });
    expect(report.body).toMatchObject({ ok: false, firstWrongSeq: '3' });
  });

  test('control-api’s own login can neither change nor remove a row', async () => {
    const client = await world.context.pool.connect();
    try {
      for (const text of [
        'UPDATE audit_log SET action = action',
        'DELETE FROM audit_log',
        'TRUNCATE audit_log',
      ])
        await expect(client.query(text), text).rejects.toThrow(/permission denied/);
    } finally {
      client.release();
    }
  });
});
