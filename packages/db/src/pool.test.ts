import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { testDatabase, type TestDatabase } from '@penstock/testkit/postgres';
import { createPool, type Pool } from './pool.js';

const TIMES = [
  ...['2026-11-22 23:26:00+00', '2026-11-22 23:26:00.1+00', '2026-02-28 00:00:00.123456+00'],
  ...['1999-12-31 23:59:59.999999+00', '0001-01-01 00:00:00+00', '0099-03-04 05:06:07.000001+00'],
  ...['12026-01-01 00:00:00+00', '0044-03-15 12:00:00+00 BC', 'infinity', '-infinity'],
];

let database: TestDatabase;
let pool: Pool;

beforeAll(async () => {
  database = await testDatabase();
  pool = createPool(database.superuserUrl, { applicationName: 'test', max: 1 });
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});

test.each(['UTC', 'Asia/Kolkata', 'America/New_York'])(
  'a time is the moment it is, written in %s',
  async (zone) => {
    await pool.query(`SELECT set_config('TimeZone', $1, false)`, [zone]);
    const parse = pg.types.getTypeParser(1184, 'text') as (text: string) => unknown;
    for (const time of TIMES) {
      const { rows } = await pool.query<{ at: unknown; text: string }>(
        'SELECT $1::timestamptz AS at, $1::timestamptz::text AS text',
        [time],
      );
      expect(rows[0]?.at, time).toEqual(parse(rows[0]?.text ?? ''));
      if (rows[0]?.at instanceof Date) expect(rows[0].at.getTime(), time).not.toBeNaN();
    }
  },
);
