// A TCP origin for traffic tests: it sends or swallows exact numbers of bytes and knows what went over each
// connection, so a test can compare the origin's figures with the engine's, the client's and the ledger's.
// The client's first line says what happens: "DOWN n", "UP n", or "STREAM bytesPerSecond" (0 = as fast as it goes).
// Imports nothing but Node, so `node origin.ts` also runs inside a network namespace; it prints JSON lines then.
import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { parseArgs } from 'node:util';

const CHUNK_BYTES = 64 * 1024;
const CHUNK = Buffer.alloc(CHUNK_BYTES, 'penstock ');
const STREAM_TICK_MS = 20;
const REQUEST_BYTES_MAX = 64;

/** What went over one connection so far; `sentBytes` counts what the kernel took. */
export interface OriginConnection {
  id: number;
  remote: string;
  request: string;
  sentBytes: number;
  receivedBytes: number;
  open: boolean;
}

export interface Origin {
  host: string;
  port: number;
  /** All connections since the start, oldest first. The objects are live. */
  connections: OriginConnection[];
  close(): Promise<void>;
}

export interface OriginOptions {
  host?: string;
  port?: number;
  /** Told when a connection opened, got its request, or ended. */
  onEvent?: (event: 'open' | 'request' | 'close', connection: OriginConnection) => void;
}

/** Starts the origin; port 0 (default) takes a free one. */
export async function startOrigin(options: OriginOptions = {}): Promise<Origin> {
  const connections: OriginConnection[] = [];
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const connection: OriginConnection = {
      id: connections.length + 1,
      remote: `${socket.remoteAddress ?? '?'}:${socket.remotePort ?? 0}`,
      request: '',
      sentBytes: 0,
      receivedBytes: 0,
      open: true,
    };
    connections.push(connection);
    sockets.add(socket);
    options.onEvent?.('open', connection);
    socket.on('close', () => {
      connection.open = false;
      sockets.delete(socket);
      options.onEvent?.('close', connection);
    });
    socket.on('error', () => socket.destroy());
    serve(socket, connection, () => options.onEvent?.('request', connection));
  });
  const host = options.host ?? '127.0.0.1';
  const port = await listen(server, host, options.port ?? 0);
  return {
    host,
    port,
    connections,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

function listen(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : port);
    });
  });
}

function serve(socket: Socket, connection: OriginConnection, onRequest: () => void): void {
  let head = '';
  const onHead = (data: Buffer): void => {
    connection.receivedBytes += data.length;
    head += data.toString('latin1');
    const end = head.indexOf('\n');
    if (end < 0) {
      if (head.length > REQUEST_BYTES_MAX) socket.destroy();
      return;
    }
    socket.off('data', onHead);
    connection.request = head.slice(0, end);
    onRequest();
    const [verb, amountText = ''] = connection.request.split(' ');
    const amount = Number(amountText);
    if (!Number.isSafeInteger(amount) || amount < 0) socket.destroy();
    else if (verb === 'DOWN') void send(socket, connection, amount);
    else if (verb === 'UP') swallow(socket, connection, amount, head.length - end - 1);
    else if (verb === 'STREAM') stream(socket, connection, amount);
    else socket.destroy();
  };
  socket.on('data', onHead);
  socket.on('end', () => {
    if (connection.request === '' || connection.request.startsWith('STREAM')) socket.destroy();
  });
}

async function send(socket: Socket, connection: OriginConnection, bytes: number): Promise<void> {
  // Anything more from the client is counted, not answered.
  socket.on('data', (data: Buffer) => (connection.receivedBytes += data.length));
  let left = bytes;
  while (left > 0 && !socket.destroyed) {
    const size = Math.min(left, CHUNK_BYTES);
    left -= size;
    await write(socket, connection, CHUNK.subarray(0, size));
  }
  socket.end();
}

function swallow(socket: Socket, connection: OriginConnection, bytes: number, already: number): void {
  let got = already;
  const answer = (): void => {
    const text = Buffer.from(`OK ${got}\n`);
    void write(socket, connection, text).then(() => socket.end());
  };
  if (got >= bytes) {
    answer();
    return;
  }
  socket.on('data', (data: Buffer) => {
    connection.receivedBytes += data.length;
    const before = got;
    got += data.length;
    if (before < bytes && got >= bytes) answer();
  });
}

function stream(socket: Socket, connection: OriginConnection, bytesPerSecond: number): void {
  socket.on('data', (data: Buffer) => (connection.receivedBytes += data.length));
  if (bytesPerSecond === 0) {
    void send(socket, connection, Number.MAX_SAFE_INTEGER);
    return;
  }
  const perTick = Math.max(1, Math.round((bytesPerSecond * STREAM_TICK_MS) / 1000));
  let busy = false;
  const timer = setInterval(() => {
    if (busy || socket.destroyed) return;
    busy = true;
    void send1(socket, connection, perTick).finally(() => (busy = false));
  }, STREAM_TICK_MS);
  socket.on('close', () => clearInterval(timer));
}

async function send1(socket: Socket, connection: OriginConnection, bytes: number): Promise<void> {
  for (let left = bytes; left > 0 && !socket.destroyed; left -= CHUNK_BYTES) {
    await write(socket, connection, CHUNK.subarray(0, Math.min(left, CHUNK_BYTES)));
  }
}

/** Resolves when the kernel took the bytes, or the connection is gone. */
function write(socket: Socket, connection: OriginConnection, data: Buffer): Promise<void> {
  return new Promise((resolve) => {
    socket.write(data, (error) => {
      if (error === null || error === undefined) connection.sentBytes += data.length;
      resolve();
    });
  });
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { host: { type: 'string' }, port: { type: 'string' } } });
  const print = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`);
  const origin = await startOrigin({
    host: values.host ?? '127.0.0.1',
    port: Number(values.port ?? '0'),
    onEvent: (event, connection) => print({ event, ...connection }),
  });
  print({ event: 'ready', host: origin.host, port: origin.port });
  // How much went out so far, ten times a second while something is open: a test sees the origin fall silent.
  const timer = setInterval(() => {
    const open = origin.connections.filter((connection) => connection.open);
    if (open.length > 0) print({ event: 'progress', connections: open });
  }, 100);
  process.once('SIGTERM', () => {
    clearInterval(timer);
    void origin.close();
  });
}
