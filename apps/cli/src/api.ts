// The command's way to the API: the client package, with the session that this person keeps on this machine. Signs in
// once and refreshes when the access token has run out. Every request ends by its deadline. Invariant: a command acts as
// the person and in the tenant that it began with, whatever `use`, `login` and `logout` do meanwhile, and undoes none of
// them.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { Client, type AuthWhoamiReply } from '@penstock/client/gen/api';
import type { TransportOptions } from '@penstock/client/transport';
import { AppError } from '@penstock/domain/errors';
import type { Environment } from '@penstock/service/config';
import { sameSecret } from '@penstock/service/secret-compare';
import { changeSession, readSession, sessionFile, type Session } from './session.js';

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
  /** Who this command is and where, from its first request on. */
  private own: Session | undefined;

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
    const session = (this.own = { ...tokens, email });
    await changeSession(this.file, this.address, () => session);
  }

  /** Acts in another tenant from now on. Throws conflict when somebody else signed in meanwhile, or this one signed out. */
  async switchTenant(tenantId: string): Promise<void> {
    const { accessToken } = await this.client.auth.switchTenant({ tenantId });
    const { email } = this.session();
    await changeSession(this.file, this.address, (kept) => {
      if (kept?.email !== email)
        throw new AppError('conflict', `${email} was signed out here meanwhile; nothing was changed`);
      return (this.own = { ...kept, accessToken, tenantId });
    });
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
    if (me.tenant.platform) await this.rememberPlatform(me.tenant.tenantId);
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
    // Taken out first: who signs in while the server answers stays signed in.
    let kept: Session | undefined;
    await changeSession(this.file, this.address, (session) => void (kept = session));
    if (kept === undefined) return;
    await this.open.auth.signOut({ refreshToken: kept.refreshToken }).catch(() => undefined);
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

  private async rememberPlatform(platformTenantId: string): Promise<string> {
    const session = this.session();
    if (session.platformTenantId === platformTenantId) return platformTenantId;
    this.own = { ...session, platformTenantId };
    await changeSession(this.file, this.address, (kept) =>
      kept?.email === session.email ? { ...kept, platformTenantId } : kept,
    );
    return platformTenantId;
  }

  private async renew(): Promise<boolean> {
    const own = this.session();
    // Another command has renewed it meanwhile.
    if (this.sent !== undefined && !sameSecret(own.accessToken, this.sent)) return true;
    const { email, tenantId } = own;
    // A refresh token is good once and is the person's, in whatever tenant: the kept one is the last.
    const kept = readSession(this.file, this.address);
    const { refreshToken } = kept?.email === email ? kept : own;
    const tokens = await this.open.auth.refresh({ refreshToken, tenantId });
    this.own = { ...own, ...tokens };
    await changeSession(this.file, this.address, (now) => {
      if (now?.email !== email || !sameSecret(now.refreshToken, refreshToken)) return now;
      // Where the next command acts is not ours to change; that it can go on is.
      return now.tenantId === tenantId
        ? { ...now, ...tokens }
        : { ...now, refreshToken: tokens.refreshToken };
    });
    return true;
  }

  /** As kept, as long as that is the same person in the same tenant; else as this command has it in hand. */
  private session(): Session {
    const kept = readSession(this.file, this.address);
    const { own } = this;
    if (own === undefined) this.own = kept;
    else if (kept?.email === own.email && kept.tenantId === own.tenantId) this.own = kept;
    if (this.own === undefined) throw new AppError('unauthenticated', 'sign in first: ./penstock login');
    return this.own;
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
