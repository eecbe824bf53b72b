// Tenants are separated by the database. Every route is tried against another tenant's objects by every kind of person,
// first as shipped, then with the guard and the code's own tenant predicates switched off by replacing providers, so that
// row security alone stands. The requests are made from the router and the schemas' examples (attacks.ts). The same
// tests show that the own tenant still gets its answer.
import type { ExecutionContext } from '@nestjs/common';
import { roles, type Role } from '@penstock/domain/terms';
import { newId, type AccountId, type TenantId } from '@penstock/domain/ids';
import type { PoolClient } from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { controllers } from '../src/app.module.js';
import type { Credential } from '../src/auth/standing.store.js';
import { AccessGuard } from '../src/http/access.guard.js';
import { originOf, type ActingRequest } from '../src/http/actor.js';
import { declarationOf } from '../src/http/require.decorator.js';
import { routesOf, type Route } from '../src/http/routes.js';
import { allows, keyMayHold, permissions } from '../src/permissions.js';
import { absentIds, attacks, fingerprint, idsOf, request, type Attack, type Ids } from './attacks.js';
import { Page } from './event-page.js';
import { scene, type Scene } from './scene.js';
import { untilStatus } from './sibling.js';
import { createWorld, type Answer, type Person, type World } from './world.js';

type Named = [name: string, route: Route];

const routes = routesOf(controllers);
const named = (list: Route[]): Named[] => list.map((route) => [`${route.method} ${route.path}`, route]);
const guarded = routes.filter((route) => route.declaration.access !== 'public');
/** Only for the platform: a customer's owner is refused whatever he names. */
const isPlatforms = ({ declaration: { access } }: Route): boolean =>
  access !== 'public' && access !== 'self' && 'platform' in permissions[access];
/** An endless answer: what it tells has tests of its own below. */
const isStream = (route: Route): boolean => route.declaration.contentType === 'text/event-stream';

/** Ids of the victim that an answer, or a stream so far, holds. */
function leaked({ text }: { text: string }, victim: Ids): string[] {
  return Object.entries(victim).flatMap(([name, id]) => (text.includes(id) ? [name] : []));
}

/** Something that happens in a tenant, written beneath us; its entity's id. */
async function happens(world: World, tenantId: string): Promise<string> {
  const nodeGroupId: string = newId();
  await world.sql(
    `INSERT INTO event (tenant_id, type, entity, entity_id) VALUES ($1, 'node_group.create', 'node_group', $2)`,
    [tenantId, nodeGroupId],
  );
  return nodeGroupId;
}

const suspend = (world: World, tenantId: string): Promise<unknown> =>
  world.sql(`UPDATE tenant SET state = 'suspended', suspended_at = now() WHERE tenant_id = $1`, [tenantId]);

interface Identity {
  who: string;
  person: Person | undefined;
  role: Role | null;
}

/** What else acts in a tenant: an API key and a machine token with all scopes, a session of its identity provider. */
async function credentials(world: World, tenantId: TenantId, victim: TenantId): Promise<Identity[]> {
  const maker = await world.person(tenantId, 'owner');
  const scopes = (Object.keys(permissions) as (keyof typeof permissions)[]).filter(
    (permission) => keyMayHold(permission) && allows({ role: 'owner', platform: false }, permission),
  );
  const shown = async (path: string, field: string): Promise<Person> => {
    const answer = await world.ask('POST', path, { as: maker, body: { name: 'all', scopes } });
    expect(answer.status, answer.text).toBe(201);
    return { ...maker, token: String(answer.body[field]) };
  };
  const confined = await world.person(tenantId, 'owner');
  await world.sql(`UPDATE session SET only_tenant_id = $2 WHERE family_id = $1`, [
    ...[confined.familyId, tenantId],
  ]);
  // Who owns the victim, too: of that the session must know nothing.
  await world.sql(`INSERT INTO member (tenant_id, account_id, role) VALUES ($1, $2, 'owner')`, [
    ...[victim, confined.accountId],
  ]);
  return [
    { who: 'API key', role: null, person: await shown('/api/v1/api-keys', 'key') },
    { who: 'machine token', role: null, person: await shown('/api/v1/machine-tokens', 'token') },
    { who: 'confined session', role: null, person: confined },
  ];
}

let sent = 0;
async function send(
  world: World,
  attack: Attack,
  as?: Person,
  headers: Record<string, string> = {},
): Promise<Answer> {
  sent += 1;
  const { method, path, body } = attack;
  return world.ask(method, path, { as, headers, ...(body && { body }) });
}

describe('as shipped', () => {
  let world: World;
  let own: Scene;
  let platformScene: Scene;
  let victim: Ids;
  let identities: Identity[];

  beforeAll(async () => {
    world = await createWorld();
    own = await scene(world, await world.person(await world.tenant('own'), 'owner'));
    platformScene = await scene(world, await world.person(world.platform, 'owner'));
    victim = idsOf(await scene(world, await world.person(await world.tenant('victim'), 'owner')));
    const people = await Promise.all(
      roles.map(async (role) => ({ who: role, role, person: await world.person(own.admin.tenantId, role) })),
    );
    const outcast = await world.person(await world.tenant('suspended'), 'owner');
    await suspend(world, outcast.tenantId);
    identities = [
      ...people,
      { who: 'owner of a suspended tenant', role: null, person: outcast },
      ...(await credentials(world, own.admin.tenantId, victim.tenantId as TenantId)),
      { who: 'nobody', role: null, person: undefined },
    ];
  });
  afterAll(async () => {
    process.stdout.write(`attack matrix as shipped: ${sent} requests over ${routes.length} routes\n`);
    await world.close();
  });

  test.each(named(routes.filter((route) => !isStream(route))))(
    '%s: another tenant’s object is refused to every identity as if it did not exist, and nothing changes [G7]',
    async (_name, route) => {
      const mine = idsOf(own);
      const absent = absentIds(victim);
      const before = await fingerprint(world, victim);
      for (const { who, role, person } of identities) {
        const missing = attacks(route, mine, absent);
        for (const [index, attack] of attacks(route, mine, victim).entries()) {
          const answer = await send(world, attack, person);
          const note = `${who} ${attack.aimed.join(' ')} ${answer.text.slice(0, 300)}`;
          expect(leaked(answer, victim), note).toEqual([]);
          expect(answer.status, note).toBeLessThan(500);
          const inQuery = attack.aimed.every((place) => place.startsWith('query.'));
          if (!inQuery && route.declaration.access !== 'public') {
            expect(answer.status, note).toBeGreaterThanOrEqual(400);
          }
          if (person === undefined && route.declaration.access !== 'public') {
            expect(answer.status, note).toBe(401);
          }
          // Whoever may do this at all is told "not there", never "not yours".
          const { access } = route.declaration;
          const may =
            role !== null &&
            access !== 'public' &&
            access !== 'self' &&
            allows({ role, platform: false }, access);
          if (may) expect(answer.status, note).not.toBe(403);
          const twin = missing[index];
          if (twin !== undefined) {
            const same = await send(world, twin, person);
            expect([same.status, same.body['code']], note).toEqual([answer.status, answer.body['code']]);
          }
        }
      }
      expect(await fingerprint(world, victim)).toBe(before);
    },
  );

  test.each(named(guarded.filter((route) => !isStream(route))))(
    '%s: a request about one’s own shows and changes nothing of another tenant [G7]',
    async (_name, route) => {
      const before = await fingerprint(world, victim);
      // What may be deleted or ended by it is not what the other tests use.
      const fresh =
        route.method === 'GET'
          ? own
          : await scene(world, await world.person(await world.tenant('own'), 'owner'));
      const answer = await send(world, request(route, idsOf(fresh), victim), fresh.admin);
      expect(leaked(answer, victim), answer.text.slice(0, 300)).toEqual([]);
      expect(await fingerprint(world, victim)).toBe(before);
      const refused = /^your role may not/.test(String(answer.body['detail']));
      expect(refused, answer.text).toBe(isPlatforms(route));
      if (!refused) expect(answer.status, answer.text).not.toBe(500);
      if (!refused && route.path.includes(':')) expect(answer.status, answer.text).not.toBe(404);
    },
  );

  describe('the owner of a suspended tenant', () => {
    let suspended: Scene;
    let ids: Ids;

    beforeAll(async () => {
      suspended = await scene(world, await world.person(await world.tenant('suspended'), 'owner'));
      ids = idsOf(suspended);
      await suspend(world, suspended.admin.tenantId);
      const path = '/api/v1/node-groups';
      const create = async (): Promise<number> =>
        (await world.ask('POST', path, { as: suspended.admin, body: { name: '' } })).status;
      await untilStatus(create, 403, 1_000);
    });

    /** His own account is his, whatever becomes of the tenant. */
    const ofTenant = guarded.filter(
      (route) => route.declaration.access !== 'self' && !isPlatforms(route) && !isStream(route),
    );

    test.each(named(ofTenant))('%s: reads his own, writes nothing', async (_name, route) => {
      const before = await fingerprint(world, ids);
      const answer = await send(world, request(route, ids, ids), suspended.admin);
      if (route.method === 'GET') {
        expect([401, 403, 404, 500], answer.text.slice(0, 300)).not.toContain(answer.status);
      } else {
        expect(answer.body, answer.text.slice(0, 300)).toMatchObject({
          ...{ status: 403, code: 'forbidden', detail: 'this tenant is suspended' },
        });
      }
      expect(await fingerprint(world, ids)).toBe(before);
    });
  });

  test('an open stream: another tenant’s events never arrive at any identity, at whatever position it asks [G7]', async () => {
    const tenantId = victim['tenantId'] ?? '';
    const theirs = await Page.open(world, await world.person(tenantId as TenantId, 'owner'));
    const position = theirs.told.at(-1)?.id ?? '';
    const listeners: { who: string; page: Page }[] = [];
    for (const { who, person } of identities) {
      for (const after of [undefined, position]) {
        const page = await Page.open(world, person ?? {}, after);
        expect(page.status, who).toBe(person === undefined ? 401 : 200);
        if (page.status === 200) listeners.push({ who, page });
      }
    }
    const foreign = await happens(world, tenantId);
    await theirs.until(() => theirs.names().includes(foreign));
    // Behind it something of each listener's own, so that whatever was to come before has come.
    const tenants = new Set(identities.flatMap(({ person }) => person?.tenantId ?? []));
    const own = await Promise.all([...tenants].map((each) => happens(world, each)));
    for (const { who, page } of listeners) {
      await page.until(() => own.some((id) => page.names().includes(id)));
      expect(page.text, who).not.toContain(foreign);
      expect(leaked(page, victim), who).toEqual([]);
      expect(page.names(), who).toHaveLength(1);
      page.close();
    }
    theirs.close();
  });

  /** By these the platform reaches any account, whichever tenants it is in. */
  const ofAnyAccount = ['/api/v1/members/:accountId/password-reset', '/api/v1/members/:accountId/sessions'];
  const notPlatforms = guarded.filter(
    (route) => !isPlatforms(route) && !isStream(route) && !ofAnyAccount.includes(route.path),
  );

  test.each(named(notPlatforms))(
    '%s: the platform’s owner, acting in the platform’s tenant, reaches no customer’s object by it [G7]',
    async (_name, route) => {
      const before = await fingerprint(world, victim);
      for (const attack of attacks(route, idsOf(platformScene), victim)) {
        // He may name any tenant: acting in another is how he gets there, with an audit row in that tenant.
        if (attack.aimed.some((place) => place.endsWith('.tenantId'))) continue;
        // The operator runs all machines, a customer's own too (the policies of node and node_group say so).
        if (attack.aimed.some((place) => /\.node(Group)?Id$/.test(place))) continue;
        const answer = await send(world, attack, platformScene.admin);
        expect(leaked(answer, victim), answer.text.slice(0, 300)).toEqual([]);
      }
      expect(await fingerprint(world, victim)).toBe(before);
    },
  );
});

/** Requests with the header act for whom it says, with every right; all others as shipped. */
class OpenGuard extends AccessGuard {
  override async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = context.switchToHttp().getRequest<ActingRequest & { user: Credential }>();
    const claimed = request.headers['x-claimed-tenant'];
    const access = declarationOf(context.getHandler())?.access;
    if (claimed === undefined || access === 'public') return super.canActivate(context);
    request.actor = {
      ...{ ...originOf(request), role: 'owner', platform: false, keyId: null, scopes: null },
      accountId: String(request.headers['x-claimed-account']) as AccountId,
      tenantId: String(claimed) as TenantId,
      familyId: String(request.headers['x-claimed-family']),
    };
    // What an open stream asks for its rights again: the attacker's own, which are good.
    const { accountId, familyId } = request.actor;
    request.user = {
      ...{ kind: 'session', kid: '', accountId: accountId as AccountId, familyId: String(familyId) },
      ...{ tenantId: request.headers['x-own-tenant'] as TenantId, expiresAt: Number.MAX_SAFE_INTEGER / 1000 },
    };
    return true;
  }
}

/** Set: every transaction is this tenant's, whoever the code believes to act for. */
let attacker: TenantId | undefined;

/** Told of every statement that the code runs. */
let asked: (name: string, values: unknown[]) => void = () => undefined;

/** Puts the attacker's tenant in the place of the one that the code gives a transaction, on every connection. */
function switchTenants(pool: World['context']['pool']): void {
  const connect = pool.connect.bind(pool) as () => Promise<PoolClient>;
  const switched = new WeakSet<PoolClient>();
  const replaced = async (): Promise<PoolClient> => {
    const client = await connect();
    if (switched.has(client)) return client;
    switched.add(client);
    const query = client.query.bind(client) as (...args: unknown[]) => unknown;
    const replace = (...args: unknown[]): unknown => {
      const first = args[0] as { name?: string; values?: unknown[]; settings?: { values: unknown[] } };
      if (first?.name !== undefined) asked(first.name, first.values ?? []);
      // A read that carries its settings (packages/db read.ts).
      if (attacker !== undefined && first?.settings !== undefined) first.settings.values[0] = attacker;
      if (attacker === undefined || first?.name !== 'transaction.settings') return query(...args);
      return query({ ...first, values: [attacker, ...(first.values ?? []).slice(1)] }, ...args.slice(1));
    };
    client.query = replace as PoolClient['query'];
    return client;
  };
  pool.connect = replaced as typeof pool.connect;
}

describe('row security alone', () => {
  let world: World;
  let own: Scene;
  let victim: Ids;

  beforeAll(async () => {
    world = await createWorld({ override: [{ provide: AccessGuard, useClass: OpenGuard }] });
    switchTenants(world.context.pool);
    own = await scene(world, await world.person(await world.tenant('own'), 'owner'));
    victim = idsOf(await scene(world, await world.person(await world.tenant('victim'), 'owner')));
  });
  afterAll(() => world.close());

  /** The code takes the request for one of `tenantId`; the person is the attacker. */
  const claiming = (tenantId: string): Record<string, string> => ({
    ...{ 'x-claimed-tenant': tenantId, 'x-claimed-account': own.admin.accountId },
    ...{ 'x-claimed-family': own.admin.familyId, 'x-own-tenant': own.admin.tenantId },
  });

  // The code's own word for a tenant that a member of the platform names is that tenant: nothing to switch off.
  const switched = guarded.filter((route) => !isPlatforms(route) && !isStream(route));

  test.each(named(switched))(
    '%s: the code believes to act for the victim, the database answers as the attacker [G7]',
    async (_name, route) => {
      const before = await fingerprint(world, victim);
      attacker = own.admin.tenantId;
      try {
        const aimed = attacks(route, idsOf(own), victim);
        const tried = aimed.length > 0 ? aimed : [request(route, idsOf(own), victim)];
        for (const attack of tried) {
          if (attack.aimed.some((place) => place.endsWith('.tenantId'))) continue;
          // Claiming the victim's tenant makes every predicate of the code true for the victim's rows.
          for (const tenantId of [victim['tenantId'] ?? '', own.admin.tenantId]) {
            const answer = await send(world, attack, undefined, claiming(tenantId));
            // The claimed tenant's id may be what the code itself says; no row of his may be.
            const found = leaked(answer, victim).filter((name) => name !== 'tenantId');
            expect(found, answer.text.slice(0, 300)).toEqual([]);
          }
        }
      } finally {
        attacker = undefined;
      }
      expect(await fingerprint(world, victim)).toBe(before);
    },
  );

  test('an open stream: the code reads the victim’s events, the database gives none of them [G7]', async () => {
    const tenantId = victim['tenantId'] ?? '';
    let reads = 0;
    asked = (name, values) => {
      if (name === 'event.after' && values[0] === tenantId) reads += 1;
    };
    const opened: Page[] = [];
    try {
      // With the code's word only, the stream is the victim's: it is row security that the rest of this test shows.
      const fooled = await Page.open(world, claiming(tenantId));
      opened.push(fooled);
      const shown = await happens(world, tenantId);
      await fooled.until(() => fooled.names().includes(shown));
      const position = fooled.told.at(-1)?.id ?? '';
      fooled.close();
      attacker = own.admin.tenantId;
      const [page, behind] = [
        await Page.open(world, claiming(tenantId)),
        await Page.open(world, claiming(tenantId), fooled.told[0]?.id ?? position),
      ];
      const mine = await Page.open(world, claiming(attacker));
      opened.push(page, behind, mine);
      expect(opened.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
      const foreign = await happens(world, tenantId);
      const readBefore = reads;
      const heard = await happens(world, attacker);
      await mine.until(() => mine.names().includes(heard));
      await expect.poll(() => reads - readBefore, { timeout: 5_000 }).toBeGreaterThan(1);
      for (const { ended, text } of [page, behind]) {
        expect(ended).toBe(false);
        for (const id of [shown, foreign]) expect(text).not.toContain(id);
      }
      expect(mine.names()).toEqual([heard]);
    } finally {
      attacker = undefined;
      asked = () => undefined;
      for (const page of opened) page.close();
    }
  });

  test('the own tenant still gets its answers', async () => {
    const fresh = await scene(world, await world.person(await world.tenant('own'), 'owner'));
    attacker = fresh.admin.tenantId;
    try {
      const headers = {
        ...{ 'x-claimed-tenant': attacker, 'x-claimed-account': fresh.admin.accountId },
        'x-claimed-family': fresh.admin.familyId,
      };
      let answered = 0;
      for (const route of switched.filter((each) => each.method === 'GET')) {
        const answer = await send(world, request(route, idsOf(fresh), victim), undefined, headers);
        expect([401, 403, 404, 500], `${route.path} ${answer.text.slice(0, 300)}`).not.toContain(
          answer.status,
        );
        answered += 1;
      }
      expect(answered).toBeGreaterThan(10);
      const changed = await send(
        world,
        {
          ...{
            method: 'PATCH',
            path: `/api/v1/subscriptions/${fresh.subscriptionId}`,
            body: { name: 'new' },
          },
          aimed: [],
        },
        undefined,
        headers,
      );
      expect(changed.body).toMatchObject({ name: 'new', version: 2 });
    } finally {
      attacker = undefined;
    }
  });
});
