import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createPool, type Pool } from '@penstock/db/pool';
import { systemClock } from '@penstock/domain/clock';
import { newId } from '@penstock/domain/ids';
import { removeExpired } from '../src/tasks/sign-in-keeper.js';
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

it('removes what expired a week ago, keeps what did not, and a session’s tenants with its last token', async () => {
  const tenantId = await world.tenant();
  const accountId = newId();
  await world.query(
    `INSERT INTO account (account_id, email, password_hash) VALUES ($1, 'a@example.org', '')`,
    [accountId],
  );
  const token = async (family: string, parent: string | null, daysAgo: number): Promise<string> => {
    const id = newId();
    await world.query(
      `INSERT INTO session (session_id, account_id, family_id, refresh_hash, parent_id, expires_at)
       VALUES ($1, $2, $3, $4, $5, now() - make_interval(days => $6))`,
      [id, accountId, family, randomBytes(32), parent, daysAgo],
    );
    return id;
  };
  const [dead, alive] = [randomUUID(), randomUUID()];
  await token(dead, await token(dead, null, 40), 8);
  const child = await token(alive, await token(alive, null, 9), -20);
  for (const family of [dead, alive]) {
    await world.query('INSERT INTO session_tenant (tenant_id, family_id, account_id) VALUES ($1, $2, $3)', [
      ...[tenantId, family, accountId],
    ]);
  }
  for (const daysAgo of [8, 1]) {
    await world.query(
      `INSERT INTO one_time_link (hash, kind, account_id, expires_at)
       VALUES ($1, 'password_reset', $2, now() - make_interval(days => $3))`,
      [randomBytes(32), accountId, daysAgo],
    );
    await world.query(
      `INSERT INTO passkey_challenge (hash, expires_at) VALUES ($1, now() - make_interval(days => $2))`,
      [randomBytes(32), daysAgo],
    );
  }
  expect(await removeExpired(pool, systemClock)).toBe(5);
  expect(await removeExpired(pool, systemClock)).toBe(0);
  // The child of a token that is gone is good as before.
  expect(await world.query('SELECT session_id, parent_id FROM session')).toEqual([
    { session_id: child, parent_id: null },
  ]);
  expect(await world.query('SELECT family_id FROM session_tenant')).toEqual([{ family_id: alive }]);
  expect(await world.query('SELECT count(*)::int AS links FROM one_time_link')).toEqual([{ links: 1 }]);
});
