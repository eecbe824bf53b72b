// 10,000 subscriptions by one request over HTTP: secrets made and sealed, rows, changes and the audit row in one durable
// transaction. Also how long until the scheduler has decided all of them. Anchor: the same number of rows by one INSERT
// into the same table over pg, rolled back, in the same round.
//
// Measured on two processors at load 3.8, PostgreSQL 18, three rounds: 0.47 / 0.56 / 0.57 s, anchor 0.24 / 0.30 / 0.32 s; all
// decided after 1.5 / 1.8 / 9.4 s (the first with cold plans).
import { createClient } from '@penstock/db/pool';
import { customer } from './api-get.js';
import { Connection, requestBytes } from './http-load.js';
import { makeGround, quiet, until } from './processes.js';
import { median, round, spread, type BenchOptions, type BenchResult } from './result.js';

const COUNT = 10_000;
/** Seconds. */
const FLOOR = 10;

type Sql = ReturnType<typeof createClient>;

export async function bench(options: BenchOptions): Promise<BenchResult> {
  const count = options.count ?? COUNT;
  const ground = await makeGround();
  const sql = createClient(ground.database.superuserUrl, 'penstock-bench');
  await sql.connect();
  try {
    const api = await ground.startApi({ RATE_LIMIT_FACTOR: '10000' });
    await ground.start('scheduler');
    const { token, subscriptionId } = await customer(api);
    const { rows } = await sql.query<{ id: string }>('SELECT plan_id AS id FROM subscription LIMIT 1');
    const body = JSON.stringify({ planId: rows[0]?.id, namePattern: 'user-{n}', count });
    const request = requestBytes({
      ...{ method: 'POST', path: '/api/v1/subscriptions/bulk', body },
      headers: { authorization: `Bearer ${token}` },
    });
    const [values, anchors, decided, foreign]: number[][] = [[], [], [], []];
    const connection = new Connection(api.port);
    for (let n = 0; n < options.rounds; n++) {
      foreign?.push(await quiet());
      const anchor = await anchorSeconds(sql, subscriptionId, count);
      const started = performance.now();
      const reply = await connection.ask(request);
      if (reply.status !== 201) throw new Error(`answered ${reply.status}: ${reply.body.slice(0, 300)}`);
      const seconds = reply.ms / 1_000;
      await until('all are decided', async () => (await undecided(sql)) === 0);
      const all = (performance.now() - started) / 1_000;
      values?.push(seconds);
      anchors?.push(anchor);
      decided?.push(all);
      options.say(`round ${n + 1}: ${round(seconds)} s, decided ${round(all)} s, anchor ${round(anchor)} s`);
    }
    connection.close();
    const made = values ?? [];
    return {
      ...{ name: 'bulk-create', value: round(median(made)), unit: 's', anchor: round(median(anchors ?? [])) },
      ratio: round(median(made.map((value, i) => value / (anchors?.[i] ?? Number.NaN)))),
      ...{ rounds: spread(made), good: median(made) <= FLOOR },
      also: {
        'until the scheduler has decided all, s': spread(decided ?? []).join(' / '),
        foreignCpu: round(median(foreign ?? [])),
      },
    };
  } finally {
    await sql.end();
    await ground.close();
  }
}

async function undecided(sql: Sql): Promise<number> {
  const { rows } = await sql.query<{ n: number }>(
    `SELECT (SELECT count(*) FROM subscription)::int - (SELECT count(*) FROM subscription_state)::int AS n`,
  );
  return rows[0]?.n ?? 0;
}

async function anchorSeconds(sql: Sql, like: string, count: number): Promise<number> {
  const started = performance.now();
  await sql.query('BEGIN');
  await sql.query(
    `INSERT INTO subscription (tenant_id, subscription_id, plan_id, name, engines, secret)
     SELECT tenant_id, gen_random_uuid(), plan_id, 'user-' || n, engines, secret
       FROM subscription CROSS JOIN generate_series(1, $2::integer) AS n WHERE subscription_id = $1`,
    [like, count],
  );
  await sql.query('ROLLBACK');
  return (performance.now() - started) / 1_000;
}
