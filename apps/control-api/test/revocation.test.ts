// Revocation waits for another process: whatever the scheduler does, it delays nobody else, and the audit log says no
// more than what was done.
import { randomUUID } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { RevokeNodeRequest } from '@penstock/rpc/gen/penstock/scheduler_admin/v1/scheduler_admin';
import { withTransaction } from '@penstock/db/transaction';
import { freePort } from '@penstock/testkit/traffic/xray-client';
import { startScheduler } from './revoking-scheduler.js';
import { scene, type Scene } from './scene.js';
import { createWorld, type Answer, type Person, type World } from './world.js';

const REVOKES = 30;
const OTHERS_MS = 1_000;
/** The deadline of the call to the scheduler, and what it takes to say so on a busy machine. */
const REFUSED_MS = 4_000;

let world: World;
let port: number;
let own: Scene;
let other: Person;

beforeAll(async () => {
  port = await freePort();
  world = await createWorld({ env: { SCHEDULER_ADDRESS: `127.0.0.1:${port}` } });
  other = await world.person(await world.tenant('other'), 'owner');
});
afterAll(() => world.close());
beforeEach(async () => {
  own = await scene(world, await world.person(await world.tenant(randomUUID()), 'admin'));
});

/** What a test started where the scheduler should be. */
let ends: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ends) await end();
  ends = [];
});

const revoke = (key: string = randomUUID()): Promise<Answer> =>
  world.ask('POST', `/api/v1/nodes/${own.nodeId}/revoke`, {
    ...{ as: own.admin, body: { reason: 'stolen' }, headers: { 'idempotency-key': key } },
  });

const audited = (): Promise<{ action: string; after: object }[]> =>
  world.sql(
    `SELECT action, after FROM audit_log WHERE entity_id = $1 AND action LIKE '%revoke' ORDER BY seq`,
    [own.nodeId],
  );

/** Accepts and says nothing; `reached` resolves when it is asked. */
async function silentScheduler(): Promise<{ reached: Promise<void> }> {
  const sockets = new Set<Socket>();
  let server: Server | undefined;
  const reached = new Promise<void>((resolve) => {
    server = createServer((socket) => {
      sockets.add(socket.on('error', () => undefined));
      resolve();
    });
  });
  await new Promise<void>((resolve) => server?.listen(port, '127.0.0.1', resolve));
  ends.push(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise<void>((resolve) => server?.close(() => resolve()));
  });
  return { reached };
}

async function scheduler(asked: Pick<RevokeNodeRequest[], 'push'>): Promise<void> {
  const server = await startScheduler(world, port, asked);
  ends.push(() => server.close(0));
}

/** The client goes on knocking at a scheduler that was away. */
async function taken(key?: string): Promise<Answer> {
  for (;;) {
    const answer = await revoke(key);
    if (answer.status !== 503) return answer;
  }
}

test('while the scheduler is silent, revocations of one tenant do not delay the keyed mutations of another', async () => {
  const { reached } = await silentScheduler();
  const began = performance.now();
  const revocations = Promise.all(Array.from({ length: REVOKES }, () => revoke()));
  await reached;
  const asked = performance.now();
  const answer = await world.ask('POST', '/api/v1/node-groups', {
    ...{ as: other, body: { name: 'meanwhile' }, headers: { 'idempotency-key': randomUUID() } },
  });
  expect(answer.status).toBe(201);
  expect(performance.now() - asked).toBeLessThan(OTHERS_MS);
  for (const { status } of await revocations) expect(status).toBe(503);
  expect(performance.now() - began).toBeLessThan(REFUSED_MS);
});

test('revocations of one node that come at once, each with its own key, ask the scheduler once', async () => {
  const asked: RevokeNodeRequest[] = [];
  await scheduler(asked);
  // The channel stands before the node is taken.
  const first = own;
  own = await scene(world, await world.person(await world.tenant(randomUUID()), 'admin'));
  expect((await taken()).status).toBe(200);
  own = first;
  asked.length = 0;
  // The scheduler is stuck at the row of the node until all are answered.
  await withTransaction(
    world.context.pool,
    async (client) => {
      await client.query('SELECT FROM node WHERE node_id = $1 FOR UPDATE', [own.nodeId]);
      const answers = await Promise.all(Array.from({ length: REVOKES }, () => revoke()));
      for (const { status } of answers) expect(status).toBe(503);
    },
    { tenantId: own.admin.tenantId },
  );
  expect(asked).toHaveLength(1);
});

test('a revocation that the scheduler did not take is audited as asked for and not as done', async () => {
  const key = randomUUID();
  for (let i = 0; i < 3; i++) expect((await revoke(key)).status).toBe(503);
  const wish = { action: 'node.ask_revoke', after: { reason: 'stolen' } };
  expect(await audited()).toEqual([wish, wish, wish]);
  const asked: RevokeNodeRequest[] = [];
  await scheduler(asked);
  const done = await taken(key);
  expect(done.body).toEqual({ nodeId: own.nodeId, certificatesRevoked: 2 });
  expect((await audited()).slice(-2)).toEqual([
    wish,
    { action: 'node.revoke', after: { state: 'revoked', reason: 'stolen' } },
  ]);
  const rows = (await audited()).length;
  expect((await revoke(key)).text).toBe(done.text);
  expect(asked).toHaveLength(1);
  // With another key the scheduler is asked, and nothing has changed.
  expect((await revoke()).status).toBe(200);
  expect(await audited()).toHaveLength(rows);
});

test('a revocation whose answer could not be kept is done again by a repetition', async () => {
  const asked: RevokeNodeRequest[] = [];
  await scheduler(asked);
  const key = randomUUID();
  await world.sql(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the disk is full'; END $$`);
  await world.sql(
    `CREATE TRIGGER refuse BEFORE INSERT ON idempotency_key FOR EACH ROW EXECUTE FUNCTION refuse()`,
  );
  expect((await taken(key)).status).toBe(500);
  await world.sql('DROP FUNCTION refuse() CASCADE');
  expect((await revoke(key)).status).toBe(200);
  expect(asked).toHaveLength(2);
  expect((await revoke(key)).headers.get('idempotent-replayed')).toBe('true');
});
