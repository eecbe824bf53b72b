// What a tenant reads of its usage is what was used, to the byte, for real Xray traffic: series, CSV, top list, preview
// and the signed statement hold what the ledger holds, which holds what the engine counted. The clock's part alone is
// played: a statement is closed as the scheduler closes it 48 hours after the month, by its own code on this database.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createPool } from '@penstock/db/pool';
import { createLogger } from '@penstock/service/logger';
import { createMetrics } from '@penstock/service/metrics';
import { download, upload } from '@penstock/testkit/traffic/socks-client';
import { schedulerMetrics } from '../../apps/scheduler/src/metrics.js';
import { closeDue, GRACE_MS } from '../../apps/scheduler/src/statements/close.js';
import { until } from './until.js';
import { PASSWORD, World, type Bytes, type Customer, type NodeOfWorld } from './world.js';

const program = resolve(import.meta.dirname, '../../apps/cli/dist/main.js');
/** A collector writes the series at least this often. */
const SERIES_MS_MAX = 45_000;

let world: World;
let nodes: NodeOfWorld[];
/** Two of one tenant, each over both nodes, and one of another. */
let customers: Customer[];
let scratch: string;
const used = new Map<Customer, Bytes>();
const startedAt = new Date();

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'pst-usage-'));
  world = await World.start();
  nodes = [await world.addNode('one', ['xray']), await world.addNode('two', ['xray'])];
  const second = await world.addTenant('Second');
  customers = [
    await world.addCustomer(null, ['xray']),
    await world.addCustomer(null, ['xray']),
    await world.addCustomer(null, ['xray'], second),
  ];
  for (const [index, customer] of customers.entries()) {
    const engine = { up: 0n, down: 0n };
    for (const node of nodes) {
      const client = await world.xrayClient(customer, node);
      const down = await download(world.socks(client), 700_001 + 13_007 * index);
      const up = await upload(world.socks(client), 90_017 + 1_009 * index);
      expect([down.complete, up.complete]).toEqual([true, true]);
      const counters = await world.xrayCounters(node, customer);
      engine.up += counters.up;
      engine.down += counters.down;
    }
    await world.booked(customer, engine);
    used.set(customer, await world.ledgerBytes(customer));
  }
});
afterAll(() => world?.destroy());

interface Used {
  upBytes: string;
  downBytes: string;
  billableBytes: string;
}
interface Point extends Used {
  at: string;
}
interface Series {
  series: { key: string; points: Point[] }[];
}

/** What these customers used, as the API writes it; the nodes bill a byte as a byte. */
function usedBy(list: Customer[]): Used {
  const sum = (field: keyof Bytes): bigint =>
    list.reduce((total, customer) => total + (used.get(customer)?.[field] ?? 0n), 0n);
  const [up, down] = [sum('up'), sum('down')];
  return { upBytes: String(up), downBytes: String(down), billableBytes: String(up + down) };
}

function summed(points: Used[]): Used {
  const sum = (field: keyof Used): string =>
    String(points.reduce((total, point) => total + BigInt(point[field]), 0n));
  return { upBytes: sum('upBytes'), downBytes: sum('downBytes'), billableBytes: sum('billableBytes') };
}

/** Key → sum over all its points. */
const totals = ({ series }: Series): Record<string, Used> =>
  Object.fromEntries(series.map(({ key, points }) => [key, summed(points)]));

const ofTenant = (tenantId: string): Customer[] =>
  customers.filter((customer) => customer.tenantId === tenantId);

async function get(tenantId: string, path: string, accept: string): Promise<Response> {
  const headers = { authorization: `Bearer ${await world.tokenFor(tenantId)}`, accept };
  const answer = await fetch(`${world.stack.edges.api}/api/v1/${path}`, { headers });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer;
}

async function json<T>(tenantId: string, path: string): Promise<T> {
  return (await (await get(tenantId, path, 'application/json')).json()) as T;
}

/** Cells of each record behind the header. */
async function csv(tenantId: string, path: string): Promise<string[][]> {
  const text = await (await get(tenantId, path, 'text/csv')).text();
  const [header, ...lines] = text.trimEnd().split('\r\n');
  expect(header).toContain('up_bytes,down_bytes,billable_bytes');
  return lines.map((line) => line.split(','));
}

/** Rows of CSV whose last three cells are bytes, summed by the cell in this column. */
function totalsOf(rows: string[][], column: number): Record<string, Used> {
  const groups = new Map<string, Used[]>();
  for (const row of rows) {
    const [upBytes = '', downBytes = '', billableBytes = ''] = row.slice(-3);
    const key = row[column] ?? '';
    groups.set(key, [...(groups.get(key) ?? []), { upBytes, downBytes, billableBytes }]);
  }
  return Object.fromEntries([...groups].map(([key, list]) => [key, summed(list)]));
}

const range = (step: string): string => {
  const hour = new Date(Math.floor(startedAt.getTime() / 3_600_000) * 3_600_000);
  // A series is asked by the hour in which its steps begin; a month’s began earlier.
  const from = step === 'hour' ? hour : new Date(hour.getTime() - 40 * 86_400_000);
  return `step=${step}&from=${from.toISOString()}&to=${new Date(Date.now() + 60_000).toISOString()}`;
};

test(
  'series and their CSV hold the ledger’s bytes: by subscription, tenant, engine and node, by hour, day and month',
  { timeout: 120_000 },
  async () => {
    for (const tenantId of new Set(customers.map((customer) => customer.tenantId))) {
      const list = ofTenant(tenantId);
      let seen: unknown;
      await until(
        async () => {
          const path = `usage/series?by=tenant&${range('hour')}`;
          seen = totals(await json<Series>(tenantId, path))[tenantId];
          return JSON.stringify(seen) === JSON.stringify(usedBy(list));
        },
        () => `the series hold ${JSON.stringify(usedBy(list))}, not ${JSON.stringify(seen)}`,
        SERIES_MS_MAX,
      );
      for (const step of ['hour', 'day', 'month']) {
        const asked = (by: string): string => `usage/series?by=${by}&${range(step)}`;
        for (const customer of list) {
          const { subscriptionId } = customer;
          const path = `${asked('subscription')}&subscriptionId=${subscriptionId}`;
          const own = { [subscriptionId]: usedBy([customer]) };
          expect(totals(await json<Series>(tenantId, path)), step).toEqual(own);
          expect(totalsOf(await csv(tenantId, path), 0), step).toEqual(own);
        }
        for (const [by, key] of [
          ['tenant', tenantId],
          ['engine', 'xray'],
        ] as const) {
          expect(totals(await json<Series>(tenantId, asked(by))), `${by} ${step}`).toEqual({
            [key]: usedBy(list),
          });
          expect(totalsOf(await csv(tenantId, asked(by)), 0), `${by} ${step}`).toEqual({
            [key]: usedBy(list),
          });
        }
        const byNode = totals(await json<Series>(tenantId, asked('node')));
        expect(Object.keys(byNode).sort()).toEqual(nodes.map(({ nodeId }) => nodeId).sort());
        expect(summed(Object.values(byNode))).toEqual(usedBy(list));
      }
    }
  },
);

function penstock(args: string[], input = ''): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], {
    ...{ encoding: 'utf8', input, cwd: scratch },
    env: { HOME: scratch, PATH: process.env['PATH'] ?? '' },
  });
  expect(status, `${args.join(' ')}: ${stdout}${stderr}`).toBe(0);
  return stdout;
}

test(
  'preview, statement, its CSV and its file hold the ledger’s bytes, and the file verifies without the product',
  { timeout: 120_000 },
  async () => {
    const tenantId = world.tenantId;
    const list = ofTenant(tenantId);
    const { closesAt, ...preview } = await json<{ closesAt: string; month: string; usage: Used }>(
      tenantId,
      'statements/preview',
    );
    expect(preview.usage).toEqual(usedBy(list));
    await closeAt(Date.parse(closesAt));
    const base = ['--api', world.stack.edges.api, '--data', world.stack.paths.dir];
    penstock([...base, 'login', '--email', 'owner@example.test'], `${PASSWORD}\n`);
    penstock([...base, 'use', tenantId]);
    const statements = JSON.parse(penstock([...base, '--json', 'statement', 'list'])) as {
      statementId: string;
      month: string;
      usage: Used;
      corrections: Used;
    }[];
    expect(statements).toMatchObject([{ month: preview.month, usage: usedBy(list), lines: list.length }]);
    const { statementId = '' } = statements[0] ?? {};
    const expected = Object.fromEntries(
      list.map((customer) => [customer.subscriptionId, usedBy([customer])]),
    );
    const [file, sheet] = [join(scratch, 'statement.ndjson'), join(scratch, 'statement.csv')];
    penstock([...base, 'statement', 'download', statementId, '--out', file]);
    penstock([...base, 'statement', 'download', statementId, '--csv', '--out', sheet]);
    const lines = readFileSync(file, 'utf8').trimEnd().split('\n').slice(2);
    const rows = lines.map((line) => JSON.parse(line) as string[]);
    expect(totalsOf(rows, 1)).toEqual(expected);
    const [header = '', ...records] = readFileSync(sheet, 'utf8').trimEnd().split('\r\n');
    const column = header.split(',').findIndex((name) => name.startsWith('subscription'));
    expect(
      totalsOf(
        records.map((record) => record.split(',')),
        column,
      ),
    ).toEqual(expected);
    const keys = JSON.parse(penstock([...base, '--json', 'statement', 'keys'])) as { fingerprint: string }[];
    // An auditor's machine: neither the product nor who is signed in.
    penstock(['statement', 'verify', file, '--key', keys[0]?.fingerprint ?? '']);
    // The other tenant's is its own.
    const others = customers.filter((customer) => customer.tenantId !== tenantId);
    const theirs = await json<{ items: { usage: Used }[] }>(others[0]?.tenantId ?? '', 'statements');
    expect(theirs.items).toMatchObject([{ usage: usedBy(others) }]);
  },
);

/** Everything that is due at this time is closed. */
async function closeAt(ms: number): Promise<void> {
  const pool = createPool(world.stack.databaseUrl('penstock_scheduler'), { applicationName: 'e2e' });
  const dataKey = Buffer.from(
    readFileSync(join(world.stack.paths.secrets, 'data-key'), 'utf8').trim(),
    'base64',
  );
  try {
    const deps = { pool, dataKey, log: createLogger('scheduler', 'fatal') };
    expect(await closeDue({ ...deps, metrics: schedulerMetrics(createMetrics()) }, ms - 1)).toBe(0);
    const closed = await closeDue({ ...deps, metrics: schedulerMetrics(createMetrics()) }, ms + GRACE_MS);
    expect(closed).toBeGreaterThanOrEqual(2);
  } finally {
    await pool.end();
  }
}
