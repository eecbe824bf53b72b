// A customer's device for traffic tests: a real Xray with one SOCKS inbound and one VLESS outbound to the node.
// Its configuration goes in over stdin, so no credential is ever on disk or in argv.
// Imports nothing but Node, so `node xray-client.ts` (settings as one JSON line on stdin) also runs inside a network
// namespace; it prints {"event":"ready","socksPort":…} and ends its Xray on SIGTERM.
import { spawn } from 'node:child_process';
import { connect, createServer } from 'node:net';
import { text } from 'node:stream/consumers';

const READY_TIMEOUT_MS = 15_000;

export interface XrayClientOptions {
  /** Path of the Xray binary. */
  bin: string;
  serverHost: string;
  serverPort: number;
  vlessId: string;
  flow?: '' | 'xtls-rprx-vision';
  /** Left out: plain TCP. */
  reality?: { publicKey: string; shortId: string; serverName: string };
  /** mux.cool with this many streams a connection; left out: none. */
  muxConcurrency?: number;
  /** Left out: a free port. */
  socksPort?: number;
}

export interface XrayClient {
  socksPort: number;
  pid: number;
  stop(): Promise<void>;
}

/** Starts the client; resolves when its SOCKS port answers. */
export async function startXrayClient(options: XrayClientOptions): Promise<XrayClient> {
  const socksPort = options.socksPort ?? (await freePort());
  const child = spawn(options.bin, ['run', '-c', 'stdin:'], {
    stdio: ['pipe', 'pipe', 'pipe'],
    // Xray's bulk reader (readv) takes a reset for "no data yet" and waits for ever, so at full speed this client would
    // not notice that the node ended its connection until the idle timeout of 300 s.
    env: { XRAY_BUF_READV: 'disable' },
  });
  let output = '';
  const keep = (data: Buffer): void => {
    output = (output + data.toString()).slice(-4096);
  };
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  const exited = new Promise<void>((resolve) => child.once('close', () => resolve()));
  child.stdin.on('error', () => undefined);
  child.stdin.end(JSON.stringify(clientConfig(options, socksPort)));
  const deadline = performance.now() + READY_TIMEOUT_MS;
  while (!(await answers(socksPort))) {
    if (child.exitCode !== null || performance.now() > deadline) {
      child.kill('SIGKILL');
      throw new Error(`the Xray client did not start: ${output.slice(-500)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return {
    socksPort,
    pid: child.pid ?? 0,
    stop: async () => {
      child.kill('SIGTERM');
      await exited;
    },
  };
}

function clientConfig(options: XrayClientOptions, socksPort: number): object {
  const user = { id: options.vlessId, encryption: 'none', flow: options.flow ?? '' };
  const streamSettings =
    options.reality === undefined
      ? { network: 'tcp', security: 'none' }
      : {
          network: 'tcp',
          security: 'reality',
          realitySettings: { fingerprint: 'chrome', ...options.reality },
        };
  return {
    log: { access: 'none', loglevel: 'warning' },
    inbounds: [
      { listen: '127.0.0.1', port: socksPort, protocol: 'socks', settings: { auth: 'noauth', udp: false } },
    ],
    outbounds: [
      {
        protocol: 'vless',
        settings: { vnext: [{ address: options.serverHost, port: options.serverPort, users: [user] }] },
        streamSettings,
        ...(options.muxConcurrency === undefined
          ? {}
          : { mux: { enabled: true, concurrency: options.muxConcurrency } }),
      },
    ],
  };
}

/** A TCP port on loopback that was free a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

if (import.meta.main) {
  const options = JSON.parse(await text(process.stdin)) as XrayClientOptions;
  const client = await startXrayClient(options);
  process.stdout.write(
    `${JSON.stringify({ event: 'ready', socksPort: client.socksPort, pid: client.pid })}\n`,
  );
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      void client.stop();
    });
  }
}
