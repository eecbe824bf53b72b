// Live pages: a tenant's events in order, once, whole, and nobody else's.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Page } from './event-page.js';
import { createWorld, type Person, type World } from './world.js';

describe('events', () => {
  let world: World;
  let owner: Person;
  let count = 0;

  beforeAll(async () => {
    world = await createWorld();
    owner = await world.person(await world.tenant('own'), 'owner');
  });
  afterAll(() => world.close());

  async function makeGroup(as = owner): Promise<string> {
    const answer = await world.ask('POST', '/api/v1/node-groups', { as, body: { name: `group ${count++}` } });
    expect(answer.status, answer.text).toBe(201);
    return String(answer.body['nodeGroupId']);
  }

  test('a page is told of a change at once, and of no other tenant’s', async () => {
    const stranger = await world.person(await world.tenant('other'), 'owner');
    const page = await Page.open(world, owner);
    expect(page.told[0]?.event).toBe('hello');
    await makeGroup(stranger);
    const nodeGroupId = await makeGroup();
    await page.until(() => page.names().includes(nodeGroupId));
    expect(page.names()).toEqual([nodeGroupId]);
    page.close();
  });

  test('a page that comes back goes on behind the last event it had', async () => {
    const page = await Page.open(world, owner);
    const first = await makeGroup();
    await page.until(() => page.names().includes(first));
    const last = page.told.at(-1)?.id ?? '';
    page.close();
    const missed = [await makeGroup(), await makeGroup(), await makeGroup()];
    const again = await Page.open(world, owner, last);
    await again.until(() => again.names().length === 3);
    expect(again.names()).toEqual(missed);
    const next = await makeGroup();
    await again.until(() => again.names().length === 4);
    expect(again.names()).toEqual([...missed, next]);
    again.close();
  });

  test('an event of a transaction that took longer is not passed over', async () => {
    const page = await Page.open(world, owner);
    const slow = await world.context.pool.connect();
    await slow.query('BEGIN');
    await slow.query(`SELECT set_config('app.tenant_id', $1, true)`, [owner.tenantId]);
    await slow.query(
      `INSERT INTO event (tenant_id, type, entity) VALUES ($1, 'node_group.create', 'node_group')`,
      [owner.tenantId],
    );
    const nodeGroupId = await makeGroup();
    await slow.query('COMMIT');
    slow.release();
    await page.until(() => page.names().includes(nodeGroupId));
    expect(page.names()).toHaveLength(2);
    page.close();
  });

  test('each role is told of what it may read', async () => {
    const operator = await world.person(owner.tenantId, 'operator');
    const pages = [await Page.open(world, owner), await Page.open(world, operator)] as const;
    const invited = await world.ask('POST', '/api/v1/invitations', {
      as: owner,
      body: { email: 'new@example.org', role: 'operator' },
    });
    expect(invited.status, invited.text).toBe(201);
    const nodeGroupId = await makeGroup();
    for (const page of pages) await page.until(() => page.names().includes(nodeGroupId));
    expect(pages[0].told.some(({ event }) => event === 'invitation.create')).toBe(true);
    expect(pages[1].told.some(({ event }) => event === 'invitation.create')).toBe(false);
    for (const page of pages) page.close();
  });

  test('an id from before events were kept is told to read everything again', async () => {
    const page = await Page.open(world, owner, '5-1-1000000000000');
    expect(page.told[0]?.event).toBe('reset');
    page.close();
  });

  test('a page is closed within a second after its session ended', async () => {
    const person = await world.person(owner.tenantId, 'admin');
    const page = await Page.open(world, person);
    await world.sql('UPDATE session SET revoked_at = now() WHERE family_id = $1', [person.familyId]);
    const began = performance.now();
    await page.until(() => page.ended);
    expect(performance.now() - began).toBeLessThan(2_000);
    expect((await Page.open(world, person)).status).toBe(401);
  });

  test('a page of somebody who was demoted is told only of what he may still read', async () => {
    const person = await world.person(owner.tenantId, 'admin');
    const page = await Page.open(world, person);
    const invite = (email: string): Promise<unknown> =>
      world.ask('POST', '/api/v1/invitations', { as: owner, body: { email, role: 'operator' } });
    await invite('before@example.org');
    await page.until(() => page.told.some(({ event }) => event === 'invitation.create'));
    await world.sql(`UPDATE member SET role = 'operator' WHERE account_id = $1`, [person.accountId]);
    const demotedMs = performance.now();
    // The page itself goes on; from some round on, within a second, it is not told of invitations any more.
    for (let round = 0; ; round++) {
      const told = page.told.length;
      const sentMs = performance.now();
      await invite(`after-${round}@example.org`);
      const group = await makeGroup();
      await page.until(() => page.names().includes(group));
      const heard = page.told.slice(told).some(({ event }) => event === 'invitation.create');
      if (!heard) break;
      expect(sentMs - demotedMs).toBeLessThan(1_500);
    }
    page.close();
  });

  test('a tenant has its number of streams and an account its own, also when all are opened at once', async () => {
    const tenantId = await world.tenant('many');
    const people = await Promise.all(Array.from({ length: 6 }, () => world.person(tenantId, 'auditor')));
    const one = people[0] as Person;
    const own = await Promise.all(Array.from({ length: 30 }, () => Page.open(world, one)));
    expect(own.filter(({ status }) => status === 200)).toHaveLength(20);
    expect(own.filter(({ status }) => status === 429)).toHaveLength(10);
    const others = await Promise.all(
      people.slice(1).flatMap((person) => Array.from({ length: 20 }, () => Page.open(world, person))),
    );
    expect(others.filter(({ status }) => status === 200)).toHaveLength(80);
    const neighbour = await Page.open(world, owner);
    expect(neighbour.status).toBe(200);
    for (const page of [...own, ...others, neighbour]) page.close();
  });

  test('HEAD opens no stream', async () => {
    const headers = { authorization: `Bearer ${owner.token}` };
    const answer = await fetch(`${world.url}/api/v1/events`, { method: 'HEAD', headers });
    expect(answer.status).toBe(404);
  });
});
