// Watches what each tenant with a pool has used in its calendar month. When that crosses the pool, or the month or the
// pool changes, the fact is kept and one access_change row of the whole tenant is left, in one statement: so each
// crossing and each release happens once, also after a downtime.
import { run, statement, type Runner } from '@penstock/db/statement';
import type { Task } from './driver.js';

export const POOL_INTERVAL_MS = 1_000;

const watch = statement<{ count: bigint }>(
  'pool.watch',
  `WITH due AS (
     SELECT t.tenant_id, d.exceeded
     FROM tenant t
     LEFT JOIN tenant_pool p ON p.tenant_id = t.tenant_id
     LEFT JOIN tenant_month m ON m.tenant_id = t.tenant_id
       AND m.month = month_of(statement_timestamp(), t.time_zone)
     CROSS JOIN LATERAL (
       SELECT t.limit_pool_bytes IS NOT NULL AND coalesce(m.billable_bytes, 0) >= t.limit_pool_bytes AS exceeded) d
     WHERE d.exceeded <> coalesce(p.exceeded, false)
   ), kept AS (
     INSERT INTO tenant_pool AS o (tenant_id, exceeded, since)
     SELECT tenant_id, exceeded, statement_timestamp() FROM due
     ON CONFLICT (tenant_id) DO UPDATE SET exceeded = excluded.exceeded, since = excluded.since
     RETURNING tenant_id, exceeded
   ), told AS (
     INSERT INTO access_change (tenant_id, change_id, cause)
     SELECT tenant_id, gen_random_uuid(), CASE WHEN exceeded THEN 'crossing' ELSE 'period' END FROM kept RETURNING 1
   )
   SELECT count(*) AS count FROM told`,
);

/** Returns how many tenants' pools were found used up or free again. */
export async function watchPools(db: Runner): Promise<number> {
  const [row] = await run(db, watch);
  return Number(row?.count ?? 0n);
}

export function poolWatch(): Task {
  return {
    name: 'pool-watch',
    intervalMs: POOL_INTERVAL_MS,
    async run(db) {
      await watchPools(db);
    },
  };
}
