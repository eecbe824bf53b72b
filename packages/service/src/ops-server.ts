// /health, /ready and /metrics of a process, for the operations network only: the socket's own address decides.
import { createServer } from 'node:http';
import { BlockList, isIPv6, type AddressInfo } from 'node:net';
import type { Registry } from 'prom-client';
import { AppError } from '@penstock/domain/errors';

export interface Readiness {
  ready: boolean;
  /** Short codes, no secrets and no ids. */
  reasons: string[];
}

export interface OpsServer {
  port: number;
  close(): Promise<void>;
}

/** Parses a comma-separated CIDR list; an empty, malformed or all-embracing one is refused. */
export function parseCidrs(text: string, field: string): BlockList {
  const list = new BlockList();
  const parts = text.split(',').map((part) => part.trim());
  for (const part of parts) {
    const [base, bits, ...more] = part.split('/');
    const prefix = Number(bits);
    try {
      if (base === undefined || bits === undefined || more.length > 0 || !/^\d+$/.test(bits) || prefix === 0)
        throw new RangeError();
      list.addSubnet(base, prefix, isIPv6(base) ? 'ipv6' : 'ipv4');
    } catch {
      throw new AppError('invalid_input', `${field}: ${part || 'an empty entry'} is not a usable CIDR`, {
        field,
      });
    }
  }
  return list;
}

/** Starts the ops listener. `port` 0 picks a free one. */
export async function startOpsServer(options: {
  host: string;
  port: number;
  allow: string;
  registry: Registry;
  ready: () => Readiness;
}): Promise<OpsServer> {
  const allowed = parseCidrs(options.allow, 'OPS_ALLOW');
  const server = createServer((request, response) => {
    const remote = (request.socket.remoteAddress ?? '').replace(/^::ffff:/, '');
    const answer = (status: number, type: string, body: string): void => {
      response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' }).end(body);
    };
    if (!allowed.check(remote, isIPv6(remote) ? 'ipv6' : 'ipv4'))
      return answer(403, 'text/plain', 'forbidden\n');
    if (request.method !== 'GET') return answer(405, 'text/plain', 'only GET\n');
    switch (request.url) {
      case '/health':
        return answer(200, 'application/json', '{"status":"ok"}\n');
      case '/ready': {
        const state = options.ready();
        return answer(state.ready ? 200 : 503, 'application/json', JSON.stringify(state) + '\n');
      }
      case '/metrics':
        options.registry.metrics().then(
          (text) => answer(200, options.registry.contentType, text),
          () => answer(500, 'text/plain', 'metrics failed\n'),
        );
        return;
      default:
        return answer(404, 'text/plain', 'not found\n');
    }
  });
  server.requestTimeout = 5_000;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.host, resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
