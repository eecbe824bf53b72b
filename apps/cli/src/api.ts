// The command's way to the API: signs in once, refreshes when the access token has run out, and turns problem+json
// into one sentence. Every request ends by its deadline.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { AppError, isErrorCode } from '@penstock/domain/errors';
import type { Environment } from '@penstock/service/config';
import { readSession, sessionFile, writeSession, type Session } from './session.js';

const REQUEST_TIMEOUT_MS = 15_000;
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
  private readonly file: string;

  constructor(
    readonly address: string,
    env: Environment,
  ) {
    this.file = sessionFile(env);
  }

  /** Signs in and remembers it. */
  async signIn(email: string, password: string, tenantId?: string): Promise<void> {
    const tokens = await this.send<Omit<Session, 'email'>>('POST', '/api/v1/auth/sign-in', undefined, {
      email,
      password,
      ...(tenantId === undefined ? {} : { tenantId }),
    });
    this.remember({ ...tokens, email });
  }

  /** Acts in another tenant from now on. */
  async switchTenant(tenantId: string): Promise<void> {
    const session = this.session();
    const token = await this.request<{ accessToken: string }>('POST', '/api/v1/auth/switch', { tenantId });
    this.remember({ ...session, ...this.session(), accessToken: token.accessToken, tenantId });
  }

  async signOut(): Promise<void> {
    const session = readSession(this.file, this.address);
    if (session === undefined) return;
    await this.send('POST', '/api/v1/auth/sign-out', undefined, { refreshToken: session.refreshToken }).catch(
      () => undefined,
    );
    writeSession(this.file, this.address, undefined);
  }

  /** A request that needs nobody signed in. */
  open<T>(method: string, path: string, body?: unknown): Promise<T> {
    return this.send<T>(method, path, undefined, body);
  }

  /** A request as the signed-in person. Throws AppError with the API's own code and text. */
  async request<T>(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<T> {
    return this.signedIn((token) => this.send<T>(method, path, token, body, headers));
  }

  /** The body of an answer as it comes, for files. */
  download(path: string): Promise<Readable> {
    return this.signedIn(async (token) => {
      const response = await this.ask('GET', path, token, undefined, { accept: '*/*' }, DOWNLOAD_TIMEOUT_MS);
      if (!response.ok || response.body === null) throw await refusalOf(response);
      return Readable.fromWeb(response.body);
    });
  }

  /** With the access token, and once more with a new one when it was too old. */
  private async signedIn<T>(work: (token: string) => Promise<T>): Promise<T> {
    const session = this.session();
    try {
      return await work(session.accessToken);
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== 'unauthenticated') throw error;
      const tokens = await this.send<Omit<Session, 'email'>>('POST', '/api/v1/auth/refresh', undefined, {
        refreshToken: session.refreshToken,
        tenantId: session.tenantId,
      });
      this.remember({ ...tokens, email: session.email });
      return work(tokens.accessToken);
    }
  }

  /** All pages of a list, at most `rowsMax` rows. */
  async list<T>(path: string, rowsMax = 10_000): Promise<T[]> {
    const rows: T[] = [];
    let cursor: string | null = null;
    do {
      const query = new URLSearchParams({ limit: '200', ...(cursor === null ? {} : { cursor }) });
      const page: { items: T[]; nextCursor: string | null } = await this.request('GET', `${path}?${query}`);
      rows.push(...page.items);
      cursor = page.nextCursor;
    } while (cursor !== null && rows.length < rowsMax);
    return rows;
  }

  /** The body and its version, for an update with If-Match. */
  async getWithTag<T>(path: string): Promise<{ body: T; etag: string }> {
    const body = await this.request<T>('GET', path);
    return { body, etag: this.lastTag };
  }

  private lastTag = '';

  private session(): Session {
    const session = readSession(this.file, this.address);
    if (session === undefined) throw new AppError('unauthenticated', 'sign in first: ./penstock login');
    return session;
  }

  private remember(session: Session): void {
    writeSession(this.file, this.address, session);
  }

  private async send<T>(
    method: string,
    path: string,
    token?: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<T> {
    const response = await this.ask(method, path, token, body, headers);
    this.lastTag = response.headers.get('etag') ?? '';
    if (response.status === 204) return undefined as T;
    if (!response.ok) throw await refusalOf(response);
    return (await response.json().catch(() => ({}))) as T;
  }

  private async ask(
    method: string,
    path: string,
    token: string | undefined,
    body: unknown,
    headers: Record<string, string>,
    timeoutMs = REQUEST_TIMEOUT_MS,
  ): Promise<Response> {
    try {
      return await fetch(new URL(path, this.address), {
        method,
        headers: {
          accept: 'application/json',
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(timeoutMs),
        redirect: 'error',
      });
    } catch (cause) {
      throw new AppError(
        'unavailable',
        `the API at ${this.address} does not answer; is it running (npm start)?`,
        { cause },
      );
    }
  }
}

/** What the API refused, with its own code and text. */
async function refusalOf(response: Response): Promise<AppError> {
  const answer = (await response.json().catch(() => ({}))) as Record<string, unknown>;
  const code = isErrorCode(answer['code']) ? answer['code'] : 'internal';
  const detail =
    typeof answer['detail'] === 'string' ? answer['detail'] : `the API answered ${response.status}`;
  const field = typeof answer['field'] === 'string' ? answer['field'] : undefined;
  return new AppError(code, detail, field === undefined ? {} : { field });
}
