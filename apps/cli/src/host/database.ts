// The database of `npm start` itself, for what is done on the host and not over the API.
import { createPool, type Pool } from '@penstock/db/pool';
import type { Context } from '../context.js';
import { databaseUrl } from '../database-url.js';

const STATEMENT_TIMEOUT_MS = 60_000;

/** With control-api's login of `npm start`, which is readable on the host alone. */
export async function withHost<T>(context: Context, work: (pool: Pool) => Promise<T>): Promise<T> {
  const pool = createPool(databaseUrl(context.dataDirectory(), 'control_api'), {
    applicationName: 'penstock-cli',
    max: 2,
    statementTimeoutMs: STATEMENT_TIMEOUT_MS,
  });
  try {
    return await work(pool);
  } finally {
    await pool.end();
  }
}
