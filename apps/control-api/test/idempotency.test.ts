// Idempotency-Key: one effect and one answer for a mutation, however often, from however many places and through
// whatever crash it is repeated. The walk takes every mutation from the router and its body from the schema's example.
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { controllers } from '../src/app.module.js';
import { routesOf, type Route } from '../src/http/routes.js';
import type { RevokeNodeRequest } from '@penstock/rpc/gen/penstock/scheduler_admin/v1/scheduler_admin';
import type { RpcServer } from '@penstock/rpc/server';
import { freePort } from '@penstock/testkit/traffic/xray-client';
import { permissions } from '../src/permissions.js';
import { idsOf, request, type Attack } from './attacks.js';
import { startProcesses, type ApiProcess } from './processes.js';
import { prepare } from './ready-scene.js';
import { startScheduler } from './revoking-scheduler.js';
import { scene, type Scene } from './scene.js';
import { createWorld, type Answer, type Person, type World } from './world.js';

const routes = routesOf(controllers);
const isMutation = ({ method }: Route): boolean => ['POST', 'PUT', 'PATCH', 'DELETE'].includes(method);
const guarded = routes.filter((route) => isMutation(route) && route.declaration.access !== 'public');
const [keyed, keyless] = [true, false].map((key) =>
  guarded.filter(({ declaration }) => (declaration.withoutKey === undefined) === key),
) as [Route[], Route[]];
const isPlatforms = ({ declaration: { access } }: Route): boolean =>
  access !== 'public' && access !== 'self' && 'platform' in permissions[access];
const TIMES = 8;

let world: World;
let admin: Person;
let platform: Scene;
let scheduler: RpcServer | undefined;
/** What the scheduler was asked to do. */
const asked: RevokeNodeRequest[] = [];

beforeAll(async () => {
  const port = await freePort();
  world = await createWorld({ env: { SCHEDULER_ADDRESS: `127.0.0.1:${port}` } });
  scheduler = await startScheduler(world, port, asked);
  admin = await world.person(await world.tenant(), 'owner');
  platform = await scene(world, await world.person(world.platform, 'owner'));
});
afterAll(async () => {
  await scheduler?.close(0);
  await world.close();
});

const create = (key: string, name: string, as: Person = admin): Promise<Answer> =>
  world.ask('POST', '/api/v1/node-groups', { as, body: { name }, headers: { 'idempotency-key': key } });

/** Sends until there is an answer that is not "still under way". */
async function settled(send: () => Promise<Answer>): Promise<Answer> {
  for (;;) {
    const answer = await send();
    if (answer.body['code'] !== 'pending') return answer;
    expect(answer.headers.get('retry-after')).toBe('1');
  }
}

/** Requests that left a row in the audit log, of a tenant or at all: one a mutation that had an effect. */
const audited = async (tenantId: string | null = null): Promise<number> => {
  const [row] = await world.sql<{ n: number }>(
    'SELECT count(DISTINCT request_id)::int AS n FROM audit_log WHERE $1::uuid IS NULL OR tenant_id = $1',
    [tenantId],
  );
  return row?.n ?? 0;
};

interface Tried {
  as: Person;
  asks: Attack;
}

/** Refused in a world without what it needs, and where it is proven instead. */
const refused: Readonly<Record<string, number>> = {
  // A sign-in at a real identity provider, with its cookies: oidc.test.ts.
  'OidcController.link': 401,
  'OidcController.startLink': 403,
};

/** Changes nothing that is audited: a new token for a session that there is, a challenge that expires. */
const silent: readonly string[] = ['AuthController.switchTenant', 'PasskeysController.addOptions'];

/** Without a key each answer is an act of its own, which its declaration says why does no harm. */
const eachItsOwn: readonly string[] = ['SessionsController.endOthers', 'SessionsController.endOfMember'];

describe('every mutation', () => {
  test('a public mutation says why repeating it is harmless, since there is nobody whose key it could be', () => {
    const silent = routes.filter(
      (route) =>
        isMutation(route) &&
        route.declaration.access === 'public' &&
        route.declaration.withoutKey === undefined,
    );
    expect(silent.map((route) => `${route.method} ${route.path}`)).toEqual([]);
  });

  /** Who asks, and what: the route's example in a scene where it has something to do. */
  async function readied(route: Route): Promise<Tried> {
    const own = isPlatforms(route)
      ? platform
      : await scene(world, await world.person(await world.tenant(randomUUID()), 'owner'));
    const { ids, body, as = own.admin } = (await prepare[route.handler]?.(world, own)) ?? {};
    const all = { ...idsOf(own), ...ids };
    const asks = request(route, all, all);
    const kid = ids?.['kid'];
    const path = kid === undefined ? asks.path : route.path.replace(':kid', kid);
    return { as, asks: { ...asks, path, ...(body === undefined ? {} : { body }) } };
  }

  /** The answers to one request sent so many times at once, and how many of them had an effect. */
  async function repeated(
    { as, asks }: Tried,
    headers: Record<string, string>,
  ): Promise<{ answers: Answer[]; effects: number }> {
    const before = await audited();
    const { method, path, body } = asks;
    const send = (): Promise<Answer> =>
      world.ask(method, path, { as, headers, ...(body === undefined ? {} : { body }) });
    const answers = await Promise.all(Array.from({ length: TIMES }, () => settled(send)));
    return { answers, effects: (await audited()) - before };
  }

  const named = (list: Route[]): [string, Route][] =>
    list.map((route) => [`${route.method} ${route.path}`, route]);

  test.each(named(keyed))(
    '%s repeated in parallel with one key: one effect, one answer [G14]',
    async (_name, route) => {
      const tried = await readied(route);
      const askedBefore = asked.length;
      const { answers, effects } = await repeated(tried, { 'idempotency-key': randomUUID() });
      const [first] = answers as [Answer];
      const said = `${route.handler} ${first.status} ${first.text.slice(0, 300)}`;
      const withoutId = ({ status, text }: Answer): unknown[] => [
        status,
        text.replace(/"request_id":"[^"]+"/, ''),
      ];
      for (const answer of answers) expect(withoutId(answer), said).toEqual(withoutId(first));
      const replayed = answers.filter((answer) => answer.headers.get('idempotent-replayed') === 'true');
      expect(first.status, said).toBe(refused[route.handler] ?? route.status);
      expect(effects, said).toBe(first.status < 300 && !silent.includes(route.handler) ? 1 : 0);
      expect(replayed, said).toHaveLength(TIMES - 1);
      expect(asked.length - askedBefore).toBe(route.handler === 'NodesController.revoke' ? 1 : 0);
    },
  );

  test.each(named(keyless))(
    '%s takes no key: repeated in parallel it has one effect all the same [G14]',
    async (_name, route) => {
      const tried = await readied(route);
      const { answers, effects } = await repeated(tried, {});
      const said = `${route.handler} ${answers.map(({ status }) => status).join(' ')} ${answers[0]?.text.slice(0, 300)}`;
      expect(Math.max(...answers.map(({ status }) => status)), said).toBeLessThan(500);
      const done = answers.filter(({ status }) => status < 300).length;
      const acts = eachItsOwn.includes(route.handler) ? done : Math.min(done, 1);
      expect(effects, said).toBe(silent.includes(route.handler) ? 0 : acts);
      if (!(route.handler in refused)) expect(done, said).toBeGreaterThan(0);
    },
  );
});

describe('one key', () => {
  test('the same answer to the byte, with its version, and another request with it is refused', async () => {
    const key = randomUUID();
    const first = await create(key, 'one');
    const second = await create(key, 'one');
    expect(second.text).toBe(first.text);
    expect(second.status).toBe(201);
    expect(second.headers.get('content-type')).toBe(first.headers.get('content-type'));
    expect(second.headers.get('x-request-id')).not.toBe(first.headers.get('x-request-id'));
    expect(first.headers.get('idempotent-replayed')).toBeNull();
    expect(second.headers.get('idempotent-replayed')).toBe('true');
    const other = await create(key, 'two');
    expect(other.body).toMatchObject({ status: 422, code: 'idempotency_mismatch', field: 'Idempotency-Key' });
    const elsewhere = await world.ask('POST', '/api/v1/invitations', {
      ...{ as: admin, body: { email: 'a@example.org', role: 'admin' }, headers: { 'idempotency-key': key } },
    });
    expect(elsewhere.body).toMatchObject({ code: 'idempotency_mismatch' });
  });

  test('spaces and the order of fields are the same request', async () => {
    const headers = { 'idempotency-key': randomUUID(), 'content-type': 'application/json' };
    const plan = (body: string): Promise<Answer> =>
      world.ask('POST', '/api/v1/subscriptions', { as: admin, body, headers });
    const first = await plan('{"planId":"018f0000-0000-7000-8000-0000000000ff","name":"x"}');
    const again = await plan('{ "name": "x",  "planId": "018f0000-0000-7000-8000-0000000000ff" }');
    expect(again.body['code']).toBe(first.body['code']);
    expect(again.body['code']).not.toBe('idempotency_mismatch');
  });

  test('two callers, and two tenants, have keys of their own', async () => {
    const key = randomUUID();
    const colleague = await world.person(admin.tenantId, 'admin');
    const stranger = await world.person(await world.tenant(), 'owner');
    const made = [
      await create(key, 'a'),
      await create(key, 'b', colleague),
      await create(key, 'c', stranger),
    ];
    expect(made.map(({ status }) => status)).toEqual([201, 201, 201]);
    expect(new Set(made.map(({ body }) => body['nodeGroupId'])).size).toBe(3);
  });

  test('a refusal that came from work is kept, one that came before it is not', async () => {
    const key = randomUUID();
    const absent = '018f0000-0000-7000-8000-0000000000ff';
    const subscribe = (name: string): Promise<Answer> =>
      world.ask('POST', '/api/v1/subscriptions', {
        ...{ as: admin, body: { planId: absent, name }, headers: { 'idempotency-key': key } },
      });
    const first = await subscribe('x');
    expect(first.body).toMatchObject({ status: 404 });
    expect((await subscribe('x')).text).toBe(first.text);
    expect((await subscribe('y')).body).toMatchObject({ code: 'idempotency_mismatch' });
    const wrong = randomUUID();
    expect((await create(wrong, '')).body).toMatchObject({ status: 400, field: 'name' });
    expect((await create(wrong, 'mended')).status).toBe(201);
  });

  test('500: an answer of ours that broke is the same again, and what it had begun is undone', async () => {
    const key = randomUUID();
    await world.sql('ALTER TABLE audit_log RENAME TO audit_away');
    let broken: Answer;
    try {
      broken = await create(key, 'broken');
    } finally {
      await world.sql('ALTER TABLE audit_away RENAME TO audit_log');
    }
    expect(broken.status).toBe(500);
    expect((await create(key, 'broken')).text).toBe(broken.text);
    expect(await world.sql(`SELECT FROM node_group WHERE name = 'broken'`)).toEqual([]);
  });

  test('what is done to another account is undone when its answer cannot be kept', async () => {
    const boss = await world.person(world.platform, 'owner');
    const other = await world.person(await world.tenant('kept'), 'operator');
    const { accountId } = other;
    await world.sql(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN RAISE EXCEPTION 'the disk is full'; END $$`);
    await world.sql(
      `CREATE TRIGGER refuse BEFORE INSERT ON idempotency_key FOR EACH ROW EXECUTE FUNCTION refuse()`,
    );
    const acts: [string, string, object?][] = [
      ['POST', `/api/v1/accounts/${accountId}/disable`],
      ['POST', `/api/v1/members/${accountId}/password-reset`, {}],
    ];
    const before = await audited(world.platform);
    for (const [method, path, body] of acts) {
      const headers = { 'idempotency-key': randomUUID() };
      const answer = await world.ask(method, path, {
        as: boss,
        headers,
        ...(body === undefined ? {} : { body }),
      });
      expect(answer.status, path).toBe(500);
    }
    await world.sql('DROP FUNCTION refuse() CASCADE');
    expect(await audited(world.platform)).toBe(before);
    expect((await world.ask('GET', '/api/v1/auth/me', { as: other })).status).toBe(200);
    expect(await world.sql('SELECT FROM one_time_link WHERE account_id = $1', [accountId])).toEqual([]);
  });

  test('400: an empty one, one too long, one that is there twice', async () => {
    expect((await create('', 'x')).status).toBe(400);
    expect((await create('k'.repeat(256), 'x')).body).toMatchObject({ field: 'Idempotency-Key' });
    expect((await create('k'.repeat(255), 'x')).status).toBe(201);
  });

  test('nothing of an answer or a request stands in the table to be read', async () => {
    await create(randomUUID(), 'canary-of-the-body');
    const rows = await world.sql<{ row: string }>(
      `SELECT row_to_json(k)::text || encode(body, 'escape') AS row FROM idempotency_key k`,
    );
    expect(rows.length).toBeGreaterThan(3);
    for (const { row } of rows) expect(row).not.toContain('canary');
  });

  test('another tenant’s keys are not there for anybody', async () => {
    const { withTransaction } = await import('@penstock/db/transaction');
    const stranger = await world.tenant();
    const seen = await withTransaction(
      world.context.pool,
      async (client) => (await client.query('SELECT FROM idempotency_key')).rowCount,
      { tenantId: stranger },
    );
    expect(seen).toBe(0);
  });
});

describe('a crash', () => {
  test('a process killed at work: the repetition at another has one effect, whatever the first had done [G14]', async () => {
    const NAMES = 120;
    const owner = await world.person(await world.tenant(), 'owner');
    const [first, second] = (await startProcesses(world, 2, { RATE_LIMIT_FACTOR: '1000' })) as [
      ApiProcess,
      ApiProcess,
    ];
    const send = (url: string, i: number): Promise<number> =>
      fetch(`${url}/api/v1/node-groups`, {
        method: 'POST',
        headers: {
          ...{ authorization: `Bearer ${owner.token}`, 'content-type': 'application/json' },
          'idempotency-key': `crash ${i}`,
        },
        body: JSON.stringify({ name: `crash ${i}` }),
      }).then(
        (answer) => answer.status,
        () => 0,
      );
    let answered = 0;
    const begun = Array.from({ length: NAMES }, async (_, i) => {
      const status = await send(first.url, i);
      if (status === 201) answered++;
      // In the middle of the others' work.
      if (answered === 20) first.child.kill('SIGKILL');
      return status;
    });
    const before = await Promise.all(begun);
    expect(before).toContain(0);
    try {
      for (let i = 0; i < NAMES; i++) {
        let status = await send(second.url, i);
        while (status === 409) status = await send(second.url, i);
        expect(status).toBe(201);
      }
    } finally {
      await second.stop();
    }
    const [made] = await world.sql<{ groups: number; names: number; rows: number }>(
      `SELECT count(*)::int AS groups, count(DISTINCT name)::int AS names,
              (SELECT count(*)::int FROM audit_log WHERE tenant_id = $1) AS rows
         FROM node_group WHERE owner_tenant_id = $1`,
      [owner.tenantId],
    );
    expect(made).toEqual({ groups: NAMES, names: NAMES, rows: NAMES });
  });
});
