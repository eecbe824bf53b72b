// Time series and top lists of usage through the API.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { newId, type TenantId } from '@penstock/domain/ids';
import { seedHours, type SeededHour } from '@penstock/testkit/series-seed';
import { scene, type Scene } from './scene.js';
import { createWorld, type Person, type World } from './world.js';

let world: World;
let tenantId: TenantId;
let owner: Person;
let own: Scene;
let stranger: Person;
let platform: Person;
const otherNode = newId();

const hour = (at: string, up: bigint, more: Partial<SeededHour> = {}): SeededHour => ({
  ...{ tenantId, subscriptionId: own.subscriptionId, nodeId: own.nodeId, hour: at, up, down: up * 2n },
  ...more,
});

beforeAll(async () => {
  world = await createWorld();
  tenantId = await world.tenant('own');
  await world.sql(`UPDATE tenant SET time_zone = 'Asia/Kolkata' WHERE tenant_id = $1`, [tenantId]);
  owner = await world.person(tenantId, 'owner');
  own = await scene(world, owner);
  stranger = await world.person(await world.tenant('other'), 'owner');
  platform = await world.person(world.platform, 'owner');
  await world.sql(`SELECT make_series_partitions('2026-03-01', 3)`);
  const client = { query: (text: string, values: unknown[]) => world.sql(text, values) };
  await seedHours(client as never, [
    // 00:00 of 2 March in Kolkata.
    hour('2026-03-01T18:30:00Z', 10n, { day: '2026-03-02' }),
    hour('2026-03-01T17:30:00Z', 1n, { day: '2026-03-01' }),
    hour('2026-03-01T17:30:00Z', 100n, { day: '2026-03-01', engine: 2, nodeId: otherNode }),
    hour('2026-04-01T00:30:00Z', 1000n, { day: '2026-04-01', subscriptionId: newId(), billable: 5000n }),
  ]);
});
afterAll(() => world.close());

const span = 'from=2026-03-01T00:00:00Z&to=2026-05-01T00:00:00Z';

interface Point {
  at: string;
  upBytes: string;
  downBytes: string;
  billableBytes: string;
}
type Series = { key: string; points: Point[] }[];

async function series(query: string, as: Person = owner): Promise<Series> {
  const answer = await world.ask('GET', `/api/v1/usage/series?${span}&${query}`, { as });
  expect(answer.status, answer.text).toBe(200);
  return answer.body['series'] as unknown as Series;
}
const points = (found: Series): [string, string][] =>
  found.flatMap(({ points }) => points.map(({ at, upBytes }) => [at, upBytes] as [string, string]));

describe('a series', () => {
  test('of the tenant has days of its own time zone', async () => {
    const found = await series('');
    expect(found.map((s) => s.key)).toEqual([tenantId]);
    expect(points(found)).toEqual([
      ['2026-02-28T18:30:00.000Z', '101'],
      ['2026-03-01T18:30:00.000Z', '10'],
      ['2026-03-31T18:30:00.000Z', '1000'],
    ]);
    expect(found[0]?.points[2]).toMatchObject({ downBytes: '2000', billableBytes: '5000' });
  });

  test('has hours, days and months in any other zone, by node and by engine', async () => {
    expect(points(await series('step=month&timeZone=UTC'))).toEqual([
      ['2026-03-01T00:00:00.000Z', '111'],
      ['2026-04-01T00:00:00.000Z', '1000'],
    ]);
    expect(points(await series('step=hour'))).toHaveLength(3);
    const engines = await series('by=engine&step=month&timeZone=UTC');
    expect(engines.map((s) => [s.key, s.points.length])).toEqual([
      ['xray', 2],
      ['wireguard', 1],
    ]);
    const nodes = await series('by=node&step=month');
    expect(new Set(nodes.map((s) => s.key))).toEqual(new Set([own.nodeId, otherNode]));
    expect(points(await series(`nodeId=${otherNode}`))).toEqual([['2026-02-28T18:30:00.000Z', '100']]);
    expect(points(await series('engine=wireguard&step=month'))).toEqual([
      ['2026-02-28T18:30:00.000Z', '100'],
    ]);
  });

  test('of a subscription is its own, also split by node', async () => {
    const id = own.subscriptionId;
    expect(points(await series(`by=subscription&subscriptionId=${id}`))).toEqual([
      ['2026-02-28T18:30:00.000Z', '101'],
      ['2026-03-01T18:30:00.000Z', '10'],
    ]);
    expect(await series(`by=node&subscriptionId=${id}&step=month`)).toHaveLength(2);
    expect(points(await series(`subscriptionId=${id}&nodeId=${otherNode}`))).toHaveLength(1);
    expect(points(await series(`subscriptionId=${newId()}`))).toEqual([]);
  });

  test('goes back further than hours are kept, by days', async () => {
    const day = new Date(Date.now() - 500 * 86_400_000).toISOString().slice(0, 10);
    await world.sql(`INSERT INTO usage_day VALUES ($1, $2, $3, $4, 1, 7, 0, 7)`, [
      ...[tenantId, day, own.subscriptionId, own.nodeId],
    ]);
    const from = new Date(Date.now() - 600 * 86_400_000).toISOString();
    const path = `/api/v1/usage/series?subscriptionId=${own.subscriptionId}&from=${from}&step=day`;
    const answer = await world.ask('GET', path, { as: owner });
    const found = answer.body['series'] as unknown as Series;
    expect(points(found)[0]?.[1]).toBe('7');
  });

  test('is CSV when asked for by header or field', async () => {
    const path = `/api/v1/usage/series?${span}&by=engine&step=month&timeZone=UTC`;
    const wanted = [
      'engine,at,up_bytes,down_bytes,billable_bytes',
      'xray,2026-03-01T00:00:00.000Z,11,22,33',
      'xray,2026-04-01T00:00:00.000Z,1000,2000,5000',
      'wireguard,2026-03-01T00:00:00.000Z,100,200,300',
      '',
    ].join('\r\n');
    for (const answer of [
      await world.ask('GET', path, { as: owner, headers: { accept: 'text/csv' } }),
      await world.ask('GET', `${path}&format=csv`, { as: owner }),
    ]) {
      expect(answer.headers.get('content-type')).toMatch(/^text\/csv/);
      expect(answer.text).toBe(wanted);
    }
    const json = await world.ask('GET', `${path}&format=json`, {
      as: owner,
      headers: { accept: 'text/csv' },
    });
    expect(json.headers.get('content-type')).toMatch(/json/);
  });

  test('of another tenant is empty, and all tenants are for the platform alone', async () => {
    expect(await series('', stranger)).toEqual([]);
    expect(await series(`subscriptionId=${own.subscriptionId}`, stranger)).toEqual([]);
    const all = `/api/v1/usage/series?${span}&scope=all&step=month`;
    expect((await world.ask('GET', all, { as: stranger })).status).toBe(403);
    const answer = await world.ask('GET', all, { as: platform });
    expect((answer.body['series'] as unknown as Series).map((s) => s.key)).toEqual([tenantId]);
    const theirs = `${all}&subscriptionId=${own.subscriptionId}`;
    expect((await world.ask('GET', theirs, { as: platform })).status).toBe(400);
  });

  test.each([
    ['from=2026-05-01T00:00:00Z&to=2026-04-01T00:00:00Z', 'from'],
    ['from=2020-01-01T00:00:00Z&to=2026-04-01T00:00:00Z&step=hour', 'from'],
    ['by=subscription', 'subscriptionId'],
    ['by=member', 'by'],
    ['step=minute', 'step'],
    ['timeZone=Nowhere/Atlantis', 'timeZone'],
    ['from=yesterday', 'from'],
    ['group=node', 'group'],
  ])('refuses %s, naming the field', async (query, field) => {
    const answer = await world.ask('GET', `/api/v1/usage/series?${query}`, { as: owner });
    expect(answer.status).toBe(400);
    expect(answer.body['field']).toBe(field);
  });
});

describe('a top list', () => {
  const top = async (query: string, as: Person = owner) => {
    const answer = await world.ask('GET', `/api/v1/usage/top?from=2026-03-01&to=2026-04-30&${query}`, { as });
    expect(answer.status, answer.text).toBe(200);
    return answer.body['items'] as unknown as { key: string; name: string | null; billableBytes: string }[];
  };

  test('of subscriptions has the greatest first, with names', async () => {
    await world.sql(
      `INSERT INTO usage_day SELECT tenant_id, day, subscription_id, node_id, engine, sum(up_bytes), sum(down_bytes),
              sum(billable_bytes) FROM usage_hour GROUP BY 1, 2, 3, 4, 5`,
    );
    const all = await top('');
    expect(all.map(({ name, billableBytes }) => [name, billableBytes])).toEqual([
      [null, '5000'],
      ['customer', '333'],
    ]);
    expect(await top('limit=1')).toHaveLength(1);
    expect((await top('engine=wireguard'))[0]?.billableBytes).toBe('300');
    expect(await top('', stranger)).toEqual([]);
  });

  test('of nodes, engines and tenants', async () => {
    expect((await top('by=node')).map((row) => [row.name, row.billableBytes])).toEqual([
      ['n1', '5033'],
      [null, '300'],
    ]);
    expect((await top('by=engine')).map((row) => row.key)).toEqual(['xray', 'wireguard']);
    const tenants = await top('by=tenant&scope=all', platform);
    expect(tenants.map((row) => [row.key, row.name])).toEqual([[tenantId, 'own']]);
    const csv = await world.ask(
      'GET',
      '/api/v1/usage/top?by=engine&from=2026-03-01&to=2026-04-30&format=csv',
      {
        as: owner,
      },
    );
    expect(csv.text.split('\r\n')[0]).toBe('engine,up_bytes,down_bytes,billable_bytes');
  });

  test('refuses ranges that are turned round or too long', async () => {
    for (const query of ['from=2026-03-02&to=2026-03-01', 'from=2024-01-01&to=2026-03-01']) {
      const answer = await world.ask('GET', `/api/v1/usage/top?${query}`, { as: owner });
      expect([answer.status, answer.body['field']]).toEqual([400, 'from']);
    }
  });
});
