// How we speak to identity providers: https, a checked address that is then dialled, no redirects, a bounded answer in
// bounded time. A tenant names its provider, and the provider names its endpoints, so neither may lead us into our own
// network; the operator's own providers may stand there. Plain http is for loopback outside production.
import { lookup as systemLookup } from 'node:dns';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { AppError } from '@penstock/domain/errors';
import { specialRanges } from '@penstock/domain/special-ranges';
import type { CustomFetch, CustomFetchOptions } from 'openid-client';

const ANSWER_BYTES_MAX = 256 * 1024;
/** One call, from the look-up to the last byte. */
export const PROVIDER_CALL_MS_MAX = 5_000;

const blocked = new BlockList();
for (const family of [4, 6] as const) {
  for (const range of specialRanges(family, true)) {
    const [base = '', bits] = range.split('/');
    blocked.addSubnet(base, Number(bits), family === 6 ? 'ipv6' : 'ipv4');
  }
}

type Environment = 'production' | 'development' | 'test';

/** True for https, and outside production for loopback. */
export function mayBeIssuer(url: URL, environment: Environment): boolean {
  return url.protocol === 'https:' || (environment !== 'production' && isLoopback(url));
}

function isLoopback({ hostname }: URL): boolean {
  return ['127.0.0.1', '[::1]', 'localhost'].includes(hostname);
}

export function isBlockedAddress(address: string): boolean {
  const family = isIP(address);
  return family === 0 || blocked.check(address, family === 6 ? 'ipv6' : 'ipv4');
}

/** Dials none of a name's addresses when one of them is blocked. */
const checkedLookup: LookupFunction = (name, options, callback) => {
  systemLookup(name, { ...options, all: true }, (error, found) => {
    if (error !== null) return callback(error, '');
    const [first] = found;
    if (first === undefined || found.some(({ address }) => isBlockedAddress(address))) {
      return callback(new AppError('forbidden', 'this address is not for identity providers'), '');
    }
    if (options.all === true) callback(null, found);
    else callback(null, first.address, first.family);
  });
};

/** `trusted`: the operator's own provider, which may stand in a private network. */
export function providerFetch(trusted: boolean, environment: Environment): CustomFetch {
  return (address, options) => {
    const url = new URL(address);
    if (!mayBeIssuer(url, environment))
      throw new AppError('forbidden', 'identity providers are asked over https');
    const free = trusted || (environment !== 'production' && isLoopback(url));
    const literal = url.hostname.replace(/^\[|\]$/g, '');
    if (!free && isIP(literal) !== 0 && isBlockedAddress(literal)) {
      throw new AppError('forbidden', 'this address is not for identity providers');
    }
    return call(url, options, free ? undefined : checkedLookup);
  };
}

function call(url: URL, options: CustomFetchOptions, lookup: LookupFunction | undefined): Promise<Response> {
  const { method, headers } = options;
  const body = options.body === undefined || options.body === null ? '' : bodyText(options.body);
  const request = url.protocol === 'https:' ? httpsRequest : httpRequest;
  return new Promise((resolve, reject) => {
    const outgoing = request(url, {
      ...{ method, headers: { ...headers, 'content-length': String(Buffer.byteLength(body)) }, agent: false },
      ...{ signal: AbortSignal.timeout(PROVIDER_CALL_MS_MAX) },
      ...(lookup === undefined ? {} : { lookup }),
    });
    outgoing.on('error', reject);
    outgoing.on('response', (incoming) => {
      const parts: Buffer[] = [];
      let bytes = 0;
      incoming.on('data', (part: Buffer) => {
        bytes += part.length;
        if (bytes > ANSWER_BYTES_MAX) outgoing.destroy(new Error('the answer is too large'));
        else parts.push(part);
      });
      incoming.on('error', reject);
      incoming.on('end', () => {
        const status = incoming.statusCode ?? 500;
        const answer = status === 204 || status === 304 ? null : Buffer.concat(parts);
        resolve(new Response(answer, { status, headers: plainHeaders(incoming.headers) }));
      });
    });
    outgoing.end(body);
  });
}

function bodyText(body: NonNullable<CustomFetchOptions['body']>): string {
  if (typeof body === 'string' || body instanceof URLSearchParams) return body.toString();
  throw new AppError('internal', 'a body of an unknown kind for an identity provider');
}

function plainHeaders(headers: NodeJS.Dict<string | string[]>): Headers {
  const plain = new Headers();
  for (const [name, value] of Object.entries(headers)) {
    if (typeof value === 'string') plain.set(name, value);
  }
  return plain;
}
