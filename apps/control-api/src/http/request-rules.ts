// What is refused before anybody looks at a request: a path with two spellings, a header that is there twice, a body
// that is not plain JSON, a change that a foreign page or a foreign name sent us. Pure; called by server.ts first.
import { isIP } from 'node:net';
import { AppError } from '@penstock/domain/errors';

export interface RequestFacts {
  method: string;
  /** As it stands in the request line. */
  target: string;
  /** Names and values in turn, as they came. */
  rawHeaders: readonly string[];
}

export interface OwnNames {
  /** Name and port of PUBLIC_URL: its scheme counts, too. */
  host: string;
  /** Origin of PUBLIC_URL. */
  origin: string;
  /** Names by which we may be called beside addresses and localhost, in lower case. */
  hosts: ReadonlySet<string>;
}

const MUTATIONS: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH', 'DELETE']);
const JSON_TYPE = /^application\/json(?: *; *charset="?utf-8"?)?$/i;
/** Our paths have one spelling: no escapes, no empty or dotted segments, no parameters behind a semicolon. */
const PATH = /^(?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9._~-]+)+\/?$|^\/$/;
const HIDDEN = /%(?:[01][0-9a-f]|7f)/i;
/** Where a second one could be believed by somebody else than us. */
const SINGLE: ReadonlySet<string> = new Set([
  ...['host', 'content-type', 'content-length', 'content-encoding', 'transfer-encoding', 'origin'],
  ...['authorization', 'idempotency-key', 'if-match', 'x-request-id'],
]);

/** The names of this installation. */
export function ownNames(publicUrl: string, allowedHosts: readonly string[]): OwnNames {
  const { origin, host, hostname } = new URL(publicUrl);
  return {
    ...{ origin, host },
    hosts: new Set([hostname, 'localhost', ...allowedHosts].map((name) => name.toLowerCase())),
  };
}

/** Why this request is not looked at; null when it may go on. */
export function refusalOf(facts: RequestFacts, names: OwnNames): AppError | null {
  const { found, twice } = singleHeaders(facts.rawHeaders);
  if (twice !== null)
    return new AppError('invalid_input', `the header ${twice} is there twice`, { field: twice });
  const mark = facts.target.indexOf('?');
  const path = mark === -1 ? facts.target : facts.target.slice(0, mark);
  if (!PATH.test(path)) return new AppError('not_found', 'there is nothing here');
  if (mark !== -1 && !isPlainQuery(facts.target.slice(mark + 1)))
    return new AppError('invalid_input', 'the query must not hold control characters', { field: 'query' });
  return refusalOfBody(found) ?? (MUTATIONS.has(facts.method) ? refusalOfSender(found, names) : null);
}

function singleHeaders(raw: readonly string[]): { found: Map<string, string>; twice: string | null } {
  const found = new Map<string, string>();
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]?.toLowerCase() ?? '';
    if (!SINGLE.has(name)) {
      if (name === 'sec-fetch-site') found.set(name, raw[i + 1] ?? '');
      continue;
    }
    if (found.has(name)) return { found, twice: name };
    found.set(name, raw[i + 1] ?? '');
  }
  return { found, twice: null };
}

function isPlainQuery(query: string): boolean {
  if (!query.includes('%')) return true;
  if (HIDDEN.test(query)) return false;
  try {
    decodeURIComponent(query);
    return true;
  } catch {
    return false;
  }
}

function refusalOfBody(headers: ReadonlyMap<string, string>): AppError | null {
  const encoding = headers.get('content-encoding');
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
    return new AppError('unsupported_media_type', 'send the body as it is, not compressed', {
      field: 'content-encoding',
    });
  }
  const length = headers.get('content-length');
  const hasBody = (length !== undefined && length !== '0') || headers.has('transfer-encoding');
  if (hasBody && !JSON_TYPE.test(headers.get('content-type') ?? ''))
    return new AppError('unsupported_media_type', 'send application/json');
  return null;
}

/** A browser says where a request comes from; a change is taken from our own pages only, and under our own name. */
function refusalOfSender(headers: ReadonlyMap<string, string>, names: OwnNames): AppError | null {
  const host = (headers.get('host') ?? '').toLowerCase();
  const name = hostName(host);
  if (name === null || !(isIP(name) !== 0 || names.hosts.has(name)))
    return new AppError('forbidden', 'this is not a name of this API', { field: 'host' });
  const origin = headers.get('origin')?.toLowerCase();
  const foreign =
    origin === undefined
      ? headers.get('sec-fetch-site') === 'cross-site'
      : origin !== names.origin && !(host !== names.host && isSameHost(origin, host));
  if (!foreign) return null;
  return new AppError('forbidden', 'changes are not taken from another site', { field: 'origin' });
}

/** A page that came from this very address, whatever spoke TLS before us. */
function isSameHost(origin: string, host: string): boolean {
  return origin === `http://${host}` || origin === `https://${host}`;
}

/** `name:port` or `[v6]:port` → the name; null for what is none. */
function hostName(host: string): string | null {
  const parts = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::\d{1,5})?$/.exec(host);
  return parts?.[1] ?? parts?.[2]?.replace(/\.$/, '') ?? null;
}
