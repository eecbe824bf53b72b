// Every query of the product is registered here by name, so that a test can PREPARE each against the migrated schema:
// a typo or a dropped column fails at once. Names are unique; text is constant (there is no string-built SQL).
import type { QueryResult, QueryResultRow } from 'pg';
import { translateDatabaseError } from './errors.js';

export interface Statement<Row extends QueryResultRow> {
  readonly name: string;
  readonly text: string;
  /** Only for the type. */
  readonly row?: Row;
}

/** Anything that runs a query: a pool, a pooled client, a client. */
export interface Runner {
  query(config: { name: string; text: string; values: unknown[] }): Promise<Pick<QueryResult, 'rows'>>;
}

const registered = new Map<string, string>();

/** `name`: at most 63 characters, `noun.verb`. Columns are aliased to camelCase in the SELECT, so a row is the type. */
export function statement<Row extends QueryResultRow>(name: string, text: string): Statement<Row> {
  const known = registered.get(name);
  if (known !== undefined && known !== text) throw new Error(`two statements are called ${name}`);
  registered.set(name, text);
  return { name, text };
}

/** Runs a registered statement as a prepared one. Throws AppError for what errors.ts knows. */
export async function run<Row extends QueryResultRow>(
  runner: Runner,
  query: Statement<Row>,
  values: unknown[] = [],
): Promise<Row[]> {
  try {
    const result = await runner.query({ name: query.name, text: query.text, values });
    return result.rows as Row[];
  } catch (error) {
    throw translateDatabaseError(error);
  }
}

export function registeredStatements(): ReadonlyMap<string, string> {
  return registered;
}
