// A SOCKS5 client for traffic tests: it downloads, uploads or streams through a local Xray client and reports the
// exact inner bytes each way (request line included, SOCKS handshake excluded), which is what Xray counts.
// Imports nothing but Node, so `node socks-client.ts` also runs inside a network namespace; it prints JSON lines then.
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { parseArgs } from 'node:util';

const CONNECT_TIMEOUT_MS = 10_000;
const CHUNK = Buffer.alloc(64 * 1024, 'penstock ');

export interface SocksTarget {
  socksHost?: string;
  socksPort: number;
  /** Address or name of the origin as the engine is to see it. */
  originHost: string;
  originPort: number;
}

/** One transfer. `sentBytes`/`receivedBytes` grow while it runs. */
export interface Transfer {
  sentBytes: number;
  receivedBytes: number;
  /** False once the connection is over, whoever ended it. */
  open: boolean;
  /** Monotonic ms when it was over, on the client's clock; 0 while open. */
  closedAtMs: number;
  /** Resolves when the connection is over: complete = every byte asked for moved. */
  done: Promise<TransferResult>;
  /** Ends it from the client's side. */
  abort(): void;
}

export interface TransferResult {
  complete: boolean;
  sentBytes: number;
  receivedBytes: number;
  /** Empty when complete. */
  error: string;
}

/** Downloads `bytes` from the origin; ends when the origin ends. */
export function download(target: SocksTarget, bytes: number): Promise<TransferResult> {
  return start(target, `DOWN ${bytes}`, bytes, 0).then((transfer) => transfer.done, refused);
}

/** Uploads `bytes` and waits for the origin's answer. */
export function upload(target: SocksTarget, bytes: number): Promise<TransferResult> {
  const answer = `OK ${bytes}\n`.length;
  return start(target, `UP ${bytes}`, answer, bytes).then((transfer) => transfer.done, refused);
}

/** An endless download at about `bytesPerSecond` (0 = as fast as it goes); resolves once the first byte came. */
export async function openStream(target: SocksTarget, bytesPerSecond: number): Promise<Transfer> {
  const transfer = await start(target, `STREAM ${bytesPerSecond}`, Number.MAX_SAFE_INTEGER, 0);
  const end = performance.now() + CONNECT_TIMEOUT_MS;
  while (transfer.receivedBytes === 0 && transfer.open && performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  if (transfer.receivedBytes > 0) return transfer;
  transfer.abort();
  throw new Error(`the stream never began: ${(await transfer.done).error}`);
}

function refused(error: unknown): TransferResult {
  return { complete: false, sentBytes: 0, receivedBytes: 0, error: String(error) };
}

async function start(
  target: SocksTarget,
  request: string,
  expect: number,
  upBytes: number,
): Promise<Transfer> {
  const socket = await openThroughSocks(target);
  let error = '';
  let finish: (result: TransferResult) => void = () => undefined;
  const transfer: Transfer = {
    sentBytes: 0,
    receivedBytes: 0,
    open: true,
    closedAtMs: 0,
    done: new Promise((resolve) => (finish = resolve)),
    abort: () => socket.destroy(),
  };
  socket.on('data', (data: Buffer) => {
    transfer.receivedBytes += data.length;
    // VLESS cannot pass a half-close on: Xray would keep the connection for another second.
    if (transfer.receivedBytes === expect) socket.destroy();
  });
  socket.on('error', (cause) => (error = String(cause)));
  socket.on('close', () => {
    transfer.open = false;
    transfer.closedAtMs = performance.now();
    const complete = transfer.receivedBytes === expect;
    if (!complete && error === '') error = 'the connection ended early';
    finish({
      complete,
      sentBytes: transfer.sentBytes,
      receivedBytes: transfer.receivedBytes,
      error: complete ? '' : error,
    });
  });
  await send(socket, transfer, Buffer.from(`${request}\n`));
  void (async () => {
    for (let left = upBytes; left > 0 && !socket.destroyed; left -= CHUNK.length) {
      await send(socket, transfer, CHUNK.subarray(0, Math.min(left, CHUNK.length)));
    }
  })();
  return transfer;
}

function send(socket: Socket, transfer: Transfer, data: Buffer): Promise<void> {
  return new Promise((resolve) => {
    socket.write(data, (cause) => {
      if (cause === null || cause === undefined) transfer.sentBytes += data.length;
      resolve();
    });
  });
}

/** A TCP connection to the origin through the SOCKS5 proxy (no authentication). Rejects when refused. */
export function openThroughSocks(target: SocksTarget): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: target.socksHost ?? '127.0.0.1', port: target.socksPort, noDelay: true });
    let got = Buffer.alloc(0);
    let greeted = false;
    const fail = (text: string): void => {
      socket.destroy();
      reject(new Error(text));
    };
    const onError = (cause: Error): void => fail(`socks: ${cause.message}`);
    const onClose = (): void => reject(new Error('socks: closed before it was ready'));
    const onData = (data: Buffer): void => {
      got = Buffer.concat([got, data]);
      if (!greeted) {
        if (got.length < 2) return;
        if (got[0] !== 5 || got[1] !== 0) return fail('socks: authentication asked for');
        greeted = true;
        got = got.subarray(2);
        socket.write(connectRequest(target));
      }
      const size = replyLength(got);
      if (size === 0 || got.length < size) return;
      if (got[1] !== 0) return fail(`socks: refused with code ${got[1] ?? -1}`);
      socket.setTimeout(0);
      socket.off('data', onData).off('error', onError).off('close', onClose);
      socket.pause();
      if (got.length > size) socket.unshift(got.subarray(size));
      resolve(socket);
      // The caller attaches its listener in this very turn of the loop.
      setImmediate(() => socket.resume());
    };
    socket.setTimeout(CONNECT_TIMEOUT_MS, () => fail('socks: no answer in time'));
    socket.on('data', onData).on('error', onError).on('close', onClose);
    socket.write(Buffer.from([5, 1, 0]));
  });
}

function connectRequest(target: SocksTarget): Buffer {
  const name = Buffer.from(target.originHost);
  const port = Buffer.alloc(2);
  port.writeUInt16BE(target.originPort);
  const quads = target.originHost.split('.').map(Number);
  const isIpv4 = quads.length === 4 && quads.every((part) => part >= 0 && part <= 255);
  const address = isIpv4 ? Buffer.from([1, ...quads]) : Buffer.concat([Buffer.from([3, name.length]), name]);
  return Buffer.concat([Buffer.from([5, 1, 0]), address, port]);
}

function replyLength(reply: Buffer): number {
  if (reply.length < 5) return 0;
  if (reply[3] === 1) return 10;
  if (reply[3] === 4) return 22;
  return 7 + (reply[4] ?? 0);
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      socks: { type: 'string' },
      origin: { type: 'string' },
      download: { type: 'string' },
      upload: { type: 'string' },
      stream: { type: 'string' },
    },
  });
  const print = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`);
  const split = (text: string | undefined): [string, number] => {
    const at = (text ?? '').lastIndexOf(':');
    return [(text ?? '').slice(0, at), Number((text ?? '').slice(at + 1))];
  };
  const [socksHost, socksPort] = split(values.socks);
  const [originHost, originPort] = split(values.origin);
  const target: SocksTarget = { socksHost, socksPort, originHost, originPort };
  if (values.download !== undefined) {
    print({ event: 'done', ...(await download(target, Number(values.download))) });
  } else if (values.upload !== undefined) {
    print({ event: 'done', ...(await upload(target, Number(values.upload))) });
  } else {
    const transfer = await openStream(target, Number(values.stream ?? '0')).catch((error: unknown) => {
      print({ event: 'done', ...refused(error) });
      return null;
    });
    if (transfer !== null) {
      print({ event: 'open' });
      const timer = setInterval(() => {
        print({ event: 'progress', sentBytes: transfer.sentBytes, receivedBytes: transfer.receivedBytes });
      }, 100);
      process.once('SIGTERM', () => transfer.abort());
      const result = await transfer.done;
      clearInterval(timer);
      print({ event: 'done', ...result });
    }
  }
}
