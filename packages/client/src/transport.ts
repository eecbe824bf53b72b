// How the client talks: fetch, problem+json as an error, one deadline a request, an Idempotency-Key for every mutation so
// that a repetition after a lost answer has one effect. No dependency: it runs in Node and in a browser. The typed methods
// in gen/api.ts, made from the OpenAPI document, all end here.

const REQUEST_TIMEOUT_MS = 30_000;
/** A mutation whose answer was lost is sent again this often, with its key. */
const RETRIES_MAX = 2;
const RETRY_AFTER_MS = 200;

export interface Credentials {
  /** Access token, API key or machine token for the next request; undefined: none. */
  token(): string | undefined | Promise<string | undefined>;
  /** The token was refused; true when there is another one now. */
  renew?(): Promise<boolean>;
}

export interface TransportOptions {
  /** Where the API is, `https://…` without a path. */
  baseUrl: string;
  credentials?: Credentials;
  fetch?: typeof fetch;
  timeoutMs?: number;
}

export interface RequestOptions {
  signal?: AbortSignal;
}

export interface MutationOptions extends RequestOptions {
  /** Chosen by the caller when a repetition may come from another run; else one is made. */
  idempotencyKey?: string;
}

export interface ChangeOptions extends MutationOptions {
  /** `version` of the object as it was read; refused with failed_precondition when it was changed since. */
  ifMatch?: number | string;
}

export interface Call {
  method: string;
  /** With `{name}` for parameters. */
  path: string;
  params?: Readonly<Record<string, string>>;
  query?: Readonly<Record<string, unknown>> | undefined;
  body?: unknown;
  /** The route takes an Idempotency-Key. */
  keyed?: true;
  /** The answer is not JSON: it comes as text. */
  text?: true;
  /** For the whole answer; the transport's own when left out. */
  timeoutMs?: number;
  /** The body goes on for as long as its reader wants: the deadline is for its beginning alone. */
  endless?: true;
  options?: ChangeOptions | undefined;
}

/** A refusal of the API, as its problem document says it. */
export class ProblemError extends Error {
  override readonly name = 'ProblemError';

  constructor(
    readonly status: number,
    /** From the closed list; `unavailable` when there was no answer. */
    readonly code: string,
    detail: string,
    readonly field: string | undefined = undefined,
    readonly requestId: string | undefined = undefined,
    /** After which a repetition makes sense. */
    readonly retryAfterMs: number | undefined = undefined,
    cause?: unknown,
  ) {
    super(detail, cause === undefined ? undefined : { cause });
  }
}

export class Transport {
  readonly #options: TransportOptions;
  readonly #fetch: typeof fetch;

  constructor(options: TransportOptions) {
    this.#options = options;
    this.#fetch = options.fetch ?? globalThis.fetch.bind(globalThis);
  }

  /** The answer to a call. Throws ProblemError. */
  async send<T>(call: Call): Promise<T> {
    const response = await this.#answer(call);
    if (response.status === 204) return undefined as T;
    return (call.text === true ? await response.text() : await response.json()) as T;
  }

  /** The body of an answer as it comes, for files of any size. */
  async stream(call: Call): Promise<ReadableStream<Uint8Array>> {
    const { body } = await this.#answer({ ...call, text: true });
    return body ?? new ReadableStream({ start: (controller) => controller.close() });
  }

  async #answer(call: Call): Promise<Response> {
    const key = call.keyed === true ? (call.options?.idempotencyKey ?? crypto.randomUUID()) : undefined;
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#renewing(call, key);
      } catch (error) {
        // Safe to repeat: a read, or a mutation with its key. Not when the caller gave up.
        const lost = error instanceof ProblemError && error.status === 0;
        const repeatable = call.method === 'GET' || key !== undefined;
        if (!lost || !repeatable || attempt >= RETRIES_MAX || call.options?.signal?.aborted === true)
          throw error;
        await new Promise((resolve) => setTimeout(resolve, RETRY_AFTER_MS * 2 ** attempt));
      }
    }
  }

  /** Rows of all pages, page by page. */
  async *pages<Row>(
    page: (cursor: string | undefined) => Promise<{ items: Row[]; nextCursor: string | null }>,
  ): AsyncGenerator<Row> {
    let cursor: string | undefined;
    for (;;) {
      const { items, nextCursor } = await page(cursor);
      yield* items;
      if (nextCursor === null) return;
      cursor = nextCursor;
    }
  }

  async #renewing(call: Call, key: string | undefined): Promise<Response> {
    try {
      return await this.#once(call, key);
    } catch (error) {
      const { credentials } = this.#options;
      if (!(error instanceof ProblemError) || error.code !== 'unauthenticated') throw error;
      if (credentials?.renew === undefined || !(await credentials.renew())) throw error;
      return this.#once(call, key);
    }
  }

  async #once(call: Call, key: string | undefined): Promise<Response> {
    const token = await this.#options.credentials?.token();
    const { ifMatch, signal } = call.options ?? {};
    const headers: Record<string, string> = {
      ...(call.text === true ? {} : { accept: 'application/json' }),
      ...(call.body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(key === undefined ? {} : { 'idempotency-key': key }),
      ...(ifMatch === undefined
        ? {}
        : { 'if-match': typeof ifMatch === 'number' ? `"${ifMatch}"` : ifMatch }),
    };
    const timeout = AbortSignal.timeout(call.timeoutMs ?? this.#options.timeoutMs ?? REQUEST_TIMEOUT_MS);
    const beginning = new AbortController();
    const late = (): void => beginning.abort(timeout.reason);
    timeout.addEventListener('abort', late);
    const deadline = call.endless === true ? beginning.signal : timeout;
    const response = await this.#fetch(this.#url(call), {
      ...{ method: call.method, headers, redirect: 'error' },
      ...(call.body === undefined ? {} : { body: JSON.stringify(call.body) }),
      signal: signal === undefined ? deadline : AbortSignal.any([signal, deadline]),
    }).catch((cause: unknown) => {
      const detail = `the API at ${this.#options.baseUrl} does not answer`;
      throw new ProblemError(0, 'unavailable', detail, undefined, undefined, undefined, cause);
    });
    timeout.removeEventListener('abort', late);
    if (!response.ok) throw await problemOf(response);
    return response;
  }

  #url({ path, params = {}, query = {} }: Call): URL {
    const filled = path.replace(/\{(\w+)\}/g, (_match, name: string) =>
      encodeURIComponent(params[name] ?? ''),
    );
    const url = new URL(filled, this.#options.baseUrl);
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    return url;
  }
}

async function problemOf(response: Response): Promise<ProblemError> {
  const problem = (await response.json().catch(() => ({}))) as Record<string, unknown>;
  const text = (name: string): string | undefined =>
    typeof problem[name] === 'string' ? problem[name] : undefined;
  const retry = Number(response.headers.get('retry-after') ?? Number.NaN);
  return new ProblemError(
    response.status,
    text('code') ?? 'internal',
    text('detail') ?? `the API answered ${response.status}`,
    text('field'),
    text('request_id') ?? response.headers.get('x-request-id') ?? undefined,
    Number.isFinite(retry) ? retry * 1_000 : undefined,
  );
}
