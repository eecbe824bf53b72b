// V17: 200 conflicting changes of roles at once. Whatever order they fall into, each was allowed by the role that its
// actor had at that moment, and the tenant keeps an owner. The order is read from the audit log and replayed.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { roles, type Role } from '@penstock/domain/terms';
import { createWorld, type Person, type World } from '../../apps/control-api/test/world.js';

const CHANGES = 200;
const ROUNDS = process.env['PENSTOCK_TEST_FULL'] === undefined ? 3 : 30;
const start: Role[] = ['owner', 'owner', 'admin', 'admin', 'operator', 'auditor'];

/** Seeded, so that a failure can be had again. */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

interface LogRow {
  actor: string;
  target: string;
  action: string;
  before: { role: Role } | null;
  after: { role: Role } | null;
}

describe('V17 races of roles', () => {
  let world: World;

  beforeAll(async () => {
    world = await createWorld();
  });
  afterAll(() => world.close());

  test.each(Array.from({ length: ROUNDS }, (_, n) => n + 1))(
    'seed %i: 200 parallel conflicting changes leave nobody above his right, and an owner [R3-19]',
    { timeout: 120_000 },
    async (seed) => {
      const next = random(seed);
      const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)] as T;
      const tenantId = await world.tenant(`race ${seed}`);
      const people: Person[] = [];
      for (const role of start) people.push(await world.person(tenantId, role));
      const held = new Map(people.map((person, n) => [person.accountId as string, start[n] as Role]));

      const answers = await Promise.all(
        Array.from({ length: CHANGES }, () => {
          const [actor, target] = [pick(people), pick(people)];
          const path = `/api/v1/members/${target.accountId}`;
          return next() < 0.15
            ? world.ask('DELETE', path, { as: actor })
            : world.ask('PATCH', path, { as: actor, body: { role: pick(roles) } });
        }),
      );
      for (const answer of answers) expect([200, 204, 403, 404, 409], answer.text).toContain(answer.status);

      const log = await world.sql<LogRow>(
        `SELECT account_id AS actor, entity_id AS target, action, before, after FROM audit_log
          WHERE tenant_id = $1 AND action LIKE 'member.%' ORDER BY seq`,
        [tenantId],
      );
      expect(log.length).toBeGreaterThan(0);
      const rank = (role: Role): number => roles.indexOf(role);
      for (const row of log) {
        const role = held.get(row.actor);
        expect(role, 'somebody acted who was sent away').toBeDefined();
        expect(row.before?.role).toBe(held.get(row.target));
        for (const touched of [row.before?.role, row.after?.role]) {
          if (touched !== undefined) expect(rank(role as Role)).toBeLessThanOrEqual(rank(touched));
        }
        expect(rank(role as Role)).toBeLessThanOrEqual(1);
        if (row.action === 'member.delete') held.delete(row.target);
        else held.set(row.target, row.after?.role as Role);
        expect([...held.values()], 'the last owner vanished').toContain('owner');
      }
      const members = await world.sql<{ id: string; role: Role }>(
        'SELECT account_id AS id, role FROM member WHERE tenant_id = $1',
        [tenantId],
      );
      expect(new Map(members.map(({ id, role }) => [id, role]))).toEqual(held);
    },
  );

  test('two owners who send each other away: one stays', async () => {
    for (let n = 0; n < 20; n++) {
      const tenantId = await world.tenant();
      const [a, b] = [await world.person(tenantId, 'owner'), await world.person(tenantId, 'owner')];
      await Promise.all([
        world.ask('DELETE', `/api/v1/members/${b.accountId}`, { as: a }),
        world.ask('DELETE', `/api/v1/members/${a.accountId}`, { as: b }),
        world.ask('PATCH', `/api/v1/members/${a.accountId}`, { as: a, body: { role: 'auditor' } }),
      ]);
      const [row] = await world.sql<{ n: number }>(
        `SELECT count(*)::int AS n FROM member WHERE tenant_id = $1 AND role = 'owner'`,
        [tenantId],
      );
      expect(row?.n).toBe(1);
    }
  });

  test('of the platform’s two owners one is disabled while the other steps down: one can still sign in', async () => {
    await world.sql('DELETE FROM member WHERE tenant_id = $1', [world.platform]);
    for (let n = 0; n < 20; n++) {
      const [a, b] = [
        await world.person(world.platform, 'owner'),
        await world.person(world.platform, 'owner'),
      ];
      await Promise.all([
        world.ask('POST', `/api/v1/accounts/${b.accountId}/disable`, { as: a, body: {} }),
        world.ask('PATCH', `/api/v1/members/${a.accountId}`, { as: a, body: { role: 'admin' } }),
        world.ask('PATCH', `/api/v1/members/${a.accountId}`, { as: b, body: { role: 'operator' } }),
      ]);
      const [row] = await world.sql<{ n: number }>(
        `SELECT count(*)::int AS n FROM member m JOIN account c USING (account_id)
          WHERE m.tenant_id = $1 AND m.role = 'owner' AND c.disabled_at IS NULL`,
        [world.platform],
      );
      expect(row?.n).toBeGreaterThanOrEqual(1);
      await world.sql('DELETE FROM member WHERE tenant_id = $1', [world.platform]);
    }
  });
});
