// Transactions. The tenant is set inside the transaction (is_local), so a pooled connection never carries it over.
import type { Client, Pool } from './pool.js';
import { sqlState, translateDatabaseError } from './errors.js';

export interface TransactionSettings {
  /** control-api: the one tenant of this transaction. */
  tenantId?: string;
  /** control-api: the signed-in account, before a tenant is chosen. */
  accountId?: string;
  /** collector: the tenants that the sending nodes serve. */
  tenantIds?: readonly string[];
}

/** Serialisation failures and deadlocks are tried again this often. */
export const RETRIES_MAX = 3;

/**
 * BEGIN, settings, `work`, COMMIT. Rolls back and throws on any error; 40001 and 40P01 run `work` again, so it must
 * have no effect outside the transaction.
 */
export async function withTransaction<T>(
  pool: Pool,
  work: (client: Client) => Promise<T>,
  settings: TransactionSettings = {},
): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    const client = await pool.connect().catch((error: unknown) => {
      throw translateDatabaseError(error);
    });
    let broken: Error | undefined;
    try {
      await begin(client, settings);
      const result = await work(client);
      await client.query('COMMIT');
      return result;
    } catch (error) {
      await client.query('ROLLBACK').catch((rollbackError: unknown) => {
        broken = rollbackError as Error;
      });
      const state = sqlState((error as { cause?: unknown }).cause ?? error);
      if ((state === '40001' || state === '40P01') && attempt < RETRIES_MAX) continue;
      throw translateDatabaseError(error);
    } finally {
      client.release(broken);
    }
  }
}

/**
 * A part of an open transaction that can fail alone: SAVEPOINT, settings of its own, `work`, RELEASE. After an error
 * everything of the part is undone and the transaction goes on; a deadlock runs `work` again. The settings stay.
 */
export async function withSavepoint<T>(
  client: Client,
  work: () => Promise<T>,
  settings: TransactionSettings,
): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    await client.query('SAVEPOINT part');
    try {
      await applySettings(client, settings);
      const result = await work();
      await client.query('RELEASE SAVEPOINT part');
      return result;
    } catch (error) {
      await client.query('ROLLBACK TO SAVEPOINT part');
      await client.query('RELEASE SAVEPOINT part');
      const state = sqlState((error as { cause?: unknown }).cause ?? error);
      if (state === '40P01' && attempt < RETRIES_MAX) continue;
      throw translateDatabaseError(error);
    }
  }
}

/** The statement that puts `settings` into the current transaction. It answers no row: nobody would read it. */
export function settingsQuery(settings: TransactionSettings): {
  name: string;
  text: string;
  values: string[];
} {
  return {
    name: 'transaction.settings',
    text: `SELECT WHERE concat(set_config('app.tenant_id', $1, true), set_config('app.account_id', $2, true),
                  set_config('app.tenant_ids', $3, true)) IS NULL`,
    values: [settings.tenantId ?? '', settings.accountId ?? '', settings.tenantIds?.join(',') ?? ''],
  };
}

/** One round trip: BEGIN and the settings are sent together and answered together. */
async function begin(client: Client, settings: TransactionSettings): Promise<void> {
  const started = client.query('BEGIN');
  if (
    settings.tenantId === undefined &&
    settings.accountId === undefined &&
    settings.tenantIds === undefined
  ) {
    await started;
    return;
  }
  await Promise.all([started, applySettings(client, settings)]);
}

/** Says whose rows the rest of the open transaction may see. */
export async function applySettings(client: Client, settings: TransactionSettings): Promise<void> {
  await client.query(settingsQuery(settings));
}
