// Address of the database, for psql and Grafana.
import type { Command } from 'commander';
import { databaseRoles, databaseUrl } from '../database-url.js';
import type { Context } from '../context.js';

export function databaseCommands(program: Command, context: Context): void {
  const database = program.command('db').description('the database of npm start');
  database
    .command('url')
    .description('address with password; the reader sees figures of all tenants and no secret')
    .option('--role <name>', databaseRoles.join(', '), 'reader')
    .action((options: { role: string }) => {
      const url = databaseUrl(context.dataDirectory(), options.role);
      const out = context.output();
      out.write(out.json ? JSON.stringify({ url }) + '\n' : `${url}\n`);
    });
}
