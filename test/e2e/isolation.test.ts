// Tenants are kept apart twice: by the API's own look-ups, and by the database for whoever gets past them. This file
// shows both on a running stack. With the guard and the code's predicates switched off inside the API, the whole matrix
// of routes is in apps/control-api/test/isolation.test.ts.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createPool, type Pool } from '@penstock/db/pool';
import { withTransaction } from '@penstock/db/transaction';
import { World, type Customer } from './world.js';

let world: World;
let database: Pool;
let own: Customer;
let foreign: Customer;

beforeAll(async () => {
  world = await World.start();
  // As control-api itself signs in: its role, its password.
  database = createPool(world.stack.databaseUrl('penstock_control_api'), {
    applicationName: 'e2e-isolation',
  });
  own = await subscribe(world.tenantId);
  foreign = await subscribe(await world.addTenant('Second'));
});
afterAll(async () => {
  await database?.end();
  await world?.destroy();
});

/** Without a node: nothing here needs an engine. */
async function subscribe(tenantId: string): Promise<Customer> {
  const planId = await world.addPlan(tenantId, null, ['xray', 'wireguard']);
  const made = await world.inTenant(tenantId, 'POST', '/api/v1/subscriptions', { name: 'customer', planId });
  return { subscriptionId: String(made['subscriptionId']), tenantId };
}

test('another tenant’s subscription is not found', async () => {
  const token = await world.tokenFor(own.tenantId);
  const absent = '01900000-0000-7000-8000-000000000000';
  for (const suffix of ['', '/usage', '/enforcement', '/access']) {
    const [mine, theirs, nobodys] = await Promise.all(
      [own.subscriptionId, foreign.subscriptionId, absent].map((id) =>
        world.raw('GET', `/api/v1/subscriptions/${id}${suffix}`, token),
      ),
    );
    expect(mine?.status, suffix).toBe(200);
    expect([theirs?.status, theirs?.body['code']], suffix).toEqual([404, 'not_found']);
    // It looks exactly like one that does not exist.
    expect({ ...theirs?.body, requestId: '', request_id: '', instance: '' }).toEqual({
      ...nobodys?.body,
      ...{ requestId: '', request_id: '', instance: '' },
    });
  }
  const before = await row(foreign);
  const path = `/api/v1/subscriptions/${foreign.subscriptionId}`;
  const match = { 'if-match': '"1"' };
  expect((await world.raw('PATCH', path, token, { adminState: 'disabled' }, match)).status).toBe(404);
  expect((await world.raw('POST', `${path}/devices`, token, { name: 'planted' })).status).toBe(404);
  expect(await row(foreign)).toEqual(before);
  const list = await world.inTenant(own.tenantId, 'GET', '/api/v1/subscriptions');
  expect((list['items'] as { subscriptionId: string }[]).map(({ subscriptionId }) => subscriptionId)).toEqual(
    [own.subscriptionId],
  );
});

async function row({ subscriptionId }: Customer): Promise<unknown> {
  const { rows } = await world.sql.query('SELECT * FROM subscription WHERE subscription_id = $1', [
    subscriptionId,
  ]);
  return rows[0];
}

/** Rows that control-api's own role sees of a subscription, asked for without naming any tenant. */
function visible(customer: Customer, settings: { tenantId?: string }): Promise<number> {
  return withTransaction(
    database,
    async (client) => {
      const sql = 'SELECT 1 FROM subscription WHERE subscription_id = $1';
      return (await client.query(sql, [customer.subscriptionId])).rows.length;
    },
    settings,
  );
}

test('another tenant’s subscription is not found by row security alone', async () => {
  expect(await visible(own, { tenantId: own.tenantId })).toBe(1);
  expect(await visible(foreign, { tenantId: foreign.tenantId })).toBe(1);
  expect(await visible(foreign, { tenantId: own.tenantId })).toBe(0);
  expect(await visible(own, { tenantId: foreign.tenantId })).toBe(0);
  // Without a tenant there is nothing, also on a connection that had one before.
  expect(await visible(own, {})).toBe(0);
  const write = (sql: string): Promise<number> =>
    withTransaction(
      database,
      async (client) => (await client.query(sql, [foreign.subscriptionId])).rowCount ?? 0,
      { tenantId: own.tenantId },
    );
  const before = await row(foreign);
  expect(await write(`UPDATE subscription SET admin_state = 'disabled' WHERE subscription_id = $1`)).toBe(0);
  expect(await row(foreign)).toEqual(before);
  // What the role owns it cannot read for everybody by leaving security out.
  await expect(
    withTransaction(database, (client) =>
      client.query('SET LOCAL row_security = off; SELECT 1 FROM subscription'),
    ),
  ).rejects.toThrow();
  const { rows } = await world.sql.query(
    `SELECT rolname FROM pg_roles WHERE rolname LIKE 'penstock_%' AND (rolsuper OR rolbypassrls)`,
  );
  expect(rows).toEqual([]);
});
