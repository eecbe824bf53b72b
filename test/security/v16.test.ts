// V16: nobody gives himself more by naming a field that a route does not take. Every body of the router is tried with
// every field that would mean power; and by the routes that do change roles nobody comes above his own.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { roles, type Role } from '@penstock/domain/terms';
import { controllers } from '../../apps/control-api/src/app.module.js';
import { jsonSchema } from '../../apps/control-api/src/http/openapi-components.js';
import { routesOf } from '../../apps/control-api/src/http/routes.js';
import { exampleBody, idsOf, request } from '../../apps/control-api/test/attacks.js';
import { scene, type Scene } from '../../apps/control-api/test/scene.js';
import { permissions, type Permission } from '../../apps/control-api/src/permissions.js';
import { createWorld, type Answer, type Person, type World } from '../../apps/control-api/test/world.js';

/** Field → value that an attacker would like. */
const power = {
  ...{
    role: 'owner',
    roles: ['owner'],
    isAdmin: true,
    admin: true,
    platform: true,
    owner: true,
    superuser: true,
  },
  ...{ tenantId: '01890a5d-ac96-774b-bcce-b302099a8001', tenant_id: '01890a5d-ac96-774b-bcce-b302099a8001' },
  ...{ id: '01890a5d-ac96-774b-bcce-b302099a8001', accountId: '01890a5d-ac96-774b-bcce-b302099a8002' },
  ...{ quota: '0', limits: { subscriptions: null }, limitBytes: null, limit_bytes: null, usedBytes: '0' },
  ...{
    permissions: ['tenant.create'],
    scopes: ['tenant.create'],
    version: 1,
    createdAt: '2020-01-01T00:00:00Z',
  },
  ...{ kind: 'platform', disabledAt: null, passwordHash: 'x', password_hash: 'x', emailVerified: true },
  ...{ state: 'active', effectiveState: 'active', ownerTenantId: null, owner_tenant_id: null, multiplier: 0 },
};

const withBody = routesOf(controllers).filter((route) => route.body !== undefined);

describe('V16 mass assignment', () => {
  let world: World;
  let own: Scene;
  let platform: Scene;

  beforeAll(async () => {
    world = await createWorld();
    own = await scene(world, await world.person(await world.tenant('own'), 'owner'));
    platform = await scene(world, await world.person(world.platform, 'owner'));
  });
  afterAll(() => world.close());

  test.each(withBody.map((route) => [`${route.method} ${route.path}`, route] as const))(
    '%s refuses every field of power that is not its own, by name',
    async (_name, route) => {
      const schema = jsonSchema(route.body!) as { properties?: object; anyOf?: { properties?: object }[] };
      const variants = [schema, ...(schema.anyOf ?? [])];
      const known = new Set(variants.flatMap(({ properties = {} }) => Object.keys(properties)));
      const from = allowsPlatformOnly(route.declaration.access) ? platform : own;
      const ids = idsOf(from);
      const { path } = request(route, ids, ids);
      for (const [field, value] of Object.entries(power)) {
        if (known.has(field)) continue;
        const body = { ...exampleBody(route), [field]: value };
        const answer = await world.ask(route.method, path, { as: from.admin, body });
        expect(answer.status, `${field}: ${answer.text}`).toBe(400);
        expect(answer.body, field).toMatchObject({ code: 'invalid_input' });
      }
    },
  );

  test('of oneself: role, tenant, id and quota are unknown fields, and nothing changes', async () => {
    const person = await world.person(own.admin.tenantId, 'operator');
    for (const field of ['role', 'tenant_id', 'tenantId', 'id', 'quota'] as const) {
      const answer = await world.ask('PATCH', '/api/v1/me', {
        as: person,
        body: { displayName: 'Me', [field]: power[field] },
      });
      expect(answer.body).toMatchObject({ status: 400, field });
    }
    expect(await rolesIn(world, own.admin.tenantId, person)).toBe('operator');
  });

  test('nobody grants or takes a role above his own: every pair of roles, tried by everybody', async () => {
    const tenantId = await world.tenant('ranks');
    const people = Object.fromEntries(
      await Promise.all(roles.map(async (role) => [role, await world.person(tenantId, role)] as const)),
    ) as Record<Role, Person>;
    await world.person(tenantId, 'owner');
    const rank = (role: Role): number => roles.indexOf(role);
    for (const actor of roles) {
      for (const before of roles) {
        for (const wanted of roles) {
          const target = await world.person(tenantId, before);
          const answer = await world.ask('PATCH', `/api/v1/members/${target.accountId}`, {
            ...{ as: people[actor], body: { role: wanted } },
          });
          const may = rank(actor) <= 1 && rank(actor) <= rank(before) && rank(actor) <= rank(wanted);
          expect(answer.status, `${actor}: ${before} → ${wanted} ${answer.text}`).toBe(may ? 200 : 403);
          expect(await rolesIn(world, tenantId, target)).toBe(may ? wanted : before);
        }
        const invited = await world.ask('POST', '/api/v1/invitations', {
          as: people[actor],
          body: { email: `${actor}-${before}@example.org`, role: before },
        });
        expect(invited.status, `${actor} invites ${before}`).toBe(
          rank(actor) <= 1 && rank(actor) <= rank(before) ? 201 : 403,
        );
      }
    }
  });

  test('nobody promotes himself', async () => {
    for (const role of ['admin', 'operator', 'auditor'] as const) {
      const person = await world.person(own.admin.tenantId, role);
      const answer: Answer = await world.ask('PATCH', `/api/v1/members/${person.accountId}`, {
        ...{ as: person, body: { role: 'owner' } },
      });
      expect(answer.status).toBe(403);
      expect(await rolesIn(world, own.admin.tenantId, person)).toBe(role);
    }
  });
});

/** A route that only the platform's people reach. */
function allowsPlatformOnly(access: Permission | 'public' | 'self'): boolean {
  return access !== 'public' && access !== 'self' && 'platform' in permissions[access];
}

async function rolesIn(world: World, tenantId: string, person: Person): Promise<string | undefined> {
  const [row] = await world.sql<{ role: string }>(
    'SELECT role FROM member WHERE tenant_id = $1 AND account_id = $2',
    [tenantId, person.accountId],
  );
  return row?.role;
}
