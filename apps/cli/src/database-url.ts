// Where the database of `npm start` is, from the file that it keeps for each login role.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '@penstock/domain/errors';

export const databaseRoles = ['reader', 'control_api', 'scheduler', 'collector', 'partitions'] as const;

/** Throws invalid_input for an unknown role, not_found where the product was never started. */
export function databaseUrl(directory: string, role: string): string {
  if (!databaseRoles.includes(role as (typeof databaseRoles)[number])) {
    throw new AppError('invalid_input', `there is no role ${role}; there are ${databaseRoles.join(', ')}`, {
      field: 'role',
    });
  }
  try {
    return readFileSync(join(directory, 'secret', 'database', `penstock_${role}.url`), 'utf8').trim();
  } catch (cause) {
    throw new AppError(
      'not_found',
      `there is no database below ${directory}: run npm start first, or name it with --data`,
      { cause },
    );
  }
}
