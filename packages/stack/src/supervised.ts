// One process of the stack: started in a session of its own with a log file, watched, started again with growing
// pauses when it dies, stopped by SIGTERM. A record in run/ names it, so that the next start finds what a kill -9
// of ours left behind. Called by stack.ts; tests use kill(), stop() and restart().
import { spawn, type ChildProcess } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '@penstock/domain/errors';
import { systemClock } from '@penstock/domain/clock';
import { writePrivate } from './files.js';
import { endIdentity, identify, signalIdentity, type ProcessIdentity } from './identity.js';
import { lastLines, openLog } from './logs.js';
import { pollMs, until } from './until.js';

const restartDelayMinMs = 500;
const restartDelayMaxMs = 15_000;
/** A process that lived this long starts again without a longer pause. */
const stableMs = 30_000;
/** Ends before the first readiness that count as "it does not start". */
const startEndsMax = 3;
const probeTimeoutMs = 2_000;
/** Exit code of a process whose configuration is wrong: starting it again cannot help. */
const exitConfig = 78;

export interface ProcessSpec {
  name: string;
  /** Program and arguments; never a secret among them. */
  command: readonly [string, ...string[]];
  env: Readonly<Record<string, string>>;
  cwd: string;
  /** Base of /health, /ready and /metrics; undefined for a process without them. */
  opsUrl?: string | undefined;
  /** Answers 200 when the process is ready; default `${opsUrl}/ready`. */
  readyUrl?: string | undefined;
  /** SIGKILL after this, when SIGTERM was not enough. */
  stopGraceMs?: number;
}

export interface SupervisedOptions {
  logDir: string;
  runDir: string;
  autoRestart: boolean;
  say(line: string): void;
  /** Called when the process began or ended. */
  onChange(): void;
}

export class Supervised {
  private child: ChildProcess | null = null;
  private identity: ProcessIdentity | null = null;
  private wanted = false;
  private startedAt = 0;
  private delayMs = restartDelayMinMs;
  private timer: NodeJS.Timeout | null = null;
  private ends = 0;
  private lastEnd = '';
  private hopeless = false;

  constructor(
    private current: ProcessSpec,
    private readonly options: SupervisedOptions,
  ) {}

  get name(): string {
    return this.current.name;
  }

  get spec(): ProcessSpec {
    return this.current;
  }

  /** Null while the process is not running. */
  get pid(): number | null {
    return this.identity?.pid ?? null;
  }

  get logFile(): string {
    return join(this.options.logDir, `${this.name}.log`);
  }

  /** How often the process ended since start() or restart() was called. */
  get endCount(): number {
    return this.ends;
  }

  /** Starts the process and does not wait; waitReady() does. */
  async start(): Promise<void> {
    this.wanted = true;
    this.ends = 0;
    this.hopeless = false;
    if (this.child === null) await this.launch();
  }

  /** Resolves when the process says that it is ready; throws with the end of its log when it cannot start. */
  async waitReady(timeoutMs: number): Promise<void> {
    const url =
      this.current.readyUrl ??
      (this.current.opsUrl === undefined ? undefined : `${this.current.opsUrl}/ready`);
    await until(`The readiness of ${this.name}`, timeoutMs, async () => {
      const endsMax = this.options.autoRestart ? startEndsMax : 1;
      if (this.hopeless || this.ends >= endsMax) {
        const said = await lastLines(this.logFile, 6);
        throw new AppError(
          'unavailable',
          `${this.name} does not start: it ended with ${this.lastEnd}.\n${said}`,
        );
      }
      if (this.identity === null) return null;
      return url === undefined || (await answers(url)) ? true : null;
    });
    this.ends = 0;
  }

  /** Ends the process for good: SIGTERM, then SIGKILL. */
  async stop(): Promise<void> {
    this.wanted = false;
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    if (this.identity !== null)
      await endIdentity(this.identity, 'SIGTERM', this.current.stopGraceMs ?? 15_000);
    await this.ended();
  }

  /** A fault from outside. Resolves when the process is gone, for a signal that ends it. */
  async kill(signal: NodeJS.Signals): Promise<void> {
    if (this.identity === null) return;
    signalIdentity(this.identity, signal);
    if (signal === 'SIGKILL') await this.ended();
  }

  /** Stops and starts the process, with changed variables when given; undefined removes one. */
  async restart(change: Readonly<Record<string, string | undefined>> = {}): Promise<void> {
    await this.stop();
    this.change(change);
    await this.start();
  }

  /** Changes the environment of the next start. */
  change(change: Readonly<Record<string, string | undefined>>): void {
    const env: Record<string, string> = {};
    for (const [key, value] of Object.entries({ ...this.current.env, ...change })) {
      if (value !== undefined) env[key] = value;
    }
    this.current = { ...this.current, env };
  }

  /** For the end of a process that must not wait: SIGKILL, at once. */
  killNow(): void {
    this.wanted = false;
    if (this.identity !== null) signalIdentity(this.identity, 'SIGKILL');
  }

  private async launch(): Promise<void> {
    const log = await openLog(this.logFile);
    const [program, ...args] = this.current.command;
    const child = spawn(program, args, {
      cwd: this.current.cwd,
      env: { ...this.current.env },
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
    });
    this.child = child;
    this.startedAt = systemClock.monotonic();
    child.once('error', (error) => this.onEnd(child, error.message, null));
    child.once('exit', (code, signal) => this.onEnd(child, signal ?? `code ${code}`, code));
    await log.close();
    if (child.pid === undefined) return;
    this.identity = identify(child.pid);
    if (this.identity === null) return;
    await writePrivate(recordFile(this.options.runDir, this.name), JSON.stringify(this.identity));
    this.options.onChange();
  }

  private onEnd(child: ChildProcess, how: string, code: number | null): void {
    if (this.child !== child) return;
    this.child = null;
    this.identity = null;
    this.ends += 1;
    this.lastEnd = how;
    this.options.onChange();
    if (!this.wanted) return;
    if (code === exitConfig) this.hopeless = true;
    if (!this.options.autoRestart || this.hopeless) return;
    const lived = systemClock.monotonic() - this.startedAt;
    this.delayMs = lived > stableMs ? restartDelayMinMs : Math.min(this.delayMs * 2, restartDelayMaxMs);
    this.options.say(`${this.name} ended (${how}); it is started again in ${this.delayMs / 1000} s`);
    this.timer = setTimeout(() => {
      this.timer = null;
      if (!this.wanted || this.child !== null) return;
      this.launch().catch((error: unknown) => this.options.say(`${this.name}: ${(error as Error).message}`));
    }, this.delayMs);
  }

  private async ended(): Promise<void> {
    await until(`The end of ${this.name}`, 10_000, () => (this.child === null ? true : null), pollMs / 4);
    await rm(recordFile(this.options.runDir, this.name), { force: true });
  }
}

export function recordFile(runDir: string, name: string): string {
  return join(runDir, `${name}.process`);
}

/** True when a GET of `url` is answered with 200. */
export async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(probeTimeoutMs) });
    await response.arrayBuffer();
    return response.status === 200;
  } catch {
    return false;
  }
}
