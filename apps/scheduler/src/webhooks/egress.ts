// The one client for strangers' servers. A name is resolved here, every address it has is checked, and the one that was
// checked is dialled; redirects, proxies from the environment and other ports do not exist. So a tenant cannot make us
// speak to our own network, whatever his DNS says next (requirements R3-12; DNS rebinding needs a second look-up).
import { lookup as systemLookup } from 'node:dns/promises';
import { request } from 'node:https';
import { BlockList, isIP } from 'node:net';
import type { Clock } from '@penstock/domain/clock';
import { specialRanges } from '@penstock/domain/special-ranges';

/** All of it: look-up, connection, TLS, headers and body. */
export const CALL_MS_MAX = 5_000;
const ANSWER_BYTES_MAX = 16 * 1024;
const PORTS: ReadonlySet<string> = new Set(['', '443', '8443']);

/** What can go wrong, in words that tell nothing of the other side. */
export type CallError =
  | 'url_refused'
  | 'address_refused'
  | 'name_unknown'
  | 'connection_failed'
  | 'tls_failed'
  | 'timeout'
  | 'answer_too_large'
  | 'status';

export type CallResult =
  { ok: true; status: number } | { ok: false; error: CallError; status: number | null };

export interface EgressOptions {
  clock: Clock;
  /** The operator's exceptions; a tenant has none. CIDRs. */
  allow?: readonly string[];
  /** For tests: other names, other ports, an authority of their own. */
  lookup?: (name: string) => Promise<{ address: string; family: number }[]>;
  ports?: ReadonlySet<string>;
  ca?: string;
}

export class Egress {
  readonly #blocked = blockList([...specialRanges(4, true), ...specialRanges(6, true)]);
  readonly #allowed: BlockList;

  constructor(private readonly options: EgressOptions) {
    this.#allowed = blockList(options.allow ?? []);
  }

  /** POSTs `body` once. Never throws. */
  async post(url: URL, headers: Record<string, string>, body: string): Promise<CallResult> {
    const began = this.options.clock.monotonic();
    const name = url.hostname.replace(/^\[|\]$/g, '');
    const ports = this.options.ports ?? PORTS;
    if (url.protocol !== 'https:' || !ports.has(url.port) || url.username !== '' || url.password !== '') {
      return { ok: false, error: 'url_refused', status: null };
    }
    const address = await this.#addressOf(name);
    if (typeof address === 'string') return { ok: false, error: address, status: null };
    const leftMs = CALL_MS_MAX - (this.options.clock.monotonic() - began);
    if (leftMs <= 0) return { ok: false, error: 'timeout', status: null };
    return this.#call(url, name, address, headers, body, leftMs);
  }

  /** The address to dial; every address of the name must be one that may be dialled. */
  async #addressOf(name: string): Promise<{ address: string; family: number } | CallError> {
    const literal = isIP(name);
    const lookup =
      this.options.lookup ?? ((host: string) => systemLookup(host, { all: true, verbatim: true }));
    let found: { address: string; family: number }[];
    try {
      found = literal === 0 ? await within(lookup(name), CALL_MS_MAX) : [{ address: name, family: literal }];
    } catch {
      return 'name_unknown';
    }
    const [first] = found;
    if (first === undefined) return 'name_unknown';
    return found.every(({ address, family }) => this.#mayDial(address, family)) ? first : 'address_refused';
  }

  #mayDial(address: string, family: number): boolean {
    // Text that is no address is in no list, and would be looked up once more by whoever dials it.
    if (isIP(address) !== family) return false;
    const kind = family === 6 ? 'ipv6' : 'ipv4';
    return this.#allowed.check(address, kind) || !this.#blocked.check(address, kind);
  }

  #call(
    url: URL,
    name: string,
    address: { address: string; family: number },
    headers: Record<string, string>,
    body: string,
    ms: number,
  ): Promise<CallResult> {
    return new Promise((resolve) => {
      const fail = (error: CallError): void => {
        clearTimeout(deadline);
        call.destroy();
        resolve({ ok: false, error, status: null });
      };
      const call = request({
        ...{ host: address.address, family: address.family, port: url.port === '' ? 443 : Number(url.port) },
        ...{ path: `${url.pathname}${url.search}`, method: 'POST', agent: false },
        headers: { ...headers, host: url.host, 'content-length': Buffer.byteLength(body) },
        // The certificate is checked for the name, whatever address it was found at.
        ...(isIP(name) === 0 ? { servername: name } : {}),
        ...(this.options.ca === undefined ? {} : { ca: this.options.ca }),
        minVersion: 'TLSv1.2',
      });
      const deadline = setTimeout(() => fail('timeout'), ms);
      let secure = false;
      call.on('socket', (socket) => {
        socket.on('secureConnect', () => (secure = true));
      });
      call.on('error', (error: NodeJS.ErrnoException) => {
        const refused = ['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT'];
        fail(secure || refused.includes(error.code ?? '') ? 'connection_failed' : 'tls_failed');
      });
      call.on('response', (answer) => {
        const status = answer.statusCode ?? 0;
        let bytes = 0;
        answer.on('data', (part: Buffer) => {
          bytes += part.length;
          if (bytes > ANSWER_BYTES_MAX) fail('answer_too_large');
        });
        answer.on('error', () => fail('connection_failed'));
        answer.on('end', () => {
          clearTimeout(deadline);
          call.destroy();
          const good = status >= 200 && status < 300;
          resolve(good ? { ok: true, status } : { ok: false, error: 'status', status });
        });
      });
      call.end(body);
    });
  }
}

function blockList(cidrs: readonly string[]): BlockList {
  const list = new BlockList();
  for (const cidr of cidrs) {
    const [network = '', bits = ''] = cidr.split('/');
    list.addSubnet(network, Number(bits), network.includes(':') ? 'ipv6' : 'ipv4');
  }
  return list;
}

async function within<T>(work: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error('timeout')), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
