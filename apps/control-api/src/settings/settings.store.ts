// Platform settings: a row for each that was ever set. What stands in the table is checked again when it is read, so a
// value that a newer or older release wrote falls back to the default and never stops a request.
import { run, statement, type Runner } from '@penstock/db/statement';
import { defaultSettings, settings as schema, type Settings } from './settings.schema.js';
import type { Acting } from '../database.js';

const selectAll = statement<{ key: string; value: unknown; version: number }>(
  'setting.list',
  `SELECT key, value, version FROM setting ORDER BY key LIMIT 100`,
);

export interface StoredSettings {
  settings: Settings;
  /** Grows with every change; 0 while all are defaults. */
  version: number;
}

/** What holds now. Readable in every transaction, also without a tenant. */
export async function readSettings(client: Runner): Promise<StoredSettings> {
  const rows = await run(client, selectAll);
  const found: Record<string, unknown> = { ...defaultSettings };
  for (const { key, value } of rows) {
    const field = (schema.shape as Record<string, (typeof schema.shape)[keyof Settings] | undefined>)[key];
    const parsed = field?.safeParse(value);
    if (parsed?.success === true) found[key] = parsed.data;
  }
  return {
    settings: found as Settings,
    version: rows.reduce((sum, row) => sum + row.version, 0),
  };
}

const upsert = statement(
  'setting.upsert',
  `INSERT INTO setting AS s (key, value, updated_at) VALUES ($1, $2, $3)
   ON CONFLICT (key) DO UPDATE SET value = $2, version = s.version + 1, updated_at = $3`,
);

/** Needs the platform's transaction. */
export async function writeSetting({ client, at }: Acting, key: string, value: unknown): Promise<void> {
  await run(client, upsert, [key, JSON.stringify(value), at]);
}
