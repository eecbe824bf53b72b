// Many subscriptions: lists in every order and filter agree with what is there, page by page; sets are made and acted on
// all or none, with one audit row.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { subscriptionPage, subscriptionSorts } from '../src/subscriptions/subscriptions.schema.js';
import { make, scene, type Scene } from './scene.js';
import { ABSENT, createWorld, type Answer, type Person, type World } from './world.js';

const LIST = '/api/v1/subscriptions';

let world: World;
let own: Scene;
let other: Scene;
let operator: Person;

beforeAll(async () => {
  world = await createWorld();
  own = await scene(world, await world.person(await world.tenant('own'), 'admin'));
  other = await scene(world, await world.person(await world.tenant('other'), 'admin'));
  operator = await world.person(own.admin.tenantId, 'operator');
});
afterAll(() => world.close());

const post = (path: string, body: object, as = operator): Promise<Answer> =>
  world.ask('POST', path, { as, body });

async function all(query: string, as = operator): Promise<Record<string, unknown>[]> {
  const items: Record<string, unknown>[] = [];
  let cursor = '';
  do {
    const answer = await world.ask('GET', `${LIST}?${query}${cursor}`, { as });
    expect(answer.status, answer.text).toBe(200);
    const page = subscriptionPage.parse(answer.body);
    items.push(...page.items);
    cursor = page.nextCursor === null ? '' : `&cursor=${page.nextCursor}`;
  } while (cursor !== '');
  return items;
}

describe('lists', () => {
  let tenant: Scene;
  let admin: Person;

  beforeAll(async () => {
    admin = await world.person(await world.tenant('lists'), 'admin');
    tenant = await scene(world, admin);
    await world.sql('DELETE FROM device WHERE tenant_id = $1', [admin.tenantId]);
    await world.sql('DELETE FROM subscription WHERE tenant_id = $1', [admin.tenantId]);
    const names = ['beta', 'Alpha', 'alpha', 'Ärger', 'gamma 10', 'gamma 9', 'delta', '𝔷eta', 'beta'];
    for (const [n, name] of names.entries()) {
      const expiresAt = n % 3 === 0 ? null : `203${n % 4}-01-01T00:00:00.12${n}Z`;
      const externalRef = n % 2 === 0 ? null : `Ref/${name}`;
      await make(world, admin, LIST, { planId: tenant.planId, name, expiresAt, externalRef });
    }
  });

  test('every order is total, each row comes once, and turning it round turns it round', async () => {
    for (const sort of subscriptionSorts.filter((each) => !each.startsWith('-'))) {
      const up = (await all(`sort=${sort}&limit=2`, admin)).map((item) => item['subscriptionId']);
      const down = (await all(`sort=-${sort}&limit=4`, admin)).map((item) => item['subscriptionId']);
      expect(new Set(up).size).toBe(9);
      expect(down).toEqual(up.toReversed());
    }
    const names = (await all('sort=name&limit=3', admin)).map((item) => String(item['name']).toLowerCase());
    expect(names).toEqual(names.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))));
    const ends = (await all('sort=expiresAt&limit=1', admin)).map((item) => item['expiresAt'] ?? '9');
    expect(ends).toEqual(ends.toSorted());
  });

  test('filters find what they say, alone and together', async () => {
    const everything = await all('', admin);
    await world.sql(
      `INSERT INTO subscription_state SELECT tenant_id, subscription_id, 'expired', 'expired', now() FROM subscription
       WHERE tenant_id = $1 AND expires_at < '2032-01-01'`,
      [admin.tenantId],
    );
    await post(`${LIST}/${String(everything[0]?.['subscriptionId'])}/disable`, {}, admin).catch(
      () => undefined,
    );
    const now = await all('', admin);
    const is = async (query: string, which: (item: Record<string, unknown>) => boolean): Promise<void> => {
      const ids = (await all(`limit=2&${query}`, admin)).map((item) => item['subscriptionId']).sort();
      expect(ids, query).toEqual(
        now
          .filter(which)
          .map((item) => item['subscriptionId'])
          .sort(),
      );
    };
    const early = (item: Record<string, unknown>): boolean => String(item['expiresAt'] ?? '9') < '2032';
    await is('state=expired', early);
    await is('state=expired&sort=-name', early);
    await is('expiresBefore=2032-01-01T00:00:00Z', early);
    await is('expiresBefore=2032-01-01T00:00:00Z&sort=name', early);
    await is('adminState=active', (item) => item['adminState'] === 'active');
    await is(`planId=${tenant.planId}&adminState=disabled`, (item) => item['adminState'] === 'disabled');
    await is(`planId=${own.planId}`, () => false);
    await is('externalRef=ref/ALPHA', (item) => item['externalRef'] === 'Ref/Alpha');
    await is('q=GAMMA', (item) => String(item['name']).startsWith('gamma'));
    await is('q=ref/', (item) => item['externalRef'] !== null);
    await is('q=%25', () => false);
    await is(
      'q=alpha&state=expired',
      (item) => String(item['name']).toLowerCase() === 'alpha' && early(item),
    );
    const both = (await all('q=a&limit=1', admin)).map((item) => String(item['name']));
    expect(both).toEqual(['Alpha', 'alpha']);
  });

  test('400: an order, filter or cursor that is none', async () => {
    const page = await world.ask('GET', `${LIST}?sort=name&limit=2`, { as: admin });
    const cursor = String(page.body['nextCursor']);
    const forged = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
    for (const [query, field] of [
      ['sort=secret', 'sort'],
      ['sort=name;drop', 'sort'],
      ['state=gone', 'state'],
      ['q=a&sort=name', 'sort'],
      ['q=', 'q'],
      ['expiresBefore=soon', 'expiresBefore'],
      ['order=name', 'order'],
      [`cursor=${cursor}`, 'cursor'],
      [`sort=-name&cursor=${cursor}`, 'cursor'],
      [`q=a&cursor=${cursor}`, 'cursor'],
      ['cursor=%27', 'cursor'],
      ['cursor=AAAA', 'cursor'],
      [`cursor=${forged(['createdAt', 'x', ABSENT])}`, 'cursor'],
      [`cursor=${forged(['createdAt', ABSENT, 'x'])}`, 'cursor'],
      [`sort=expiresAt&cursor=${forged(['expiresAt', 'tomorrow', ABSENT])}`, 'cursor'],
      [`sort=expiresAt&cursor=${forged(['expiresAt', '2020-99-99 00:00:00+00', ABSENT])}`, 'cursor'],
      [`sort=name&cursor=${forged(['name', 'a\0b', ABSENT])}`, 'cursor'],
      [`sort=name&cursor=${forged(['name', '\ud800', ABSENT])}`, 'cursor'],
    ] as const) {
      const answer = await world.ask('GET', `${LIST}?${query}`, { as: admin });
      expect(answer.body, query).toMatchObject({ status: 400, field });
    }
  });
});

describe('making many', () => {
  test('201: numbered names, terms of the plan, one audit row, one change each', async () => {
    const rows = (): Promise<{ n: number }[]> =>
      world.sql('SELECT count(*)::int AS n FROM audit_log WHERE tenant_id = $1', [own.admin.tenantId]);
    const [before] = await rows();
    const body = { planId: own.planId, namePattern: 'user-{n}', first: 8, count: 250, onHold: true };
    const made = await post(`${LIST}/bulk`, body);
    expect(made.status).toBe(201);
    const ids = made.body['subscriptionIds'] as unknown as string[];
    expect([made.body['count'], new Set(ids).size]).toEqual([250, 250]);
    const found = await world.sql<{ name: string; secret: string; on_hold: boolean }>(
      `SELECT name, encode(secret, 'hex') AS secret, on_hold FROM unnest($1::uuid[]) WITH ORDINALITY AS i (id, n)
       JOIN subscription ON subscription_id = i.id ORDER BY i.n`,
      [ids],
    );
    expect(found.map((row) => row.name)).toEqual(ids.map((_, i) => `user-${8 + i}`));
    expect(new Set(found.map((row) => row.secret)).size).toBe(250);
    expect(found.every((row) => row.on_hold)).toBe(true);
    expect(
      await world.sql(
        'SELECT count(*)::int AS n FROM access_change WHERE subscription_id = ANY ($1::uuid[])',
        [ids],
      ),
    ).toEqual([{ n: 250 }]);
    expect(await rows()).toEqual([{ n: (before?.n ?? 0) + 1 }]);
  });

  test('400, 404, 422: nothing is made', async () => {
    const good = { planId: own.planId, namePattern: 'x-{n}', count: 2 };
    const count = (): Promise<unknown[]> => world.sql('SELECT count(*) FROM subscription');
    const before = await count();
    for (const [change, status, field] of [
      [{ namePattern: 'x' }, 400, 'namePattern'],
      [{ namePattern: '{n}{n}' }, 400, 'namePattern'],
      [{ namePattern: `${'x'.repeat(90)}{n}` }, 400, 'namePattern'],
      [{ count: 10_001 }, 400, 'count'],
      [{ count: 0 }, 400, 'count'],
      [{ first: -1 }, 400, 'first'],
      [{ planId: other.planId }, 404, 'planId'],
      [{ nextPlanId: other.planId }, 404, 'nextPlanId'],
      [{ holdDeadline: '2031-01-01T00:00:00Z' }, 400, 'holdDeadline'],
    ] as const) {
      expect((await post(`${LIST}/bulk`, { ...good, ...change })).body).toMatchObject({ status, field });
    }
    await world.sql('UPDATE tenant SET limit_subscriptions = 252 WHERE tenant_id = $1', [own.admin.tenantId]);
    expect((await post(`${LIST}/bulk`, good)).body).toMatchObject({ status: 422, code: 'limit_reached' });
    await world.sql('UPDATE tenant SET limit_subscriptions = NULL WHERE tenant_id = $1', [
      own.admin.tenantId,
    ]);
    expect(await count()).toEqual(before);
  });
});

describe('acting on many', () => {
  let ids: string[];

  beforeAll(async () => {
    const body = { planId: own.planId, namePattern: 'many-{n}', count: 40 };
    ids = (await post(`${LIST}/bulk`, body)).body['subscriptionIds'] as unknown as string[];
  });
  const act = (body: object): Promise<Answer> => post(`${LIST}/bulk-action`, body);
  const of = (column: string): Promise<unknown[]> =>
    world
      .sql<{ v: unknown }>(
        `SELECT DISTINCT ${column} AS v FROM subscription WHERE subscription_id = ANY ($1::uuid[])`,
        [ids],
      )
      .then((rows) => rows.map((row) => row.v));
  const acts = (kind: string): Promise<unknown[]> =>
    world.sql(
      `SELECT count(*)::int AS n, count(DISTINCT subscription_id)::int AS subscriptions FROM subscription_act
       WHERE kind = $2 AND subscription_id = ANY ($1::uuid[])`,
      [ids, kind],
    );

  test('each action reaches all of them, once, with one audit row and a change each', async () => {
    const [before] = await world.sql<{ end: Date }>(
      'SELECT expires_at AS end FROM subscription WHERE subscription_id = $1',
      [ids[0]],
    );
    const rows = async (): Promise<number[]> =>
      Object.values(
        (
          await world.sql<Record<string, number>>(
            `SELECT (SELECT count(*)::int FROM audit_log WHERE tenant_id = $1) AS a,
                    (SELECT count(*)::int FROM access_change WHERE tenant_id = $1) AS c`,
            [own.admin.tenantId],
          )
        )[0] ?? {},
      );
    let [audited, changed] = await rows();
    for (const [body, check] of [
      [{ action: 'disable' }, async () => expect(await of('admin_state')).toEqual(['disabled'])],
      [{ action: 'enable' }, async () => expect(await of('admin_state')).toEqual(['active'])],
      [
        { action: 'extend', days: 3 },
        async () =>
          expect(await of('expires_at')).toEqual([new Date((before?.end.getTime() ?? 0) + 3 * 86_400_000)]),
      ],
      [{ action: 'reset' }, async () => expect(await acts('reset')).toEqual([{ n: 40, subscriptions: 40 }])],
      [
        { action: 'top_up', bytes: '77' },
        async () => expect(await acts('top_up')).toEqual([{ n: 40, subscriptions: 40 }]),
      ],
      [
        { action: 'renew' },
        async () => {
          expect(await acts('renew')).toEqual([{ n: 40, subscriptions: 40 }]);
          expect(await of('expires_at')).toEqual([new Date((before?.end.getTime() ?? 0) + 33 * 86_400_000)]);
        },
      ],
      [{ action: 'activate' }, async () => expect(await acts('start')).toEqual([{ n: 0, subscriptions: 0 }])],
    ] as const) {
      const answer = await act({ ...body, subscriptionIds: ids.toReversed() });
      expect(answer.body, body.action).toEqual({ count: 40 });
      await check();
      expect(await rows()).toEqual([(audited = (audited ?? 0) + 1), (changed = (changed ?? 0) + 40)]);
    }
  });

  test('one that is none, another tenant’s, or cannot: nothing happens to any', async () => {
    const state = (): Promise<unknown[]> =>
      world.sql('SELECT subscription_id, version FROM subscription ORDER BY 1');
    const before = await state();
    for (const foreign of [ABSENT, other.subscriptionId]) {
      expect(
        (await act({ action: 'delete', subscriptionIds: [ids[0], ids[1], foreign] })).body,
      ).toMatchObject({
        ...{ status: 404, field: 'subscriptionIds.2' },
      });
    }
    const [held] = await world.sql<{ id: string }>(
      'SELECT subscription_id AS id FROM subscription WHERE on_hold AND tenant_id = $1 LIMIT 1',
      [own.admin.tenantId],
    );
    expect((await act({ action: 'renew', subscriptionIds: [...ids, held?.id] })).body).toMatchObject({
      status: 412,
    });
    expect((await act({ action: 'renew', planId: other.planId, subscriptionIds: ids })).body).toMatchObject({
      ...{ status: 404, field: 'planId' },
    });
    for (const [body, field] of [
      [{ action: 'disable' }, 'subscriptionIds'],
      [{ action: 'disable', subscriptionIds: ids, filter: {} }, 'subscriptionIds'],
      [{ action: 'disable', subscriptionIds: [] }, 'subscriptionIds'],
      [{ action: 'disable', subscriptionIds: [ids[0], ids[0]] }, 'subscriptionIds'],
      [{ action: 'disable', subscriptionIds: ids, days: 1 }, 'days'],
      [{ action: 'extend', subscriptionIds: ids }, 'days'],
      [{ action: 'top_up', subscriptionIds: ids }, 'bytes'],
      [{ action: 'drop', subscriptionIds: ids }, 'action'],
      [{ action: 'disable', filter: { tenantId: ABSENT } }, 'filter.tenantId'],
      [
        { action: 'disable', subscriptionIds: Array.from({ length: 10_001 }, () => ABSENT) },
        'subscriptionIds',
      ],
    ] as const) {
      expect((await act(body)).body, field).toMatchObject({ status: 400, field });
    }
    expect(await state()).toEqual(before);
  });

  test('by filter: what it finds and nothing else; two who delete the same at once share the work', async () => {
    const filter = { q: 'many-' };
    expect((await act({ action: 'disable', filter: { ...filter, adminState: 'active' } })).body).toEqual({
      count: 40,
    });
    expect((await act({ action: 'disable', filter: { ...filter, adminState: 'active' } })).body).toEqual({
      count: 0,
    });
    expect(
      await world.sql(
        `SELECT count(*)::int AS n FROM subscription WHERE admin_state = 'disabled' AND tenant_id = $1`,
        [own.admin.tenantId],
      ),
    ).toEqual([{ n: 40 }]);
    const both = await Promise.all([act({ action: 'delete', filter }), act({ action: 'delete', filter })]);
    expect(both.map((answer) => Number(answer.body['count'])).reduce((sum, n) => sum + n)).toBe(40);
    expect(await all('q=many-')).toEqual([]);
    expect((await act({ action: 'delete', subscriptionIds: ids })).status).toBe(404);
  });
});

test('64 clients change the same subscriptions in every way at once: no deadlock shows, each success is one audit row', async () => {
  const body = { planId: own.planId, namePattern: 'storm-{n}', count: 12 };
  const ids = (await post(`${LIST}/bulk`, body)).body['subscriptionIds'] as unknown as string[];
  const pick = (n: number): string => ids[n % ids.length] as string;
  const many = (n: number): string[] => (n % 2 === 0 ? ids : ids.toReversed()).slice(n % 5);
  const wide = (body: object): Promise<Answer> => post(`${LIST}/bulk-action`, body);
  const ways: ((n: number) => Promise<Answer>)[] = [
    (n) => world.ask('PATCH', `${LIST}/${pick(n)}`, { as: operator, body: { name: `storm-x${n}` } }),
    (n) => post(`${LIST}/${pick(n)}/top-up`, { bytes: '1' }),
    (n) => post(`${LIST}/${pick(n)}/renew`, {}),
    (n) => world.ask('POST', `${LIST}/${pick(n)}/rotate`, { as: operator }),
    (n) => post(`${LIST}/${pick(n)}/devices`, { name: 'phone' }),
    (n) => wide({ action: 'reset', subscriptionIds: many(n) }),
    (n) => wide({ action: 'extend', days: 1, subscriptionIds: many(n) }),
    () => wide({ action: 'top_up', bytes: '1', filter: { q: 'storm-' } }),
  ];
  const audited = async (): Promise<number> =>
    (
      await world.sql<{ n: number }>('SELECT count(*)::int AS n FROM audit_log WHERE tenant_id = $1', [
        own.admin.tenantId,
      ])
    )[0]?.n ?? 0;
  const before = await audited();
  const statuses: number[] = [];
  const client = async (c: number): Promise<void> => {
    for (let n = c; n < c + 6; n++)
      statuses.push((await (ways[n % ways.length] as (typeof ways)[number])(n)).status);
  };
  await Promise.all(Array.from({ length: 64 }, (_, c) => client(c)));
  // 422: the device limit.
  expect(statuses.filter((status) => status >= 300 && status !== 422)).toEqual([]);
  expect(await audited()).toBe(before + statuses.filter((status) => status < 300).length);
  const devices = await world.sql<{ n: number }>(
    `SELECT max(n)::int AS n FROM (SELECT count(*) AS n FROM device WHERE removed_at IS NULL AND subscription_id = ANY ($1::uuid[])
     GROUP BY subscription_id) each`,
    [ids],
  );
  expect(devices).toEqual([{ n: 2 }]);
});
