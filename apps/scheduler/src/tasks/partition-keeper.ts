// Makes the ledger's day partitions 14 days ahead and the months of the hourly series, and drops months that are older
// than hours are kept, over a login that may become the owner and does nothing else. A day or month without a partition
// loses nothing (the default partition takes it), but should never happen.
import type { Pool } from '@penstock/db/pool';
import { withTransaction } from '@penstock/db/transaction';
import { run, statement } from '@penstock/db/statement';
import type { SchedulerMetrics } from '../metrics.js';
import type { Task } from './driver.js';

export const PARTITIONS_INTERVAL_MS = 3_600_000;
export const PARTITION_DAYS_AHEAD = 14;

// Partitions are by the day of acceptance, which the collector takes from the same server in UTC.
const makePartitions = statement<{ made: number }>(
  'partition.make',
  `SELECT public.make_partitions((statement_timestamp() AT TIME ZONE 'UTC')::date, $1) AS made`,
);

/** Windows may be 35 days old. */
const SERIES_MONTHS_BACK = 2;
const SERIES_MONTHS = 6;
/** Hours of usage are kept this long where the platform's settings say nothing; days for ever. */
export const SERIES_DAYS_KEPT = 400;
/** Late usage may still come, and its day is then made again from its hours. */
const SERIES_DAYS_LEAST = 62;

const readDaysKept = statement<{ days: number }>(
  'setting.usage_hour_days',
  `SELECT coalesce((SELECT (value #>> '{}')::int FROM setting WHERE key = 'usageHourDays'), $1)::int AS days`,
);

const makeSeries = statement<{ made: number }>(
  'partition.make_series',
  `SELECT public.make_series_partitions((statement_timestamp() - make_interval(months => $1))::date, $2) AS made`,
);

const dropSeries = statement<{ dropped: number }>(
  'partition.drop_series',
  'SELECT public.drop_series_partitions((statement_timestamp() - make_interval(days => $1))::date) AS dropped',
);

/** Makes what is missing from today on, drops months of hours; returns how many partitions were made. */
export async function keepPartitions(pool: Pool, daysKept = SERIES_DAYS_KEPT): Promise<number> {
  return withTransaction(pool, async (db) => {
    await db.query('SET LOCAL ROLE penstock_owner');
    const [days] = await run(db, makePartitions, [PARTITION_DAYS_AHEAD]);
    const [months] = await run(db, makeSeries, [SERIES_MONTHS_BACK, SERIES_MONTHS]);
    await run(db, dropSeries, [Math.max(daysKept, SERIES_DAYS_LEAST)]);
    return (days?.made ?? 0) + (months?.made ?? 0);
  });
}

export function partitionKeeper(partitionsPool: Pool, metrics: SchedulerMetrics): Task {
  return {
    name: 'partition-keeper',
    intervalMs: PARTITIONS_INTERVAL_MS,
    async run(db) {
      const [kept] = await run(db, readDaysKept, [SERIES_DAYS_KEPT]);
      const made = await keepPartitions(partitionsPool, kept?.days);
      metrics.partitionsCreated.inc({}, made);
    },
  };
}
