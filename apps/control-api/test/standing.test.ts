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
import { createSibling, untilStatus, type Sibling } from './sibling.js';
import { createWorld, type Person, type World } from './world.js';

const plans = '/api/v1/plans';
const suspended = '/api/v1/node-groups';

/** Demoted, removed, suspended, disabled: each refused in the other process within a second, by notification alone. */
async function demotions(world: World, sibling: Sibling): Promise<void> {
  const tenantId = await world.tenant();
  const admin: Person = await world.person(tenantId, 'admin');
  const create = async (): Promise<number> =>
    (await world.ask('POST', suspended, { as: admin, body: { name: '' } })).status;
  const read = (): Promise<number> => sibling.get(plans, admin.token);
  expect([await create(), await read()]).toEqual([400, 200]);
  await world.sql(`UPDATE member SET role = 'auditor' WHERE account_id = $1`, [admin.accountId]);
  expect(await untilStatus(create, 403, 1_000)).toBeLessThan(1_000);
  await world.sql(`UPDATE member SET role = 'admin' WHERE account_id = $1`, [admin.accountId]);
  await untilStatus(create, 400, 1_000);
  await world.sql(`UPDATE tenant SET state = 'suspended' WHERE tenant_id = $1`, [tenantId]);
  expect(await untilStatus(create, 403, 1_000)).toBeLessThan(1_000);
  await world.sql(`DELETE FROM member WHERE account_id = $1`, [admin.accountId]);
  expect(await untilStatus(read, 403, 1_000)).toBeLessThan(1_000);
  await world.sql(`UPDATE session SET revoked_at = now() WHERE account_id = $1`, [admin.accountId]);
  expect(await untilStatus(read, 401, 1_000)).toBeLessThan(1_000);
}

async function inWorld(redisUrl: string | undefined, work: (world: World) => Promise<void>): Promise<void> {
  // The clock stands still: nothing that is kept for a second would ever be read again by itself.
  const world = await createWorld({
    ...{ clock: new FakeClock(Date.now()), env: redisUrl === undefined ? {} : { REDIS_URL: redisUrl } },
  });
  const sibling = await createSibling(world);
  try {
    await work(world);
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
    await inWorld(url, async (world) => {
      const auditor = await world.person(await world.tenant(), 'auditor');
      const lie = JSON.stringify({
        role: 'owner',
        platform: true,
        platformRole: 'owner',
        version: 1,
        allowed: true,
      });
      const ask = async (): Promise<number> =>
        (await world.ask('POST', suspended, { as: auditor, body: { name: '' } })).status;
      expect(await ask()).toBe(403);
      // Over whatever the product keeps there, and under every name that it could look for.
      const names = await client.keys('*');
      for (const part of [auditor.accountId, auditor.tenantId, auditor.familyId]) {
        for (const kind of ['policy', 'standing', 'role', 'session', 'account', 'tenant'])
          names.push(`${kind}:${part}`);
      }
      for (const name of names) await client.del(name).then(() => client.set(name, lie));
      expect(await ask()).toBe(403);
      await client.flushall();
      expect(await ask()).toBe(403);
    });
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
