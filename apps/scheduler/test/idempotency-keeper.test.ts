import { randomBytes } from 'node:crypto';
import { createPool, type Pool } from '@penstock/db/pool';
import { newId } from '@penstock/domain/ids';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { removeOldAnswers } from '../src/tasks/idempotency-keeper.js';
import { World } from './world.js';

let world: World;
let pool: Pool;

beforeAll(async () => {
  world = await World.create();
  pool = createPool(world.database.url('penstock_scheduler'), { applicationName: 'test' });
});
afterAll(async () => {
  await pool.end();
  await world.close();
});

it('forgets answers a day after they were given and not before, of all tenants', async () => {
  for (const tenantId of [await world.tenant(), await world.tenant()]) {
    for (const hours of [0, 1, 23, 25, 400]) {
      await world.query(
        `INSERT INTO idempotency_key (tenant_id, actor_id, key_hash, request_hash, status, headers, body, created_at)
         VALUES ($1, $2, $3, $3, 201, '{}', '', now() - make_interval(hours => $4))`,
        [tenantId, newId(), randomBytes(32), hours],
      );
    }
  }
  expect(await removeOldAnswers(pool)).toBe(4);
  expect(await removeOldAnswers(pool)).toBe(0);
  const left = await world.query(
    `SELECT round(extract(epoch FROM now() - created_at) / 3600)::int AS hours FROM idempotency_key ORDER BY 1`,
  );
  expect(JSON.stringify(left)).toContain('23');
  expect(JSON.stringify(left)).not.toContain('25');
  // Not even when it asks for them.
  await expect(pool.query(`SELECT body FROM idempotency_key`)).rejects.toThrow(/permission denied/);
});
