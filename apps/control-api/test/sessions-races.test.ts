// What ends sessions against what begins them, both under way at once: whoever held a session before, holds none after.
import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newId } from '@penstock/domain/ids';
import { createPool, type Pool } from '@penstock/db/pool';
import { withTransaction } from '@penstock/db/transaction';
import { insertSession, lockSession, markSessionRotated } from '../src/auth/session.store.js';
import { endSessionsOfAccount } from '../src/sessions/sessions.store.js';
import { signIn, withPassword } from './sign-in.js';
import { createWorld, type World } from './world.js';

let world: World;
let superuser: Pool;

beforeAll(async () => {
  world = await createWorld();
  superuser = createPool(world.database.superuserUrl, { applicationName: 'races' });
});
afterAll(async () => {
  await superuser.end();
  await world.close();
});

/** How many of the product's transactions wait for a lock now. */
const waiting = async (): Promise<number> => {
  const [row] = await world.sql<{ count: number }>(
    `SELECT count(*)::int AS count FROM pg_stat_activity
      WHERE datname = current_database() AND usename = 'penstock_control_api' AND wait_event_type = 'Lock'`,
  );
  return row?.count ?? 0;
};

test('a refresh beside the end of all sessions leaves none that lives', async () => {
  const person = await world.person(await world.tenant(), 'admin');
  const hash = randomBytes(32);
  await world.sql(`UPDATE session SET refresh_hash = $2 WHERE family_id = $1`, [person.familyId, hash]);
  const { pool } = world.context;
  const at = new Date();
  let ended: Promise<number> | undefined;
  await withTransaction(pool, async (client) => {
    const parent = await lockSession(client, hash);
    expect(parent).not.toBeNull();
    await markSessionRotated(client, String(parent?.sessionId), at);
    ended = withTransaction(pool, (other) => endSessionsOfAccount(other, person.accountId, at));
    await expect.poll(waiting).toBe(1);
    const child = {
      ...{ sessionId: newId(), accountId: person.accountId, familyId: person.familyId },
      ...{ refreshHash: randomBytes(32), parentId: parent?.sessionId ?? null, onlyTenantId: null },
      ...{ createdAt: at, expiresAt: new Date(at.getTime() + 86_400_000) },
    };
    await insertSession(client, child, { requestId: randomUUID(), ip: null, userAgent: null });
  });
  expect(await ended).toBe(1);
  const living = await world.sql(`SELECT FROM session WHERE family_id = $1 AND revoked_at IS NULL`, [
    person.familyId,
  ]);
  expect(living).toEqual([]);
});

test.each([
  ['the password is changed', `UPDATE account SET password_hash = 'another' WHERE account_id = $1`],
  ['the account is disabled', `UPDATE account SET disabled_at = now() WHERE account_id = $1`],
])('a sign-in that is under way while %s opens nothing', async (_what, change) => {
  const login = await withPassword(world, await world.tenant(), 'operator');
  const client = await superuser.connect();
  try {
    await client.query('BEGIN');
    await client.query(change, [login.accountId]);
    let answered = false;
    const answer = signIn(world, login).finally(() => (answered = true));
    // It has read and checked the old password by now, and waits to open its session; or is done with it.
    await expect.poll(async () => answered || (await waiting()) > 0, { timeout: 30_000 }).toBe(true);
    await client.query('COMMIT');
    expect((await answer).status).toBe(401);
  } finally {
    client.release();
  }
  const begun = await world.sql(`SELECT FROM session WHERE account_id = $1 AND family_id <> $2`, [
    ...[login.accountId, login.familyId],
  ]);
  expect(begun).toEqual([]);
});
