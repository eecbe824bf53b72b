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

/**
 * From this many elements of one value on, a statement is planned for what it is given. A prepared one keeps the plan
 * that was made for few rows, perhaps on an empty table: with 12,000 confirmations that plan compared each with each and
 * never came through.
 */
const LARGE_SET = 64;

/**
 * Runs a registered statement: as a prepared one, or planned anew for a large set. Throws AppError for what errors.ts
 * knows.
 */
export async function run<Row extends QueryResultRow>(
  runner: Runner,
  query: Statement<Row>,
  values: unknown[] = [],
): Promise<Row[]> {
  try {
    const large = values.some((value) => Array.isArray(value) && value.length >= LARGE_SET);
    // Without a name the server plans with the values at hand.
    const result = await runner.query({ name: large ? '' : query.name, text: query.text, values });
    return result.rows as Row[];
  } catch (error) {
    throw translateDatabaseError(error);
  }
}

export function registeredStatements(): ReadonlyMap<string, string> {
  return registered;
}
