// The Xray process of this node: exactly one, in a session of its own, so that it outlives the agent and is adopted by
// the next one. Every listener of Xray has SO_REUSEPORT, so a second one would silently take half of the customers:
// a lock keeps a second driver out, leftovers on our configuration are ended, and a port that someone else listens on
// is refused. Called by xray.engine.ts only.
import { execFile, spawn } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  constants,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { createHash } from 'node:crypto';
import { createServer } from 'node:net';
import type { Server } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Clock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import { processLife, stillRuns } from '../process-life.js';
import type { ProcessLife } from '../process-life.js';
import { ensureFifo } from './access-log.js';
import { processesOn } from './proc.js';
import { listenersOn } from './sockets.js';

/** The newest release that is also a Go module tag; everything here was measured on it. */
export const VERSION_FLOOR = '26.3.27';

const VERSION_TIMEOUT_MS = 5_000;
/** 50,000 users take 1 s. */
const TEST_TIMEOUT_MS = 30_000;
const TERM_TIMEOUT_MS = 3_000;
const KILL_TIMEOUT_MS = 3_000;
const WATCH_INTERVAL_MS = 200;
const SOCKET_PATH_BYTES_MAX = 107;

export interface Listener {
  listen: string;
  port: number;
}

interface PidFile extends ProcessLife {
  configHash: string;
}

/** Writes a 0600 file so that a reader sees the old or the new text, never a part, also after a power cut. */
export function writeAtomically(path: string, text: string): void {
  const fd = openSync(`${path}.new`, 'w', 0o600);
  try {
    writeSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(`${path}.new`, path);
  const dir = openSync(dirname(path), 'r');
  try {
    fsyncSync(dir);
  } finally {
    closeSync(dir);
  }
}

export class XrayProcess {
  readonly paths: {
    config: string;
    socket: string;
    accessLog: string;
    owners: string;
    pid: string;
    output: string;
  };
  readonly #bin: string;
  readonly #dir: string;
  readonly #clock: Clock;
  #life: ProcessLife | null = null;
  #lock: Server | null = null;
  #watch: NodeJS.Timeout | null = null;
  #version = '';

  constructor(bin: string, dir: string, clock: Clock) {
    this.#bin = bin;
    this.#dir = dir;
    this.#clock = clock;
    this.paths = {
      config: join(dir, 'config.json'),
      socket: join(dir, 'api.sock'),
      accessLog: join(dir, 'access.fifo'),
      owners: join(dir, 'sockets'),
      pid: join(dir, 'pid.json'),
      output: join(dir, 'output.log'),
    };
    if (Buffer.byteLength(this.paths.socket) > SOCKET_PATH_BYTES_MAX) {
      throw new AppError('invalid_input', `the path ${this.paths.socket} is too long for a unix socket`, {
        field: 'xray.dir',
      });
    }
  }

  /** The life of the process as last seen, or null. */
  get life(): ProcessLife | null {
    return this.#life;
  }

  /** Looks whether it still runs; `life` is null from then on when it does not. */
  async alive(): Promise<boolean> {
    const life = this.#life;
    if (life !== null && !(await stillRuns(life)) && this.#life === life) this.#life = null;
    return this.#life !== null;
  }

  /** "26.3.27". Throws failed_precondition when the binary is missing or below the floor. */
  async version(): Promise<string> {
    if (this.#version !== '') return this.#version;
    const text = await promisify(execFile)(this.#bin, ['version'], {
      timeout: VERSION_TIMEOUT_MS,
      env: {},
    }).then(
      ({ stdout }) => stdout,
      (cause: unknown) => {
        throw new AppError(
          'failed_precondition',
          `Xray cannot be run as ${this.#bin}: set XRAY_BIN to its path`,
          { cause },
        );
      },
    );
    const version = /^Xray (\d+\.\d+\.\d+)/.exec(text)?.[1] ?? '';
    if (!atLeast(version, VERSION_FLOOR)) {
      throw new AppError(
        'failed_precondition',
        `Xray ${version || '(unknown)'} is too old: ${VERSION_FLOOR} or newer is needed`,
      );
    }
    this.#version = version;
    return version;
  }

  /** Makes the directory and takes the lock; a second driver of the same directory gets `conflict`. */
  async claim(): Promise<void> {
    if (this.#lock !== null) return;
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
    chmodSync(this.#dir, 0o700);
    // An abstract socket: the kernel lets go of it with the process, whatever ends it.
    const name = `\0penstock-xray-${createHash('sha256').update(this.#dir).digest('hex').slice(0, 32)}`;
    const server = createServer((socket) => socket.destroy());
    await new Promise<void>((resolve, reject) => {
      server.once('error', (cause) => {
        reject(new AppError('conflict', `another agent drives the Xray in ${this.#dir}`, { cause }));
      });
      server.listen(name, resolve);
    });
    server.unref();
    this.#lock = server;
  }

  /** Takes over the process that an earlier agent left, when it runs on the same static configuration. */
  async adopt(configHash: string): Promise<boolean> {
    const left = this.#readPidFile();
    if (left === null || left.configHash !== configHash) return false;
    const [running] = (await processesOn(this.paths.config)).filter(({ pid }) => pid === left.pid);
    if (running === undefined || !(await stillRuns(left))) return false;
    this.#life = running;
    return true;
  }

  /** Ends every process on our configuration but the adopted one. Returns how many there were. */
  async endOrphans(): Promise<number> {
    const orphans = (await processesOn(this.paths.config)).filter(({ pid }) => pid !== this.#life?.pid);
    await Promise.all(orphans.map((life) => this.#end(life)));
    return orphans.length;
  }

  /**
   * Starts Xray on this configuration. Throws failed_precondition when Xray refuses it (`secrets` never show in the
   * message), conflict when a port is taken.
   */
  async spawn(
    config: string,
    configHash: string,
    listeners: readonly Listener[],
    secrets: readonly string[],
  ): Promise<void> {
    await this.#refuseTakenPorts(listeners);
    writeAtomically(this.paths.config, config);
    await ensureFifo(this.paths.accessLog);
    // Xray keeps this descriptor: the FIFO always has a reader, so opening and writing the log never blocks or fails.
    const fifo = openSync(this.paths.accessLog, constants.O_RDWR | constants.O_NONBLOCK);
    const output = openSync(this.paths.output, 'w', 0o600);
    try {
      await this.#test(secrets);
      // A socket left by a kill makes the start fail, and its lock file would keep it waiting.
      for (const path of [this.paths.socket, `${this.paths.socket}.lock`, this.paths.owners])
        rmSync(path, { force: true });
      const child = spawn(this.#bin, ['run', '-c', this.paths.config], {
        detached: true,
        cwd: this.#dir,
        // Splice would hide a Vision stream's bytes from the counters until it ends (dataplane A8).
        env: { XRAY_BUF_SPLICE: 'disable' },
        stdio: ['ignore', output, output, fifo],
      });
      await new Promise<void>((resolve, reject) => {
        child.once('spawn', resolve);
        child.once('error', (cause) =>
          reject(new AppError('failed_precondition', `Xray could not be started`, { cause })),
        );
      });
      child.unref();
      const life = child.pid === undefined ? null : await processLife(child.pid);
      if (life === null) throw this.startFailure(secrets);
      this.#life = life;
      const pidFile: PidFile = { ...life, configHash };
      writeAtomically(this.paths.pid, JSON.stringify(pidFile));
    } finally {
      closeSync(fifo);
      closeSync(output);
    }
  }

  /** Calls `onDied` once when the process is gone; looks every 200 ms, and at once when `check` is called. */
  watch(onDied: () => void): { check: () => void } {
    this.unwatch();
    const timer = setInterval(() => void look(), WATCH_INTERVAL_MS);
    timer.unref();
    this.#watch = timer;
    const look = async (): Promise<void> => {
      if ((await this.alive()) || this.#watch !== timer) return;
      this.unwatch();
      onDied();
    };
    return { check: () => void look() };
  }

  unwatch(): void {
    if (this.#watch !== null) clearInterval(this.#watch);
    this.#watch = null;
  }

  /** Ends the process: asked first, killed after 3 s. */
  async stop(): Promise<void> {
    this.unwatch();
    const life = this.#life;
    if (life !== null) await this.#end(life);
    this.#life = null;
    rmSync(this.paths.pid, { force: true });
  }

  /** Lets go of the lock; the process keeps running. */
  async release(): Promise<void> {
    this.unwatch();
    const lock = this.#lock;
    this.#lock = null;
    if (lock !== null) await new Promise<void>((resolve) => lock.close(() => resolve()));
  }

  /** What Xray said before it ended, as the error to throw. */
  startFailure(secrets: readonly string[]): AppError {
    let said = '';
    try {
      said = readFileSync(this.paths.output, 'utf8');
    } catch {
      // Nothing was said.
    }
    return new AppError('failed_precondition', `Xray ended at its start: ${lastLine(said, secrets)}`);
  }

  async #test(secrets: readonly string[]): Promise<void> {
    const run = promisify(execFile)(this.#bin, ['run', '-test', '-c', this.paths.config], {
      timeout: TEST_TIMEOUT_MS,
      env: {},
      cwd: this.#dir,
    });
    await run.catch((cause: unknown) => {
      const { stdout = '', stderr = '' } = cause as { stdout?: string; stderr?: string };
      // The cause is left out: Xray's words may name a key.
      throw new AppError(
        'failed_precondition',
        `Xray refuses its configuration: ${lastLine(stdout + stderr, secrets)}`,
      );
    });
  }

  async #refuseTakenPorts(listeners: readonly Listener[]): Promise<void> {
    const isWild = (address: string): boolean => ['0.0.0.0', '*', '[::]', '::'].includes(address);
    for (const line of await listenersOn(listeners.map(({ port }) => port))) {
      const local = line.trim().split(/\s+/)[3] ?? '';
      const at = local.lastIndexOf(':');
      const address = local.slice(0, at);
      const port = Number(local.slice(at + 1));
      const bare = address.replace(/[[\]]/g, '');
      const clash = listeners.some(
        (own) => own.port === port && (own.listen === bare || isWild(address) || isWild(own.listen)),
      );
      if (clash) {
        const who = /users:\(\("([^"]+)",pid=(\d+)/.exec(line);
        const name = who === null ? 'another process' : `${who[1] ?? ''} (pid ${who[2] ?? ''})`;
        throw new AppError(
          'conflict',
          `port ${port} is in use by ${name}: stop it or give the inbound another port`,
        );
      }
    }
  }

  async #end(life: ProcessLife): Promise<void> {
    for (const [signal, timeoutMs] of [
      ['SIGTERM', TERM_TIMEOUT_MS],
      ['SIGKILL', KILL_TIMEOUT_MS],
    ] as const) {
      if (!(await stillRuns(life))) return;
      process.kill(life.pid, signal);
      const end = this.#clock.monotonic() + timeoutMs;
      while ((await stillRuns(life)) && this.#clock.monotonic() < end) await wait(10);
    }
    if (await stillRuns(life)) throw new AppError('internal', `Xray (pid ${life.pid}) cannot be ended`);
  }

  #readPidFile(): PidFile | null {
    try {
      const file = JSON.parse(readFileSync(this.paths.pid, 'utf8')) as PidFile;
      return Number.isInteger(file.pid) ? file : null;
    } catch {
      return null;
    }
  }
}

function atLeast(version: string, floor: string): boolean {
  const [have, need] = [version, floor].map((text) => text.split('.').map(Number));
  for (const [index, part] of (need ?? []).entries()) {
    const own = have?.[index] ?? -1;
    if (own !== part) return own > part;
  }
  return true;
}

function lastLine(text: string, secrets: readonly string[]): string {
  const line = text.trim().split('\n').at(-1) ?? '';
  const clean = secrets.reduce((rest, secret) => rest.replaceAll(secret, '…'), line);
  // Ids are customers' credentials.
  return clean.replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/gi, '…').slice(0, 400) || 'it said nothing';
}
