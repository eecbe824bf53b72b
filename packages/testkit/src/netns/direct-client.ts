// A plain TCP client for traffic/origin.ts, for paths that need no proxy (WireGuard): downloads, uploads or streams
// and reports the exact payload bytes. Run inside a namespace: `node direct-client.ts --origin 198.18.0.2:80
// --download 100000`; it prints JSON lines as socks-client.ts does. Imports nothing but Node.
import { connect } from 'node:net';
import { parseArgs } from 'node:util';

const CHUNK = Buffer.alloc(64 * 1024, 'penstock ');

const { values } = parseArgs({
  options: {
    origin: { type: 'string' },
    download: { type: 'string' },
    upload: { type: 'string' },
    /** Bytes per second, 0 = as fast as it goes. */
    stream: { type: 'string' },
    timeout: { type: 'string', default: '10000' },
  },
});
const print = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`);
const at = (values.origin ?? '').lastIndexOf(':');
const socket = connect({
  host: (values.origin ?? '').slice(0, at),
  port: Number((values.origin ?? '').slice(at + 1)),
});
let sentBytes = 0;
let receivedBytes = 0;
let error = '';
let expected = Number.MAX_SAFE_INTEGER;

socket.setTimeout(Number(values.timeout), () => {
  error = 'timeout';
  socket.destroy();
});
socket.on('error', (cause) => (error = cause.message));
socket.on('data', (data) => (receivedBytes += data.length));
socket.on('connect', () => {
  print({ event: 'open' });
  if (values.download !== undefined) {
    expected = Number(values.download);
    void send(Buffer.from(`DOWN ${values.download}\n`));
  } else if (values.upload !== undefined) {
    expected = `OK ${values.upload}\n`.length;
    void send(Buffer.from(`UP ${values.upload}\n`));
    void sendMany(Number(values.upload));
  } else {
    void send(Buffer.from(`STREAM ${values.stream ?? '0'}\n`));
  }
});
const timer = setInterval(() => print({ event: 'progress', sentBytes, receivedBytes }), 50);
socket.on('close', () => {
  clearInterval(timer);
  print({ event: 'done', complete: receivedBytes >= expected, sentBytes, receivedBytes, error });
});
process.once('SIGTERM', () => socket.destroy());

function send(data: Buffer): Promise<void> {
  return new Promise((resolve) => {
    socket.write(data, (failed) => {
      if (failed === null || failed === undefined) sentBytes += data.length;
      resolve();
    });
  });
}

async function sendMany(bytes: number): Promise<void> {
  for (let left = bytes; left > 0 && !socket.destroyed; left -= CHUNK.length) {
    await send(CHUNK.subarray(0, Math.min(left, CHUNK.length)));
  }
}
