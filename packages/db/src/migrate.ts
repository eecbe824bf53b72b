// Makes the database: roles, the database itself owned by penstock_owner, and the migrations. Run by a command with
// a superuser's address, never by a service at its start. Safe to run again, and by two at a time.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import Postgrator from 'postgrator';
import { createClient } from './pool.js';

export const serviceRoles = [
  'penstock_control_api',
  'penstock_scheduler',
  'penstock_collector',
  'penstock_partitions',
  'penstock_reader',
] as const;
export type ServiceRole = (typeof serviceRoles)[number];

const packageDir = fileURLToPath(new URL('..', import.meta.url));
const MIGRATION_LOCK = 7_736_178;

export function migrationsDirectory(): string {
  return `${packageDir}migrations`;
}

/** The same server address with another database. */
export function withDatabase(url: string, database: string): string {
  const parsed = new URL(url);
  parsed.pathname = `/${database}`;
  return parsed.href;
}

/** Creates the roles with these passwords and the database. `superuserUrl` names any database of the cluster. */
export async function bootstrap(
  superuserUrl: string,
  database: string,
  passwords: Readonly<Record<ServiceRole, string>>,
): Promise<void> {
  const client = createClient(superuserUrl, 'penstock-bootstrap');
  await client.connect();
  try {
    await client.query('SELECT pg_advisory_lock($1)', [MIGRATION_LOCK]);
    await client.query(readFileSync(`${packageDir}roles.sql`, 'utf8'));
    for (const role of serviceRoles) {
      // ALTER ROLE takes no parameters; both parts are quoted by the driver.
      await client.query(
        `ALTER ROLE ${client.escapeIdentifier(role)} PASSWORD ${client.escapeLiteral(passwords[role])}`,
      );
    }
    const existing = await client.query('SELECT FROM pg_database WHERE datname = $1', [database]);
    if (existing.rowCount === 0) {
      await client.query(`CREATE DATABASE ${client.escapeIdentifier(database)} OWNER penstock_owner`);
      await client.query(`REVOKE ALL ON DATABASE ${client.escapeIdentifier(database)} FROM PUBLIC`);
      for (const role of serviceRoles) {
        await client.query(
          `GRANT CONNECT ON DATABASE ${client.escapeIdentifier(database)} TO ${client.escapeIdentifier(role)}`,
        );
      }
    }
  } finally {
    await client.end();
  }
}

/** Brings `database` to the newest migration; returns the files that ran. */
export async function migrate(superuserUrl: string, database: string): Promise<string[]> {
  const client = createClient(withDatabase(superuserUrl, database), 'penstock-migrate');
  await client.connect();
  try {
    await client.query('SELECT pg_advisory_lock($1)', [MIGRATION_LOCK]);
    await client.query('SET ROLE penstock_owner');
    const postgrator = new Postgrator({
      migrationPattern: `${migrationsDirectory()}/*.sql`,
      driver: 'pg',
      schemaTable: 'schema_migration',
      execQuery: (text) => client.query(text),
    });
    const ran = await postgrator.migrate();
    return ran.map((migration) => migration.filename.split('/').at(-1) ?? '');
  } finally {
    await client.end();
  }
}
