import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { appendAuditRecord } from '@penstock/db/audit-chain';
import { createPool, type Pool } from '@penstock/db/pool';
import { systemClock } from '@penstock/domain/clock';
import { newId, type TenantId } from '@penstock/domain/ids';
import { auditHeads } from '../src/tasks/audit-heads.js';
import { World } from './world.js';

let world: World;
let pool: Pool;
const directory = mkdtempSync(join(tmpdir(), 'audit-heads-'));
const file = join(directory, 'heads.ndjson');

beforeAll(async () => {
  world = await World.create();
  pool = createPool(world.database.url('penstock_scheduler'), { applicationName: 'test' });
});
afterAll(async () => {
  await pool.end();
  await world.close();
  rmSync(directory, { recursive: true });
});

async function append(tenantId: TenantId): Promise<void> {
  await appendAuditRecord(world.admin, {
    ...{ tenantId, at: new Date(), accountId: null, keyId: null, action: 'plan.create', entity: 'plan' },
    ...{
      entityId: null,
      before: null,
      after: null,
      ip: null,
      userAgent: null,
      requestId: newId(),
      traceId: null,
    },
  });
}

it('keeps the end of each chain that moved, in the table and in the file, once', async () => {
  const [a, b] = [await world.tenant(), await world.tenant()];
  await append(a);
  await append(b);
  await append(b);
  const task = auditHeads(systemClock, file);
  const heads = (): Promise<unknown[]> =>
    world.query(
      `SELECT tenant_id, seq FROM audit_head WHERE tenant_id = ANY ($1) ORDER BY exported_at, seq`,
      [[a, b]],
    );
  await task.run(pool);
  await task.run(pool);
  expect(await heads()).toEqual([
    { tenant_id: a, seq: 1n },
    { tenant_id: b, seq: 2n },
  ]);
  await append(a);
  await task.run(pool);
  expect(await heads()).toHaveLength(3);
  const lines = readFileSync(file, 'utf8').trim().split('\n');
  expect(lines.map((line) => JSON.parse(line) as unknown)).toMatchObject([
    { tenantId: a, seq: '1' },
    { tenantId: b, seq: '2' },
    { tenantId: a, seq: '2' },
  ]);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  await expect(world.query('DELETE FROM audit_head')).rejects.toThrow(/append-only/);
});

it('the scheduler sees the ends of chains, and not what their rows say', async () => {
  await expect(pool.query('SELECT after FROM audit_log')).rejects.toThrow(/permission denied/);
});
