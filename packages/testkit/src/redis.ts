// A real Redis of a test's own: redis-server on a free port of loopback, nothing on disk. A test may kill it, stop it
// for a while and start it again on the same port.
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const START_TIMEOUT_MS = 10_000;

export interface TestRedis {
  readonly url: string;
  readonly port: number;
  /** Sends one inline command and gives the raw reply. */
  ask(command: string): Promise<string>;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
  /** SIGSTOP and SIGCONT: it hangs, its connections stay. */
  freeze(): void;
  thaw(): void;
  /** Starts it again, empty, on the same port. */
  start(): Promise<void>;
  close(): Promise<void>;
}

export async function testRedis(): Promise<TestRedis> {
  const directory = mkdtempSync(join(tmpdir(), 'penstock-redis-'));
  const port = await freePort();
  let child: ChildProcess | undefined;

  const start = async (): Promise<void> => {
    const args = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'];
    const started = spawn('redis-server', [...args, '--dir', directory], { stdio: 'ignore' });
    let failure: Error | undefined;
    started.once('error', (error) => (failure = error));
    started.once('exit', (code) => (failure ??= new Error(`redis-server ended with ${code}`)));
    child = started;
    const deadline = performance.now() + START_TIMEOUT_MS;
    for (;;) {
      if (failure !== undefined) throw failure;
      if ((await inline(port, 'PING').catch(() => '')).startsWith('+PONG')) return;
      if (performance.now() > deadline) throw new Error('redis-server does not answer');
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };
  const kill = async (): Promise<void> => {
    const ending = child;
    if (ending === undefined || ending.exitCode !== null || ending.signalCode !== null) return;
    const gone = new Promise((resolve) => ending.once('exit', resolve));
    ending.kill('SIGKILL');
    await gone;
  };
  await start();
  return {
    ...{ url: `redis://127.0.0.1:${port}`, port, kill, start },
    ask: (command) => inline(port, command),
    freeze: () => void child?.kill('SIGSTOP'),
    thaw: () => void child?.kill('SIGCONT'),
    close: async () => {
      await kill();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function inline(port: number, command: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(`${command}\r\n`));
    socket.once('error', reject);
    socket.once('data', (data: Buffer) => {
      socket.destroy();
      resolve(data.toString());
    });
  });
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(port));
    });
  });
}
