// The first page of a tenant's subscriptions at 1,000,000 of them, in every order, for each filter and for searches: asked
// of control-api over HTTP, one request at a time. Judged: the worst kind, by the median of its rounds' p99. Anchor: 51 rows of the same table
// by its primary key over pg, in the same round.
//
// Measured on two processors that others kept busy (load 6.6), PostgreSQL 18, three rounds: the worst kind (200 rows) p99
// 11.7 / 18.0 / 25.8 ms, the default page 7.9 / 8.6 / 16.2 ms, searches 7 to 11 ms; anchor 6.7 / 11.7 / 12.7 ms.
import { createClient } from '@penstock/db/pool';
import { customer } from './api-get.js';
import { Connection, requestBytes } from './http-load.js';
import { makeGround, quiet } from './processes.js';
import { median, quantile, round, spread, type BenchOptions, type BenchResult } from './result.js';

const SUBSCRIPTIONS = 1_000_000;
/** Requests of each kind a round. */
const REQUESTS = 200;
/** p99 in ms. */
const FLOOR = 50;

type Sql = ReturnType<typeof createClient>;

export async function bench(options: BenchOptions): Promise<BenchResult> {
  const ground = await makeGround();
  const sql = createClient(ground.database.superuserUrl, 'penstock-bench');
  await sql.connect();
  try {
    const api = await ground.startApi({ RATE_LIMIT_FACTOR: '10000' });
    const { token, subscriptionId } = await customer(api);
    const count = options.count ?? SUBSCRIPTIONS;
    const rare = await seed(sql, subscriptionId, count);
    options.say(`${count} subscriptions stand`);
    const queries = kinds(rare);
    const connection = new Connection(api.port);
    const worst: number[] = [];
    const anchors: number[] = [];
    const of = new Map<string, number[]>();
    const foreign: number[] = [];
    // The first round plans every statement and is not counted.
    for (let n = 0; n <= options.rounds; n++) {
      foreign.push(await quiet());
      const anchor = await anchorP99(sql, subscriptionId);
      const p99s: number[] = [];
      for (const query of queries) {
        const request = requestBytes({
          ...{ method: 'GET', path: `/api/v1/subscriptions?${query}` },
          headers: { authorization: `Bearer ${token}` },
        });
        const ms: number[] = [];
        for (let i = 0; i < REQUESTS; i++) {
          const reply = await connection.ask(request);
          if (reply.status !== 200 || !reply.body.includes('subscriptionId'))
            throw new Error(`${query}: answered ${reply.status} ${reply.body.slice(0, 200)}`);
          ms.push(reply.ms);
        }
        const p99 = quantile(ms, 0.99);
        p99s.push(p99);
        if (n > 0) of.set(query, [...(of.get(query) ?? []), p99]);
      }
      if (n === 0) continue;
      worst.push(Math.max(...p99s));
      anchors.push(anchor);
      options.say(`round ${n}: worst p99 ${round(Math.max(...p99s))} ms, anchor ${round(anchor)} ms`);
    }
    connection.close();
    const value = Math.max(...[...of.values()].map((p99s) => median(p99s)));
    return {
      ...{
        name: 'list-subscriptions',
        value: round(value),
        unit: 'ms p99',
        anchor: round(median(anchors)),
      },
      ratio: round(value / median(anchors)),
      ...{ rounds: spread(worst), good: value <= FLOOR },
      also: {
        ...Object.fromEntries([...of].map(([query, p99s]) => [`p99 ms ${query}`, spread(p99s).join(' / ')])),
        foreignCpu: round(median(foreign)),
      },
    };
  } finally {
    await sql.end();
    await ground.close();
  }
}

/** Every order, every filter that finds much and little, searches that find much and little. */
function kinds(rarePlanId: string): string[] {
  return [
    ...['', 'limit=200', 'sort=-createdAt', 'sort=name', 'sort=-name', 'sort=expiresAt', 'sort=-expiresAt'],
    ...['adminState=active', 'adminState=disabled', 'state=active', 'state=expired', 'state=on_hold'],
    ...['state=expired&sort=-createdAt', `planId=${rarePlanId}`, `planId=${rarePlanId}&sort=-createdAt`],
    ...['expiresBefore=2026-01-02T00:00:00Z', 'externalRef=order-500000'],
    ...['q=customer', 'q=customer-77', 'q=order-5', 'q=customer-999999'],
  ];
}

/** A million beside the first; returns a plan that few of them have. */
async function seed(sql: Sql, like: string, count: number): Promise<string> {
  await sql.query(`SET session_replication_role = replica; SET synchronous_commit = off`);
  const { rows } = await sql.query<{ id: string }>(
    `INSERT INTO plan (tenant_id, plan_id, name, name_key, engines)
     SELECT tenant_id, gen_random_uuid(), 'Rare', 'rare', engines FROM plan RETURNING plan_id AS id`,
  );
  const rare = rows[0]?.id ?? '';
  // Ids in the order of time; names in another order; one in 10,000 of the rare plan, disabled or on hold.
  await sql.query(
    `INSERT INTO subscription (tenant_id, subscription_id, plan_id, name, external_ref, admin_state, on_hold, limit_bytes, engines,
                               expires_at, activated_at, secret, deleted_at)
     SELECT s.tenant_id, (lpad(to_hex(1700000000000 + n), 12, '0') || '70008' || substr(md5(n::text), 1, 15))::uuid,
            CASE WHEN n % 10000 = 1 THEN $2::uuid ELSE s.plan_id END, 'customer-' || (n::bigint * 7919 % 1000000),
            CASE WHEN n % 2 = 0 THEN 'order-' || n END, CASE WHEN n % 10000 = 2 THEN 'disabled' ELSE 'active' END,
            n % 10000 = 3, s.limit_bytes, s.engines,
            CASE WHEN n % 5 > 0 THEN '2026-01-01'::timestamptz + (n::bigint * 7919 % 1000000) * interval '1 minute' END,
            now(), '', CASE WHEN n % 50 = 0 AND n <> 500000 THEN now() END
       FROM subscription s CROSS JOIN generate_series(1, $3::integer) AS n WHERE s.subscription_id = $1`,
    [like, rare, count],
  );
  await sql.query(
    `INSERT INTO subscription_state (tenant_id, subscription_id, effective_state, since)
     SELECT tenant_id, subscription_id, CASE WHEN on_hold THEN 'on_hold' WHEN expires_at < '2026-01-08' THEN 'expired'
            WHEN admin_state = 'disabled' THEN 'disabled' ELSE 'active' END, now() FROM subscription
     ON CONFLICT DO NOTHING`,
  );
  await sql.query('RESET session_replication_role');
  await sql.query('VACUUM ANALYZE subscription, subscription_state');
  return rare;
}

async function anchorP99(sql: Sql, id: string): Promise<number> {
  const ms: number[] = [];
  for (let i = 0; i < REQUESTS; i++) {
    const started = performance.now();
    await sql.query({
      name: 'anchor',
      text: `SELECT s.* FROM subscription s WHERE tenant_id = (SELECT tenant_id FROM subscription WHERE subscription_id = $1 LIMIT 1)
             ORDER BY tenant_id, subscription_id LIMIT 51`,
      values: [id],
    });
    ms.push(performance.now() - started);
  }
  return quantile(ms, 0.99);
}
