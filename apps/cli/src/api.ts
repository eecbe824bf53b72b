// The command's way to the API: the client package, with the session that this person keeps on this machine. Signs in
// once and refreshes when the access token has run out. Every request ends by its deadline.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { Client, type AuthWhoamiReply } from '@penstock/client/gen/api';
import type { TransportOptions } from '@penstock/client/transport';
import { AppError } from '@penstock/domain/errors';
import type { Environment } from '@penstock/service/config';
import { sameSecret } from '@penstock/service/secret-compare';
import { readSession, sessionFile, writeSession, type Session } from './session.js';

const REQUEST_TIMEOUT_MS = 15_000;
const LIST_ROWS_MAX = 10_000;
/** Places of a person that are asked whether they are the platform. */
const PLACES_MAX = 50;
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
  private readonly options: TransportOptions;
  /** The access token of the last request. */
  private sent: string | undefined;

  constructor(
    readonly address: string,
    env: Environment,
  ) {
    this.file = sessionFile(env);
    this.options = { baseUrl: address, timeoutMs: REQUEST_TIMEOUT_MS };
    this.open = new Client(this.options);
    this.client = new Client({
      ...this.options,
      credentials: { token: () => (this.sent = this.session().accessToken), renew: () => this.renew() },
    });
  }

  /** Signs in and remembers it. `proof`: of the second factor, when one is in force. */
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

  /**
   * Every operation as the same person in the platform's own tenant, for what exists there alone (tenants, signing keys),
   * whatever tenant he acts in; as `client` for who has no place in the platform.
   */
  async platform(): Promise<Client> {
    const id = await this.platformTenant();
    return id === undefined || id === this.session().tenantId ? this.client : this.in(id);
  }

  /** Who asks, and where; by the way it shows which tenant is the platform's own. */
  async whoami(): Promise<AuthWhoamiReply> {
    const me = await this.client.auth.whoami();
    if (me.tenant.platform) this.rememberPlatform(me.tenant.tenantId);
    return me;
  }

  /** The platform's own tenant; undefined for who has no place in it. */
  async platformTenant(): Promise<string | undefined> {
    const known = this.session().platformTenantId;
    if (known !== undefined) return known;
    const { tenant, memberships } = await this.whoami();
    if (tenant.platform) return tenant.tenantId;
    for (const { tenantId } of memberships.slice(0, PLACES_MAX)) {
      if (tenantId === tenant.tenantId) continue;
      const there = await (await this.in(tenantId)).auth.whoami();
      if (there.tenant.platform) return this.rememberPlatform(tenantId);
    }
    return undefined;
  }

  async signOut(): Promise<void> {
    const session = readSession(this.file, this.address);
    if (session === undefined) return;
    await this.open.auth.signOut({ refreshToken: session.refreshToken }).catch(() => undefined);
    writeSession(this.file, this.address, undefined);
  }

  /** A GET by its path, where the answer is shown as it comes. */
  read<T>(path: string): Promise<T> {
    return this.client.transport.send<T>({ method: 'GET', path });
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

  /** For one command, in another tenant; nothing is remembered. */
  private async in(tenantId: string): Promise<Client> {
    const { accessToken } = await this.client.auth.switchTenant({ tenantId });
    return new Client({ ...this.options, credentials: { token: () => accessToken } });
  }

  private rememberPlatform(platformTenantId: string): string {
    const session = this.session();
    if (session.platformTenantId !== platformTenantId) this.remember({ ...session, platformTenantId });
    return platformTenantId;
  }

  private async renew(): Promise<boolean> {
    const session = this.session();
    const { refreshToken, tenantId, accessToken } = session;
    // Another command has renewed it meanwhile.
    if (this.sent !== undefined && !sameSecret(accessToken, this.sent)) return true;
    const tokens = await this.open.auth.refresh({ refreshToken, tenantId });
    this.remember({ ...session, ...tokens });
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
