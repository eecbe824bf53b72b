// What somebody may is read from PostgreSQL and told by PostgreSQL. Redis has no part in it: filled with lies, answering
// nonsense, hanging or gone, it gives nobody more, and a demotion takes effect as fast (docs/decisions/0004).
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FakeClock } from '@penstock/domain/clock';
import { freePort } from '@penstock/testkit/traffic/xray-client';
import { Standings } from '../src/auth/standing.store.js';
import { createSibling, untilStatus, type Sibling } from './sibling.js';
import { createWorld, type Person, type World } from './world.js';

const plans = '/api/v1/plans';
const groups = '/api/v1/node-groups';
/** What an operator may not read, an owner may. */
const auditLog = '/api/v1/audit';
/** More than any time for which this process leaves a Redis alone that failed, or keeps anything of its own. */
const LATER_MS = 2_000;

/**
 * Demoted, suspended, removed, signed out, disabled: each refused within a second in the process that is asked, and in
 * another one that kept what was before, by notification alone.
 */
async function demotions(world: World, sibling: Sibling): Promise<void> {
  const tenantId = await world.tenant();
  const person: Person = await world.person(tenantId, 'admin');
  const { accountId } = person;
  const create = async (): Promise<number> =>
    (await world.ask('POST', groups, { as: person, body: { name: '' } })).status;
  const read = async (): Promise<number> => (await world.ask('GET', plans, { as: person })).status;
  const elsewhere = (): Promise<number> => sibling.get(plans, person.token);
  const watch = (): Promise<number> => sibling.get(auditLog, person.token);
  /** The change, and then each look gives what is said within a second of it. */
  const within = async (sql: string, id: string, looks: [() => Promise<number>, number][]): Promise<void> => {
    await world.sql(sql, [id]);
    await Promise.all(looks.map(([look, status]) => untilStatus(look, status, 1_000)));
  };
  // Both processes keep it from here on, for ever by their clock.
  for (let i = 0; i < 3; i++)
    expect([await create(), await read(), await elsewhere(), await watch()]).toEqual([400, 200, 200, 200]);
  await within(`UPDATE member SET role = 'operator' WHERE account_id = $1`, accountId, [
    [watch, 403],
    [create, 403],
  ]);
  expect([await read(), await elsewhere()]).toEqual([200, 200]);
  await within(`UPDATE member SET role = 'admin' WHERE account_id = $1`, accountId, [
    [create, 400],
    [watch, 200],
  ]);
  await within(`UPDATE tenant SET state = 'suspended' WHERE tenant_id = $1`, tenantId, [[create, 403]]);
  await within(`UPDATE tenant SET state = 'active' WHERE tenant_id = $1`, tenantId, [[create, 400]]);
  const removed = `DELETE FROM member WHERE account_id = $1`;
  await within(removed, accountId, [
    [read, 403],
    [elsewhere, 403],
  ]);
  await world.sql(`INSERT INTO member (tenant_id, account_id, role) VALUES ($2, $1, 'admin')`, [
    ...[accountId, tenantId],
  ]);
  await Promise.all([read, elsewhere].map((look) => untilStatus(look, 200, 1_000)));
  const disabled = `UPDATE account SET disabled_at = now() WHERE account_id = $1`;
  await within(disabled, accountId, [
    [read, 401],
    [elsewhere, 401],
  ]);
  await within(`UPDATE account SET disabled_at = NULL WHERE account_id = $1`, accountId, [
    [read, 200],
    [elsewhere, 200],
  ]);
  const ended = `UPDATE session SET revoked_at = now() WHERE account_id = $1`;
  await within(ended, accountId, [
    [read, 401],
    [elsewhere, 401],
  ]);
}

async function inWorld(
  redisUrl: string | undefined,
  work: (world: World, clock: FakeClock) => Promise<void>,
): Promise<void> {
  // The clock stands still: nothing that is kept for a second would ever be read again by itself.
  const clock = new FakeClock(Date.now());
  const world = await createWorld({
    ...{ clock, env: redisUrl === undefined ? {} : { REDIS_URL: redisUrl } },
  });
  const sibling = await createSibling(world);
  try {
    await work(world, clock);
    await demotions(world, sibling);
  } finally {
    await sibling.close();
    await world.close();
  }
}

describe('a Redis that lies', () => {
  let directory: string;
  let redis: ChildProcess;
  let url: string;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'standing-'));
    const port = await freePort();
    url = `redis://127.0.0.1:${port}`;
    redis = spawn('redis-server', ['--port', String(port), '--save', '', '--dir', directory], {
      stdio: 'ignore',
    });
  });
  afterAll(() => {
    redis.kill();
    rmSync(directory, { recursive: true });
  });

  test('whatever its keys say, nobody gets more, and who loses a right loses it within a second [R2-05]', async () => {
    const client = new Redis(url);
    // It connects again until the server is up.
    client.on('error', () => undefined);
    await client.ping();
    const monitor = await client.monitor();
    /** All words of all commands that reached Redis: among them the name of every key, there or not. */
    const words = new Set<string>();
    monitor.on('monitor', (_time: string, args: string[]) =>
      args.slice(1).forEach((word) => words.add(word)),
    );
    await inWorld(url, async (world, clock) => {
      const low = await world.person(await world.tenant(), 'operator');
      const high = await world.person(low.tenantId, 'owner');
      const looks = async (): Promise<number[]> => {
        // Nothing in this process answers for Redis or for PostgreSQL, and a Redis that failed is asked again.
        clock.advance(LATER_MS);
        world.app.get(Standings).forget();
        const post = await world.ask('POST', groups, { as: low, body: { name: '' } });
        const get = await world.ask('GET', auditLog, { as: low });
        const owners = await world.ask('GET', auditLog, { as: high });
        return [post.status, get.status, owners.status];
      };
      const right = [403, 403, 200];
      // Until Redis is connected it has no say.
      await expect.poll(async () => [await looks(), words.size > 0]).toEqual([right, true]);
      const lie = JSON.stringify({
        ...{ role: 'owner', platformRole: 'owner', platform: true, suspended: false, confined: false },
        ...{ accountId: low.accountId, tenantId: low.tenantId, familyId: low.familyId, key: null },
        ...{ version: 1, policyVersion: 1, allowed: true, permissions: ['*'], expiresAt: 2 ** 40 },
      });
      // Over whatever the product keeps there, under every name that it asked for, and that it could ask for.
      const plant = async (): Promise<void> => {
        const names = new Set([...words, ...(await client.keys('*'))]);
        for (const part of [low.accountId, low.tenantId, low.familyId, `${low.tenantId}:${low.accountId}`]) {
          for (const kind of ['policy', 'standing', 'role', 'session', 'account', 'tenant'])
            names.add(`${kind}:${part}`);
        }
        const pipeline = client.pipeline();
        for (const name of names) pipeline.set(name, lie);
        await pipeline.exec();
      };
      for (let round = 0; round < 3; round++) {
        await plant();
        expect(await looks(), `round ${round}`).toEqual(right);
      }
      // Stale: of when he was more. What Redis was given then is there still.
      const demote = `UPDATE member SET role = $2 WHERE account_id = $1`;
      await world.sql(demote, [low.accountId, 'owner']);
      await expect.poll(looks).toEqual([400, 200, 200]);
      const stale = await Promise.all(
        (await client.keys('*')).map(async (key) => [key, await client.dumpBuffer(key)] as const),
      );
      await world.sql(demote, [low.accountId, 'operator']);
      await expect.poll(looks).toEqual(right);
      for (const [key, value] of stale) if (value !== null) await client.restore(key, 0, value, 'REPLACE');
      expect(await looks()).toEqual(right);
      // Missing.
      await client.flushall();
      expect(await looks()).toEqual(right);
    });
    monitor.disconnect();
    client.disconnect();
  });
});

describe('a Redis that is no help', () => {
  const sockets = new Set<Socket>();
  let server: Server;
  let answer: string | null = null;

  beforeAll(async () => {
    server = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('data', () => (answer === null ? undefined : socket.write(answer)));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  });
  afterAll(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });

  test.each([
    ['hangs', null],
    ['answers nonsense', '+OWNER\r\n$5\r\nowner\r\n'],
    ['breaks the protocol', 'HTTP/1.1 200 OK\r\n\r\n'],
  ])('%s: a right that is lost is lost within a second [R2-05]', async (_what, text) => {
    answer = text;
    await inWorld(`redis://127.0.0.1:${(server.address() as AddressInfo).port}`, async () => undefined);
  });

  test('is not there: the same [R2-05]', async () => {
    await inWorld('redis://127.0.0.1:1', async () => undefined);
    await inWorld(undefined, async () => undefined);
  });
});
