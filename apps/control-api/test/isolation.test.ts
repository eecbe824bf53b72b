// Tenants are separated by the database. Every route is tried against another tenant's objects, first as shipped,
// then with the guard and the code's own tenant predicates switched off by replacing providers, so that row security
// alone stands. The same tests show that the own tenant still gets its answer.
import type { ExecutionContext } from '@nestjs/common';
import type { TransactionSettings } from '@penstock/db/transaction';
import type { TenantId } from '@penstock/domain/ids';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { controllers } from '../src/app.module.js';
import { Context } from '../src/context.js';
import { Database } from '../src/database.js';
import { AccessGuard } from '../src/http/access.guard.js';
import { originOf, type ActingRequest, type Actor } from '../src/http/actor.js';
import { declarationOf } from '../src/http/require.decorator.js';
import { routesOf, type Route } from '../src/http/routes.js';
import { fingerprint, planTerms, scene, vless, type Scene } from './scene.js';
import { ABSENT, createWorld, type Answer, type Person, type World } from './world.js';

/** Bodies that would be accepted, for each route that takes one; ids are those of `target`. */
function bodyOf(route: Route, target: Scene): object | undefined {
  if (route.body === undefined) return undefined;
  const bodies: Record<string, object> = {
    'AuthController.switchTenant': { tenantId: target.admin.tenantId },
    'TenantsController.create': { name: 'planted' },
    'PlansController.create': { ...planTerms, nodeGroupIds: [target.nodeGroupId] },
    'NodeGroupsController.create': { name: 'planted' },
    'NodeGroupsController.addNode': { nodeId: target.nodeId },
    'NodesController.register': {
      ...{ name: 'planted', address: 'p.example.org', inbounds: [vless], nodeGroupIds: [target.nodeGroupId] },
    },
    'NodesController.revoke': { reason: 'planted' },
    'JoinTokensController.create': {},
    'SubscriptionsController.create': { planId: target.planId, name: 'planted' },
    'SubscriptionsController.change': { name: 'planted', adminState: 'disabled' },
    'DevicesController.add': { name: 'planted' },
  };
  const body = bodies[route.handler];
  if (body === undefined) throw new Error(`${route.handler}: give the matrix a body for it`);
  return body;
}

function pathOf(route: Route, target: Scene): string {
  const ids: Record<string, string> = {
    ...{ tenantId: target.admin.tenantId, planId: target.planId, nodeGroupId: target.nodeGroupId },
    ...{ nodeId: target.nodeId, subscriptionId: target.subscriptionId, deviceId: target.deviceId },
  };
  return route.path.replace(/:(\w+)/g, (_match, name: string) => {
    const id = ids[name];
    if (id === undefined) throw new Error(`${route.path}: give the matrix an id for ${name}`);
    return id;
  });
}

const guarded = routesOf(controllers).filter((route) => route.declaration.access !== 'public');
/** Routes whose target is named by the caller, in the path or in the body. */
const aimed = guarded.filter((route) => {
  const creates = ['TenantsController.create', 'NodeGroupsController.create'];
  return (route.path.includes(':') || route.body !== undefined) && !creates.includes(route.handler);
});

function leaks(answer: Answer, victim: Scene): boolean {
  const { admin, ...ids } = victim;
  return [admin.tenantId, admin.accountId, ...Object.values(ids)].some((id) => answer.text.includes(id));
}

describe('as shipped', () => {
  let world: World;
  let own: Scene;
  let victim: Scene;
  let people: Person[];

  beforeAll(async () => {
    world = await createWorld();
    own = await scene(world, await world.person(await world.tenant('own'), 'owner'));
    victim = await scene(world, await world.person(await world.tenant('victim'), 'owner'));
    const roles = ['admin', 'operator', 'auditor'] as const;
    people = [own.admin, ...(await Promise.all(roles.map((role) => world.person(own.admin.tenantId, role))))];
    const ids = { node: own.nodeId, device: own.deviceId };
    await world.sql('INSERT INTO node_address (node_id, address, device_id) VALUES ($1, $2, $3)', [
      ...[ids.node, '10.66.0.9', ids.device],
    ]);
  });
  afterAll(() => world.close());

  test.each(aimed.map((route) => [`${route.method} ${route.path}`, route] as const))(
    '%s: another tenant’s is refused in every role, and nothing changes',
    async (_name, route) => {
      const before = await fingerprint(world, victim.admin.tenantId);
      for (const person of people) {
        const body = bodyOf(route, victim);
        const answer = await world.ask(route.method, pathOf(route, victim), {
          as: person,
          ...(body && { body }),
        });
        expect([403, 404], `${person.accountId} ${answer.text}`).toContain(answer.status);
        expect(leaks(answer, victim)).toBe(false);
        // For whoever may do this at all, a foreign id is one that does not exist.
        const absent = { ...victim, ...absentIds(victim) };
        const missing = bodyOf(route, absent);
        const same = await world.ask(route.method, pathOf(route, absent), {
          as: person,
          ...(missing && { body: missing }),
        });
        expect([same.status, same.body['code']]).toEqual([answer.status, answer.body['code']]);
      }
      expect(await fingerprint(world, victim.admin.tenantId)).toBe(before);
    },
  );

  test('lists show nothing of another tenant', async () => {
    for (const route of guarded.filter((each) => each.method === 'GET' && !each.path.includes(':'))) {
      const answer = await world.ask('GET', route.path, { as: own.admin });
      expect(leaks(answer, victim), route.path).toBe(false);
    }
  });
});

function absentIds(victim: Scene): Omit<Scene, 'admin'> & { admin: Person } {
  const all = {
    nodeGroupId: ABSENT,
    nodeId: ABSENT,
    planId: ABSENT,
    subscriptionId: ABSENT,
    deviceId: ABSENT,
  };
  return { ...all, admin: { ...victim.admin, tenantId: ABSENT as TenantId } };
}

/** Lets everybody do everything: who acts for which tenant is read from a header. */
class OpenGuard {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<ActingRequest>();
    if (declarationOf(context.getHandler())?.access === 'public') return true;
    request.actor = {
      ...{ ...originOf(request), accountId: null, role: 'owner', platform: false, familyId: null },
      ...{ keyId: null, scopes: null },
      tenantId: String(request.headers['x-claimed-tenant']) as TenantId,
    };
    return true;
  }
}

/** Set: every transaction is this tenant's, whoever the code believes to act for. */
let attacker: TenantId | undefined;

class SwitchedDatabase extends Database {
  protected override settings(actor: Actor): TransactionSettings {
    return { tenantId: attacker ?? actor.tenantId };
  }
}

describe('row security alone', () => {
  let world: World;
  let own: Scene;
  let victim: Scene;

  beforeAll(async () => {
    const providers = [
      { provide: AccessGuard, useValue: new OpenGuard() },
      {
        provide: Database,
        inject: [Context],
        useFactory: (context: Context) => new SwitchedDatabase(context),
      },
    ];
    world = await createWorld({ override: providers });
    own = await open(await world.tenant('own'));
    victim = await open(await world.tenant('victim'));
  });
  afterAll(() => world.close());

  async function open(tenantId: TenantId): Promise<Scene> {
    const person: Person = { ...{ accountId: ABSENT, familyId: ABSENT, tenantId, token: '' } } as Person;
    const acting: World = {
      ...world,
      ask: (method, path, options) => as(tenantId, method, path, options?.body),
    };
    return scene(acting, person);
  }

  const as = (tenantId: string, method: string, path: string, body?: unknown): Promise<Answer> =>
    world.ask(method, path, {
      ...(body === undefined ? {} : { body }),
      headers: { 'x-claimed-tenant': tenantId },
    });

  const withoutPeople = aimed.filter((route) => !route.handler.startsWith('AuthController'));

  test.each(withoutPeople.map((route) => [`${route.method} ${route.path}`, route] as const))(
    '%s: the code claims to be the victim, the database answers as the attacker',
    async (_name, route) => {
      const before = await fingerprint(world, victim.admin.tenantId);
      attacker = own.admin.tenantId;
      try {
        // Claiming the victim's tenant makes every predicate of the code true for the victim's rows.
        for (const claimed of [victim.admin.tenantId, own.admin.tenantId]) {
          const answer = await as(claimed, route.method, pathOf(route, victim), bodyOf(route, victim));
          expect(answer.status, answer.text).toBeGreaterThanOrEqual(400);
          expect(leaks(answer, victim), answer.text).toBe(false);
        }
      } finally {
        attacker = undefined;
      }
      expect(await fingerprint(world, victim.admin.tenantId)).toBe(before);
    },
  );

  test('lists are empty of the victim although the code asks for his tenant', async () => {
    attacker = own.admin.tenantId;
    try {
      for (const path of [
        '/api/v1/plans',
        '/api/v1/subscriptions',
        '/api/v1/nodes',
        '/api/v1/node-groups',
        '/api/v1/tenants',
      ]) {
        const answer = await as(victim.admin.tenantId, 'GET', path);
        expect(answer.status, path).toBe(200);
        expect(leaks(answer, victim), path).toBe(false);
      }
    } finally {
      attacker = undefined;
    }
  });

  test('the own tenant still gets its answer', async () => {
    attacker = own.admin.tenantId;
    try {
      const get = (path: string): Promise<Answer> => as(own.admin.tenantId, 'GET', path);
      expect((await get(`/api/v1/subscriptions/${own.subscriptionId}`)).body).toMatchObject({
        name: 'customer',
      });
      expect((await get(`/api/v1/nodes/${own.nodeId}`)).body).toMatchObject({ name: 'n1' });
      expect((await get(`/api/v1/plans/${own.planId}`)).body).toMatchObject({ name: planTerms.name });
      expect((await get('/api/v1/subscriptions')).body['items']).toHaveLength(1);
      const changed = await as(own.admin.tenantId, 'PATCH', `/api/v1/subscriptions/${own.subscriptionId}`, {
        name: 'new',
      });
      expect(changed.body).toMatchObject({ name: 'new', version: 2 });
    } finally {
      attacker = undefined;
    }
  });
});
