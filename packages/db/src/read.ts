// Reading with a tenant set, as one message: settings and statement go out together and are one implicit transaction by
// the protocol (everything up to Sync), so there is no BEGIN, no COMMIT and one answer. For reads of one statement each;
// whatever changes something uses transaction.ts. Measured for GET of a subscription: 4 writes and 3 answers became 1
// and 1.
import { createRequire } from 'node:module';
import type { Socket } from 'node:net';
import type pg from 'pg';
import { translateDatabaseError } from './errors.js';
import type { Pool } from './pool.js';
import { settingsQuery, type TransactionSettings } from './transaction.js';

interface ReadQuery {
  name: string;
  text: string;
  values: unknown[];
}

/** What we use of pg's connection: the messages of the extended protocol. */
interface Wire {
  readonly parsedStatements: Record<string, string>;
  stream: Pick<Socket, 'write' | 'writable'>;
  parse(message: { name: string; text: string }): void;
  bind(message: { statement: string; values: unknown[]; valueMapper: (value: unknown) => unknown }): void;
  describe(message: { type: 'P'; name: '' }): void;
  execute(message: { portal: ''; rows: 0 }): void;
  sync(): void;
}

interface Field {
  name: string;
  dataTypeID: number;
  format: string;
}

type Done = (error: Error | null, rows: Record<string, unknown>[]) => void;
type Parser = (text: string) => unknown;

/** Columns of each statement's text on each connection: asked for once. */
const shapes = new WeakMap<object, Map<string, { names: string[]; parsers: Parser[] }>>();

/** pg calls these methods as the server's messages come; see pg's own Query. */
class Read {
  callback: ((error: Error | null) => void) | undefined;
  readonly rows: Record<string, unknown>[] = [];
  #wire: Wire | undefined;
  /** 0: the settings run; 1: the statement. */
  #step = 0;
  #failed: Error | null = null;

  constructor(
    readonly settings: ReadQuery,
    readonly statement: ReadQuery,
    private readonly types: pg.CustomTypesConfig,
    private readonly done: Done,
  ) {}

  /** What it returns pg hands to handleError: nothing was sent then. */
  submit(wire: Wire): Error | null {
    this.#wire = wire;
    const { stream } = wire;
    const message: Uint8Array[] = [];
    // Collected and written as one buffer: seven small ones cost the socket more than all the rest.
    wire.stream = {
      writable: true,
      write: (part: Uint8Array | string) => message.push(part as Uint8Array) > 0,
    };
    try {
      for (const query of [this.settings, this.statement]) {
        if (wire.parsedStatements[query.name] === undefined) wire.parse(query);
        wire.bind({ statement: query.name, values: query.values, valueMapper: prepareValue });
        if (query === this.statement && this.#shape() === undefined) wire.describe({ type: 'P', name: '' });
        wire.execute({ portal: '', rows: 0 });
      }
      wire.sync();
    } catch (error) {
      return error as Error;
    } finally {
      wire.stream = stream;
    }
    if (stream.writable) stream.write(Buffer.concat(message));
    return null;
  }

  #shape(): { names: string[]; parsers: Parser[] } | undefined {
    return shapes.get(this.#wire as object)?.get(this.statement.text);
  }

  handleRowDescription({ fields }: { fields: Field[] }): void {
    const wire = this.#wire as object;
    const known = shapes.get(wire) ?? new Map<string, { names: string[]; parsers: Parser[] }>();
    shapes.set(wire, known);
    known.set(this.statement.text, {
      names: fields.map(({ name }) => name),
      parsers: fields.map(({ dataTypeID }) => this.types.getTypeParser(dataTypeID, 'text') as Parser),
    });
  }

  handleDataRow({ fields }: { fields: (string | null)[] }): void {
    if (this.#step === 0) return;
    const shape = this.#shape();
    if (shape === undefined) return;
    const row: Record<string, unknown> = {};
    for (let i = 0; i < fields.length; i++) {
      const field = fields[i];
      const name = shape.names[i] ?? '';
      row[name] = field === null || field === undefined ? null : shape.parsers[i]?.(field);
    }
    this.rows.push(row);
  }

  handleCommandComplete(): void {
    this.#step += 1;
  }

  handleEmptyQuery(): void {
    this.#step += 1;
  }

  handlePortalSuspended(): void {
    this.#failed = new Error('a read was suspended without a limit');
  }

  /** The server's error, or the connection's end: there is no ReadyForQuery for us after it. */
  handleError(error: Error): void {
    this.done(error, []);
  }

  handleReadyForQuery(wire: Wire): void {
    // A statement without a name is parsed each time.
    for (const { name, text } of [this.settings, this.statement])
      if (name !== '') wire.parsedStatements[name] = text;
    this.done(this.#failed, this.rows);
  }
}

/** pg's own mapping of a parameter to text; its types do not tell of it. */
const { prepareValue } = createRequire(import.meta.url)('pg/lib/utils.js') as {
  prepareValue(value: unknown): unknown;
};

/** Runs registered statements, each in an implicit transaction of its own with these settings. */
export class Reader {
  constructor(
    private readonly pool: Pool,
    private readonly settings: TransactionSettings,
  ) {}

  /** Throws AppError for what errors.ts knows. */
  async query(query: ReadQuery): Promise<{ rows: Record<string, unknown>[] }> {
    const client = await this.pool.connect().catch((error: unknown) => {
      throw translateDatabaseError(error);
    });
    return new Promise((resolve, reject) => {
      const types = (client as unknown as { _types: pg.CustomTypesConfig })._types;
      const read = new Read(settingsQuery(this.settings), query, types, (error, rows) => {
        // What the server prepared before an error is not known: such a connection is not used again.
        client.release(error ?? undefined);
        if (error === null) resolve({ rows });
        else reject(error);
      });
      client.query(read as unknown as pg.Submittable);
    });
  }
}
