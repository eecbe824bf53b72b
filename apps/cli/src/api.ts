// The command's way to the API: the client package, with the session that this person keeps on this machine. Signs in
// once and refreshes when the access token has run out. Every request ends by its deadline.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { Client } from '@penstock/client/gen/api';
import { AppError } from '@penstock/domain/errors';
import type { Environment } from '@penstock/service/config';
import { readSession, sessionFile, writeSession, type Session } from './session.js';

const REQUEST_TIMEOUT_MS = 15_000;
const LIST_ROWS_MAX = 10_000;
/** A file of a hundred thousand lines over a slow line. */
const DOWNLOAD_TIMEOUT_MS = 600_000;

export interface Endpoints {
  api: string;
  nodeEdge: string;
  setupUrl?: string;
  processes: Record<string, { pid: number; health: string; metrics: string }>;
}

/** What the running product of this clone says of itself; null when it was never started here. */
export function readEndpoints(directory: string): Endpoints | null {
  try {
    return JSON.parse(readFileSync(join(directory, 'endpoints.json'), 'utf8')) as Endpoints;
  } catch {
    return null;
  }
}

export class Api {
  /** Every operation as the signed-in person. Throws ProblemError with the API's own code and text. */
  readonly client: Client;
  /** The operations that need nobody signed in. */
  readonly open: Client;
  private readonly file: string;

  constructor(
    readonly address: string,
    env: Environment,
  ) {
    this.file = sessionFile(env);
    const options = { baseUrl: address, timeoutMs: REQUEST_TIMEOUT_MS };
    this.open = new Client(options);
    this.client = new Client({
      ...options,
      credentials: { token: () => this.session().accessToken, renew: () => this.renew() },
    });
  }

  /** Signs in and remembers it. */
  /** `proof`: of the second factor, when one is in force. */
  async signIn(
    email: string,
    password: string,
    tenantId?: string,
    proof: { code?: string; recoveryCode?: string } = {},
  ): Promise<void> {
    const tokens = await this.open.auth.signIn({
      ...{ email, password, ...proof },
      ...(tenantId === undefined ? {} : { tenantId }),
    });
    this.remember({ ...tokens, email });
  }

  /** Acts in another tenant from now on. */
  async switchTenant(tenantId: string): Promise<void> {
    const { accessToken } = await this.client.auth.switchTenant({ tenantId });
    this.remember({ ...this.session(), accessToken, tenantId });
  }

  async signOut(): Promise<void> {
    const session = readSession(this.file, this.address);
    if (session === undefined) return;
    await this.open.auth.signOut({ refreshToken: session.refreshToken }).catch(() => undefined);
    writeSession(this.file, this.address, undefined);
  }

  /** A request by its path, for what has no method of its own here. */
  request<T>(method: string, path: string, body?: unknown): Promise<T> {
    return this.client.transport.send<T>({ method, path, body });
  }

  /** All pages of a list by its path. */
  list<T>(path: string): Promise<T[]> {
    const page = (cursor: string | undefined): Promise<{ items: T[]; nextCursor: string | null }> =>
      this.client.transport.send({ method: 'GET', path, query: { limit: 200, cursor } });
    return allRows(this.client.transport.pages(page));
  }

  /** The body of an answer as it comes, for files. */
  async download(path: string): Promise<Readable> {
    const call = { method: 'GET', path, timeoutMs: DOWNLOAD_TIMEOUT_MS };
    return Readable.fromWeb(await this.client.transport.stream(call));
  }

  private async renew(): Promise<boolean> {
    const { refreshToken, tenantId, email } = this.session();
    const tokens = await this.open.auth.refresh({ refreshToken, tenantId });
    this.remember({ ...tokens, email });
    return true;
  }

  private session(): Session {
    const session = readSession(this.file, this.address);
    if (session === undefined) throw new AppError('unauthenticated', 'sign in first: ./penstock login');
    return session;
  }

  private remember(session: Session): void {
    writeSession(this.file, this.address, session);
  }
}

/** The rows of a list, at most `rowsMax`. */
export async function allRows<Row>(rows: AsyncIterable<Row>, rowsMax = LIST_ROWS_MAX): Promise<Row[]> {
  const all: Row[] = [];
  for await (const row of rows) {
    all.push(row);
    if (all.length >= rowsMax) break;
  }
  return all;
}
