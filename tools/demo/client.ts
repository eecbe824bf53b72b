// A customer's traffic, run as a process of its own inside his namespace: over each engine an upload, a download, then a
// stream. One process and one clock for all of it, so that "from the byte that crossed the quota to the last byte that
// arrived" is the customer's own measure. Speaks client-lines.ts; started by customer.ts.
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { systemClock } from '@penstock/domain/clock';
import { openThroughSocks } from '@penstock/testkit/traffic/socks-client';
import type { ClientCommand, ClientOrder, ClientPath, PathReport, Phase } from './client-lines.js';
import { readPeers } from './uapi.js';

const CONNECT_TIMEOUT_MS = 10_000;
const REPORT_MS = 50;
/** How exactly the moment of crossing is known where a device's counters are the figures. */
const DEVICE_READ_MS = 20;
const TRY_BYTES = 1_000;
const TRY_TIMEOUT_MS = 1_500;
const CHUNK = Buffer.alloc(64 * 1024, 'penstock ');

const now = (): number => systemClock.monotonic();
const print = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`);

class Path {
  private phase: Phase = 'waiting';
  private sent = 0;
  private received = 0;
  private device = { sent: 0, received: 0 };
  private lastByteAt = 0;
  private longestPause = 0;
  private endedAt: number | null = null;

  constructor(
    readonly settings: ClientPath,
    private readonly order: ClientOrder,
    private readonly counted: () => void,
  ) {}

  get bytes(): number {
    const { sentBytes, receivedBytes } = this.report(now());
    return sentBytes + receivedBytes;
  }

  async run(): Promise<void> {
    const { uploadBytes, downloadBytes, streamBytesPerSecond } = this.settings;
    await this.transfer('uploads', `UP ${uploadBytes}`, uploadBytes, `OK ${uploadBytes}\n`.length);
    await this.transfer('downloads', `DOWN ${downloadBytes}`, 0, downloadBytes);
    await this.transfer('streams', `STREAM ${streamBytesPerSecond}`, 0, Number.MAX_SAFE_INTEGER);
    this.phase = 'ended';
    this.endedAt = now();
  }

  report(atMs: number): PathReport {
    const own =
      this.settings.deviceSocket === null ? { sent: this.sent, received: this.received } : this.device;
    const pause = this.phase === 'streams' ? atMs - this.lastByteAt : 0;
    return {
      engine: this.settings.engine,
      phase: this.phase,
      sentBytes: own.sent,
      receivedBytes: own.received,
      payloadBytes: this.sent + this.received,
      lastByteAtMs: this.lastByteAt,
      longestPauseMs: Math.max(this.longestPause, pause),
      endedAtMs: this.endedAt,
    };
  }

  async readDevice(): Promise<void> {
    if (this.settings.deviceSocket === null) return;
    const [peer] = (await readPeers(this.settings.deviceSocket)).values();
    if (peer === undefined) return;
    this.device = { sent: Number(peer.txBytes), received: Number(peer.rxBytes) };
    this.counted();
  }

  /** A new connection: how many bytes come back within the time. Not among this path's own figures. */
  async tryAgain(): Promise<number> {
    let got = 0;
    const socket = await this.open(TRY_TIMEOUT_MS).catch(() => null);
    if (socket === null) return 0;
    socket.on('data', (data: Buffer) => (got += data.length));
    const closed = new Promise<void>((resolve) => socket.on('close', () => resolve()));
    socket.setTimeout(TRY_TIMEOUT_MS, () => socket.destroy());
    socket.write(`DOWN ${TRY_BYTES}\n`);
    await closed;
    return got;
  }

  private open(timeoutMs = CONNECT_TIMEOUT_MS): Promise<Socket> {
    const { originHost, originPort } = this.order;
    const { socksPort } = this.settings;
    if (socksPort !== null) return openThroughSocks({ socksPort, originHost, originPort });
    return new Promise((resolve, reject) => {
      const socket = connect({ host: originHost, port: originPort });
      socket.setTimeout(timeoutMs, () => socket.destroy(new Error('no connection in time')));
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.setTimeout(0);
        resolve(socket);
      });
    });
  }

  /** Resolves when the connection is over, whoever ended it. */
  private async transfer(
    phase: Phase,
    request: string,
    uploadBytes: number,
    expected: number,
  ): Promise<void> {
    const socket = await this.open();
    this.phase = phase;
    this.lastByteAt = now();
    let received = 0;
    const closed = new Promise<void>((resolve) => socket.on('close', () => resolve()));
    socket.on('error', () => undefined);
    socket.on('data', (data: Buffer) => {
      const at = now();
      if (phase === 'streams') this.longestPause = Math.max(this.longestPause, at - this.lastByteAt);
      this.lastByteAt = at;
      received += data.length;
      this.received += data.length;
      this.counted();
      // VLESS cannot pass a half-close on: the one who has everything ends the connection.
      if (received === expected) socket.destroy();
    });
    await this.send(socket, Buffer.from(`${request}\n`));
    for (let left = uploadBytes; left > 0 && !socket.destroyed; left -= CHUNK.length) {
      await this.send(socket, CHUNK.subarray(0, Math.min(left, CHUNK.length)));
    }
    await closed;
    if (phase !== 'streams' && received !== expected)
      throw new Error(`${request}: only ${received} bytes came`);
  }

  private send(socket: Socket, data: Buffer): Promise<void> {
    return new Promise((resolve) => {
      socket.write(data, (failed) => {
        if (failed === null || failed === undefined) this.sent += data.length;
        this.counted();
        resolve();
      });
    });
  }
}

let crossedAtMs: number | null = null;
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const order = JSON.parse((await lines.next()).value ?? '{}') as ClientOrder;
const paths: Path[] = order.paths.map(
  (settings) =>
    new Path(settings, order, () => {
      if (crossedAtMs !== null) return;
      if (paths.reduce((sum, path) => sum + path.bytes, 0) >= order.quotaBytes) crossedAtMs = now();
    }),
);

const report = setInterval(() => {
  const atMs = now();
  print({ event: 'progress', atMs, crossedAtMs, paths: paths.map((path) => path.report(atMs)) });
}, REPORT_MS);
let reading = false;
const device = setInterval(() => {
  if (reading) return;
  reading = true;
  void Promise.allSettled(paths.map((path) => path.readDevice())).finally(() => (reading = false));
}, DEVICE_READ_MS);

for (;;) {
  const { value, done } = await lines.next();
  if (done === true || value === undefined) break;
  const { command } = JSON.parse(value) as ClientCommand;
  for (const path of paths) {
    const { engine } = path.settings;
    if (command === 'try') {
      void path.tryAgain().then((receivedBytes) => print({ event: 'tried', engine, receivedBytes }));
    } else {
      void path.run().catch((error: unknown) => {
        print({ event: 'failed', engine, reason: (error as Error).message });
      });
    }
  }
}
// Whoever started us is gone, or wants no more.
clearInterval(report);
clearInterval(device);
process.exit(0);
