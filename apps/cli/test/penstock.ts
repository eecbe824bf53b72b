// The command as a person or a script runs it: a process of its own, with a home of its own, against a real API.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const main = resolve(import.meta.dirname, '../dist/main.js');
/** The terminal of these tests is util-linux's; other systems have another `script`. */
export const hasTerminal = String(spawnSync('script', ['--version']).stdout).includes('util-linux');

const DEADLINE_MS = 20_000;

export interface Ended {
  code: number | null;
  out: string;
  err: string;
}

/** One that runs: what it wrote so far, and waiting for more. */
export class Running {
  out = '';
  err = '';
  readonly ended: Promise<Ended>;
  #wake: () => void = () => undefined;

  constructor(readonly child: ChildProcess) {
    child.stdout?.on('data', (chunk: Buffer) => this.#took('out', chunk));
    child.stderr?.on('data', (chunk: Buffer) => this.#took('err', chunk));
    this.ended = new Promise((done) =>
      child.on('close', (code) => {
        this.#wake();
        done({ code, out: this.out, err: this.err });
      }),
    );
  }

  type(text: string): void {
    this.child.stdin?.write(text);
  }

  /** Until it has written something. Throws with what it wrote when that does not come. */
  async until(condition: (all: string) => boolean): Promise<void> {
    const late = setTimeout(() => this.child.kill('SIGKILL'), DEADLINE_MS);
    while (!condition(this.out + this.err)) {
      if (this.child.exitCode !== null || this.child.signalCode !== null)
        throw new Error(`it ended before: ${this.out}${this.err}`);
      await new Promise<void>((woken) => (this.#wake = woken));
    }
    clearTimeout(late);
  }

  #took(where: 'out' | 'err', chunk: Buffer): void {
    this[where] += chunk.toString();
    this.#wake();
  }
}

export class Penstock {
  readonly home = mkdtempSync(join(tmpdir(), 'penstock-cli-'));

  readonly sessionFile = join(this.home, '.config', 'penstock', 'sessions.json');

  constructor(readonly api: string) {}

  /** Runs to its end; `input` is what stands on standard input. */
  async run(args: string[], input = ''): Promise<Ended> {
    const running = this.start(args);
    running.child.stdin?.end(input);
    return running.ended;
  }

  /** What it answers in JSON. Throws when it is refused. */
  async json<T = Record<string, never>>(...args: string[]): Promise<T> {
    const { code, out, err } = await this.run(['--json', ...args]);
    if (code !== 0) throw new Error(`penstock ${args.join(' ')}: ${err}`);
    return JSON.parse(out) as T;
  }

  start(args: string[]): Running {
    return new Running(spawn(process.execPath, [main, ...args], { env: this.#env(), stdio: 'pipe' }));
  }

  /** In a pseudo-terminal, whose terminal echoes like a person's; both outputs come as one. */
  onTerminal(...words: string[]): Running {
    const quoted = [process.execPath, main, ...words].map((word) => `'${word}'`).join(' ');
    return terminal(quoted, this.#env());
  }

  /** What it remembers of who is signed in. */
  sessions(): string {
    return readFileSync(this.sessionFile, 'utf8');
  }

  remove(): void {
    rmSync(this.home, { recursive: true });
  }

  #env(): Record<string, string | undefined> {
    return { PATH: process.env['PATH'], HOME: this.home, PENSTOCK_API: this.api, TERM: 'xterm' };
  }
}

/** A command line in a pseudo-terminal of util-linux. */
export function terminal(line: string, env: Record<string, string | undefined>): Running {
  const args = ['--quiet', '--return', '--echo', 'always', '--command', line, '/dev/null'];
  return new Running(spawn('script', args, { env: { ...env, SHELL: '/bin/sh' }, stdio: 'pipe' }));
}
