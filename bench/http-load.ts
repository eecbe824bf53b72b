// Load over HTTP/1.1 keep-alive sockets: one request in flight on each connection, written and read as bytes, so that the
// load itself takes little of the machine. Used by the benchmarks of control-api.
import { connect, type Socket } from 'node:net';

export interface HttpRequest {
  method: 'GET' | 'POST';
  path: string;
  headers?: Readonly<Record<string, string>>;
  body?: string;
}

export interface HttpReply {
  status: number;
  ms: number;
  body: string;
}

const HEAD_END = '\r\n\r\n';

export function requestBytes({ method, path, headers = {}, body }: HttpRequest): Buffer {
  const lines = Object.entries({
    host: '127.0.0.1',
    ...headers,
    ...(body === undefined
      ? {}
      : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) }),
  }).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.from(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${body ?? ''}`);
}

/** One keep-alive connection. */
export class Connection {
  #socket: Socket;
  #text = '';
  #waiting: ((reply: { status: number; body: string }) => void) | undefined;
  #failed: ((error: Error) => void) | undefined;

  /** `from`: local address, so that several clients can be told apart. */
  constructor(port: number, from = '127.0.0.1') {
    this.#socket = connect({ port, host: '127.0.0.1', localAddress: from, noDelay: true });
    this.#socket.setEncoding('latin1');
    this.#socket.on('data', (chunk: string) => this.#take(chunk));
    this.#socket.on('error', (error) => this.#failed?.(error));
    this.#socket.on('close', () => this.#failed?.(new Error('the server closed the connection')));
  }

  /** Sends and waits for the answer; at most one at a time. */
  async ask(bytes: Buffer): Promise<HttpReply> {
    const started = performance.now();
    const reply = new Promise<{ status: number; body: string }>((resolve, reject) => {
      this.#waiting = resolve;
      this.#failed = reject;
    });
    this.#socket.write(bytes);
    return { ...(await reply), ms: performance.now() - started };
  }

  close(): void {
    this.#failed = undefined;
    this.#socket.destroy();
  }

  #take(chunk: string): void {
    this.#text += chunk;
    const end = this.#text.indexOf(HEAD_END);
    if (end < 0) return;
    const head = this.#text.slice(0, end);
    const length = Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1] ?? 0);
    if (this.#text.length < end + HEAD_END.length + length) return;
    const body = this.#text.slice(end + HEAD_END.length, end + HEAD_END.length + length);
    this.#text = '';
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.({ status: Number(head.slice(9, 12)), body });
  }
}

export interface LoadResult {
  count: number;
  seconds: number;
  /** Latencies in ms. */
  ms: number[];
}

/** Asks the same over `connections` for `seconds`. Throws on any answer that is not `status`. */
export async function load(
  port: number,
  request: HttpRequest,
  { connections, seconds, status = 200 }: { connections: number; seconds: number; status?: number },
): Promise<LoadResult> {
  const bytes = requestBytes(request);
  const clients = Array.from({ length: connections }, () => new Connection(port));
  const ms: number[] = [];
  const started = performance.now();
  const end = started + seconds * 1_000;
  await Promise.all(
    clients.map(async (client) => {
      while (performance.now() < end) {
        const reply = await client.ask(bytes);
        if (reply.status !== status) throw new Error(`answered ${reply.status}: ${reply.body}`);
        ms.push(reply.ms);
      }
    }),
  );
  for (const client of clients) client.close();
  return { count: ms.length, seconds: (performance.now() - started) / 1_000, ms };
}
