// A tenant's server is told of events: signed, once for each event, again while it fails, and never at an address that is
// not on the public internet.
import { execFileSync, spawnSync } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '@penstock/domain/clock';
import { newId, type TenantId, type WebhookId } from '@penstock/domain/ids';
import { sealSecret } from '@penstock/service/secret-box';
import { Egress, type CallResult } from '../src/webhooks/egress.js';
import { nextAttemptMs } from '../src/webhooks/retry.js';
import { dataKey, eventually, World } from './world.js';

interface Call {
  headers: Record<string, string | string[] | undefined>;
  body: string;
}

const SECRET = 'whsec_test';
const NAME = 'localhost';
/** Spellings of inner addresses that are tried while packets are counted. */
const INSIDE = 500;
/** A port of nothing else on this machine. */
const COUNTED_PORT = '44389';
const canCount = process.getuid?.() === 0 && spawnSync('nft', ['list', 'tables']).status === 0;

/** 32 random bits at a time, from a seed (mulberry32). */
function seededBits(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
}

let world: World;
let server: Server;
let port: string;
let ca: string;
let calls: Call[] = [];
let answer: (call: Call) => number = () => 200;

beforeAll(async () => {
  world = await World.create();
  const { tls } = await world.trust.service('control-api');
  ca = tls.root;
  server = createServer({ key: tls.key, cert: tls.cert }, (request, response) => {
    let body = '';
    request.on('data', (part: Buffer) => (body += part.toString()));
    request.on('end', () => {
      const call = { headers: request.headers, body };
      calls.push(call);
      response.statusCode = answer(call);
      if (response.statusCode === 302) response.setHeader('location', `https://${NAME}:${port}/elsewhere`);
      response.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  port = String((server.address() as AddressInfo).port);
});
afterAll(async () => {
  server.close();
  await world.close();
});
beforeEach(() => {
  calls = [];
  answer = () => 200;
});

const lookup = (): Promise<{ address: string; family: number }[]> =>
  Promise.resolve([{ address: '127.0.0.1', family: 4 }]);
const webhookEgress = (): object => ({ allow: ['127.0.0.1/32'], lookup, ports: new Set([port]), ca });

async function addWebhook(events: string[]): Promise<{ tenantId: TenantId; webhookId: WebhookId }> {
  const tenantId = newId<TenantId>();
  const webhookId = newId<WebhookId>();
  await world.admin.query(
    `INSERT INTO tenant (tenant_id, name, name_key, kind) VALUES ($1, $2, $2, 'customer')`,
    [tenantId, `t ${tenantId}`],
  );
  const seal = (table: string, text: string): Buffer =>
    sealSecret(dataKey, Buffer.from(text), { table, tenant: tenantId, row: webhookId });
  await world.admin.query(
    `INSERT INTO webhook (tenant_id, webhook_id, name, url, origin, events, secret) VALUES ($1, $2, 'hook', $3, 'o', $4, $5)`,
    [
      ...[tenantId, webhookId, seal('webhook_url', `https://${NAME}:${port}/hook?token=canary`)],
      ...[events, seal('webhook', SECRET)],
    ],
  );
  return { tenantId, webhookId };
}

async function emit(tenantId: TenantId, type: string): Promise<void> {
  await world.admin.query(`INSERT INTO event (tenant_id, type, entity) VALUES ($1, $2, $3)`, [
    ...[tenantId, type, type.split('.')[0]],
  ]);
}

async function deliveries(webhookId: WebhookId): Promise<Record<string, unknown>[]> {
  const { rows } = await world.admin.query<Record<string, unknown>>(
    'SELECT state, attempts, http_status, error, type FROM webhook_delivery WHERE webhook_id = $1 ORDER BY delivery_id',
    [webhookId],
  );
  return rows;
}

describe('deliveries', () => {
  test('each event that is wanted is told once, signed, by two schedulers together [R3-07]', async () => {
    const { tenantId, webhookId } = await addWebhook(['subscription.*', 'plan.create']);
    const other = await addWebhook(['*']);
    const schedulers = [
      await world.scheduler({ webhookEgress: webhookEgress() }),
      await world.scheduler({ webhookEgress: webhookEgress() }),
    ];
    for (let n = 0; n < 20; n++) await emit(tenantId, 'subscription.state');
    await emit(tenantId, 'plan.create');
    await emit(tenantId, 'plan.update');
    await eventually(
      async () => (await deliveries(webhookId)).filter(({ state }) => state === 'delivered').length === 21,
    );
    expect(calls).toHaveLength(21);
    expect(await deliveries(other.webhookId)).toEqual([]);
    const ids = new Set<unknown>();
    for (const { headers, body } of calls) {
      const { 'webhook-id': id, 'webhook-timestamp': at, 'webhook-signature': signature } = headers;
      const signed = createHmac('sha256', SECRET)
        .update(`${String(id)}.${String(at)}.${body}`)
        .digest('base64');
      expect(signature).toBe(`v1,${signed}`);
      expect(Math.abs(Number(at) - systemClock.now() / 1000)).toBeLessThan(30);
      expect(JSON.parse(body)).toMatchObject({ deliveryId: id });
      ids.add(id);
    }
    expect(ids.size).toBe(21);
    for (const scheduler of schedulers) await world.stop(scheduler);
  });

  test('a server that is away for a moment loses nothing, and its webhook stays on', async () => {
    const { tenantId, webhookId } = await addWebhook(['subscription.state']);
    let up = false;
    answer = () => (up ? 200 : 500);
    const scheduler = await world.scheduler({ webhookEgress: webhookEgress() });
    for (let n = 0; n < 200; n++) await emit(tenantId, 'subscription.state');
    await eventually(() => calls.length >= 4);
    up = true;
    const done = async (): Promise<boolean> =>
      (await deliveries(webhookId)).filter(({ state }) => state === 'delivered').length >= 196;
    await eventually(done, 20_000);
    const { rows } = await world.admin.query('SELECT enabled FROM webhook WHERE webhook_id = $1', [
      webhookId,
    ]);
    expect(rows).toEqual([{ enabled: true }]);
    // Those that met the closed door come at their own next time; no other was tried while it was closed.
    for (const { state, attempts } of await deliveries(webhookId)) {
      expect(['delivered 1', 'delivered 2', 'pending 1']).toContain(`${String(state)} ${String(attempts)}`);
    }
    expect((await deliveries(webhookId)).filter(({ attempts }) => attempts === 2).length).toBeLessThanOrEqual(
      4,
    );
    await world.stop(scheduler);
  });

  test('fifty failures in a row switch the webhook off, told once, and nothing waits for it any more [R3-11]', async () => {
    const { tenantId, webhookId } = await addWebhook(['subscription.state']);
    await world.admin.query(
      'INSERT INTO webhook_health (tenant_id, webhook_id, failures) VALUES ($1, $2, 49)',
      [tenantId, webhookId],
    );
    answer = () => 500;
    for (let n = 0; n < 20; n++) await emit(tenantId, 'subscription.state');
    const scheduler = await world.scheduler({ webhookEgress: webhookEgress() });
    await eventually(async () => {
      const { rows } = await world.admin.query(
        'SELECT 1 FROM webhook WHERE webhook_id = $1 AND NOT enabled',
        [webhookId],
      );
      return rows.length === 1;
    });
    const told = await world.admin.query(
      `SELECT data FROM event WHERE tenant_id = $1 AND type = 'webhook.disabled'`,
      [tenantId],
    );
    expect(told.rows).toEqual([{ data: { reason: 'it failed 50 times in a row' } }]);
    await eventually(async () => (await deliveries(webhookId)).every(({ state }) => state === 'failed'));
    await world.stop(scheduler);
  });

  test('what waits for one tenant’s server takes nobody else’s turn', async () => {
    const slow = await addWebhook(['plan.create']);
    const quick = await addWebhook(['plan.create']);
    await world.admin.query(
      `INSERT INTO webhook_delivery (tenant_id, webhook_id, type, body, next_at, created_at)
       SELECT $1, $2, 'plan.create', '{}', now() - interval '1 h', now() FROM generate_series(1, 6000)`,
      [slow.tenantId, slow.webhookId],
    );
    answer = () => 500;
    await emit(quick.tenantId, 'plan.create');
    const scheduler = await world.scheduler({ webhookEgress: webhookEgress() });
    await eventually(async () =>
      (await deliveries(quick.webhookId)).some(({ attempts }) => Number(attempts) > 0),
    );
    await world.admin.query('DELETE FROM webhook WHERE webhook_id = $1', [slow.webhookId]);
    await world.stop(scheduler);
  });

  test('while a secret is being rotated both sign [R3-10]', async () => {
    const { tenantId, webhookId } = await addWebhook(['plan.create']);
    await world.admin.query(
      `UPDATE webhook SET old_secret = secret, old_until = now() + interval '1 day', secret = $2 WHERE webhook_id = $1`,
      [
        webhookId,
        sealSecret(dataKey, Buffer.from('whsec_new'), { table: 'webhook', tenant: tenantId, row: webhookId }),
      ],
    );
    const scheduler = await world.scheduler({ webhookEgress: webhookEgress() });
    await emit(tenantId, 'plan.create');
    await eventually(() => calls.length === 1);
    expect(String(calls[0]?.headers['webhook-signature']).split(' ')).toHaveLength(2);
    await world.stop(scheduler);
  });
});

describe('V37 whom a webhook may call [R3-12]', () => {
  const post = (url: string, options: Record<string, unknown> = {}): Promise<CallResult> =>
    new Egress({ clock: systemClock, ports: new Set(['', '443', port]), ca, lookup, ...options }).post(
      new URL(url),
      {},
      '{}',
    );

  const inside = [
    ...[
      '127.0.0.1',
      '10.0.0.1',
      '172.16.0.9',
      '192.168.1.1',
      '169.254.169.254',
      '100.64.0.1',
      '0.0.0.0',
      '224.0.0.1',
    ],
    ...['2130706433', '0x7f000001', '0177.0.0.1', '127.1', '255.255.255.255', '168.63.129.16', '192.0.0.8'],
    ...[
      '[::1]',
      '[::]',
      '[::ffff:127.0.0.1]',
      '[fe80::1]',
      '[fd00:ec2::254]',
      '[64:ff9b::7f00:1]',
      '[2002:7f00:1::]',
      '[ff02::1]',
    ],
  ];
  test.each(inside)('%s is refused', async (host) => {
    expect(await post(`https://${host}/`)).toEqual({ ok: false, error: 'address_refused', status: null });
  });

  test.runIf(canCount)(
    `${INSIDE} addresses inside, in every spelling and behind names: no packet leaves for one (as root) [G16]`,
    { timeout: 120_000 },
    async () => {
      const random = seededBits(37);
      const bases: [number, number, number][] = [
        ...([
          [10, 0, 8],
          [127, 0, 8],
          [172, 16, 12],
          [192, 168, 16],
          [169, 254, 16],
        ] as [number, number, number][]),
        ...([
          [100, 64, 10],
          [0, 0, 8],
          [224, 0, 4],
          [240, 0, 4],
        ] as [number, number, number][]),
      ];
      const hex = (n: number, digits = 0): string => n.toString(16).padStart(digits, '0');
      const spellings = (address: number): string[] => {
        const [a, b, c, d] = [
          address >>> 24,
          (address >>> 16) & 255,
          (address >>> 8) & 255,
          address & 255,
        ] as const;
        const [high, low] = [hex(address >>> 16), hex(address & 0xffff)];
        return [
          ...[`${a}.${b}.${c}.${d}`, `${address}`, `0x${hex(address, 8)}`, `0${address.toString(8)}`],
          ...[`0x${hex(a)}.0x${hex(b)}.0x${hex(c)}.0x${hex(d)}`, `0${a.toString(8)}.${b}.${c}.${d}`],
          ...[`${a}.${address & 0xffffff}`, `${a}.${b}.${address & 0xffff}`, `${a}.${b}.${c}.${d}.`],
          ...[`[::ffff:${a}.${b}.${c}.${d}]`, `[::ffff:${high}:${low}]`, `[64:ff9b::${high}:${low}]`],
          ...[
            `[2002:${high}:${low}::1]`,
            `[::${a}.${b}.${c}.${d}]`,
            `[fd00::${high}:${low}]`,
            `[fe80::${low}]`,
          ],
        ];
      };
      const addresses = bases.flatMap(([a, b, bits]) =>
        Array.from({ length: 4 }, () => {
          const base = ((a << 24) | (b << 16)) >>> 0;
          return (base | (random() >>> bits)) >>> 0;
        }),
      );
      const hosts = addresses.flatMap(spellings);
      expect(hosts.length).toBeGreaterThanOrEqual(INSIDE);
      // Every first packet of a connection to this port, wherever it is for, is counted.
      const table = `penstock_g16_${process.pid}`;
      const nft = (script: string): string =>
        execFileSync('nft', ['-f', '-'], { input: script, encoding: 'utf8' });
      nft(`table inet ${table} { counter dialled {}
        chain out { type filter hook output priority 0; tcp dport ${COUNTED_PORT} tcp flags & (syn | ack) == syn counter name dialled;
        }
      }`);
      const packets = (): number => {
        const listed = execFileSync('nft', ['list', 'counter', 'inet', table, 'dialled'], {
          encoding: 'utf8',
        });
        return Number(/packets (\d+)/.exec(listed)?.[1]);
      };
      try {
        // The counter counts: one that is allowed is dialled, and nobody listens there.
        const ports = new Set([COUNTED_PORT]);
        const call = async (host: string, options: object = {}): Promise<CallResult> =>
          post(`https://${host}:${COUNTED_PORT}/`, { ports, ...options });
        expect(await call('127.0.0.1', { allow: ['127.0.0.1/32'] })).toMatchObject({ ok: false });
        const counted = packets();
        expect(counted).toBeGreaterThan(0);
        for (const host of hosts) {
          const address = host.replace(/[[\]]/g, '');
          const inner = { address, family: host.startsWith('[') ? 6 : 4 };
          // The address itself, and behind a name, as a resolver writes it: alone, and beside one that is public.
          const results = await Promise.all([
            call(host),
            call('inner.test', { lookup: () => Promise.resolve([inner]) }),
            call('both.test', {
              lookup: () => Promise.resolve([{ address: '203.0.113.9', family: 4 }, inner]),
            }),
          ]);
          const refused = { ok: false, error: 'address_refused', status: null };
          expect(results, host).toEqual([refused, refused, refused]);
        }
        expect(packets()).toBe(counted);
      } finally {
        nft(`delete table inet ${table}`);
      }
    },
  );

  test('a name is refused when one of its addresses is inside', async () => {
    const both = (): Promise<{ address: string; family: number }[]> =>
      Promise.resolve([
        { address: '203.0.113.9', family: 4 },
        { address: '10.1.2.3', family: 4 },
      ]);
    expect(await post('https://name.test/', { lookup: both })).toMatchObject({ error: 'address_refused' });
  });

  test('the address that was checked is the one that is dialled: a name is looked up once', async () => {
    let looked = 0;
    const alternating = (): Promise<{ address: string; family: number }[]> =>
      Promise.resolve([{ address: looked++ === 0 ? '127.0.0.1' : '127.0.0.2', family: 4 }]);
    const result = await post(`https://${NAME}:${port}/`, { lookup: alternating, allow: ['127.0.0.1/32'] });
    expect(result).toEqual({ ok: true, status: 200 });
    expect(looked).toBe(1);
  });

  test.each([
    'http://example.org/',
    'https://example.org:22/',
    'https://user:word@example.org/',
    'ftp://example.org/',
  ])('%s is refused [R3-09]', async (url) => {
    expect(await post(url)).toEqual({ ok: false, error: 'url_refused', status: null });
  });

  test('a redirect is not followed', async () => {
    answer = () => 302;
    const result = await post(`https://${NAME}:${port}/`, { allow: ['127.0.0.1/32'] });
    expect(result).toEqual({ ok: false, error: 'status', status: 302 });
    expect(calls).toHaveLength(1);
  });

  test('a certificate for another name is refused', async () => {
    const result = await post(`https://elsewhere.test:${port}/`, { allow: ['127.0.0.1/32'] });
    expect(result).toEqual({ ok: false, error: 'tls_failed', status: null });
  });

  test('an answer that drips is given up after five seconds in all [R3-03]', async () => {
    const { tls } = await world.trust.service('control-api');
    const slow = createServer({ key: tls.key, cert: tls.cert }, (_request, response) => {
      const drip = setInterval(() => response.write('x'), 200);
      response.on('close', () => clearInterval(drip));
    });
    await new Promise<void>((resolve) => slow.listen(0, '127.0.0.1', resolve));
    const slowPort = String((slow.address() as AddressInfo).port);
    const began = performance.now();
    const result = await post(`https://${NAME}:${slowPort}/`, {
      ...{ allow: ['127.0.0.1/32'], ports: new Set([slowPort]) },
    });
    expect(result).toEqual({ ok: false, error: 'timeout', status: null });
    expect(performance.now() - began).toBeGreaterThan(4_500);
    expect(performance.now() - began).toBeLessThan(7_000);
    slow.closeAllConnections();
    slow.close();
  });
});

test('attempts are spread over two days and end', () => {
  let all = 0;
  let attempts = 1;
  for (let ms = nextAttemptMs(attempts, 0.5); ms !== null; ms = nextAttemptMs(++attempts, 0.5)) all += ms;
  expect(attempts).toBe(12);
  expect(all).toBeGreaterThan(36 * 3_600_000);
  expect(all).toBeLessThan(48 * 3_600_000);
});
