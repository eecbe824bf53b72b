// Runs ip, nft, wg and wireguard-go for the engines: argv arrays only, bounded in time and output. Secrets never
// travel in argv: they go in through stdin.
import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '@penstock/domain/errors';

const TIMEOUT_MS = 10_000;
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;
const QUOTED_CHARACTERS_MAX = 300;

export interface CommandInput {
  stdin?: string;
  /**
   * Directory (0700) of a file that becomes stdin and is unlinked before the command starts. For wg, which opens
   * /dev/stdin by name and so cannot read the socket that Node gives a child as its stdin.
   */
  stdinFileDir?: string;
  /** Output may hold keys: the error does not quote it. */
  secret?: boolean;
}

/** Resolves with stdout; throws AppError unavailable with the first line of stderr (unless secret). */
export function run(file: string, args: string[], input: CommandInput = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const stdinFd =
      input.stdinFileDir === undefined ? null : unlinkedFile(input.stdinFileDir, input.stdin ?? '');
    const child = spawn(file, args, {
      stdio: [stdinFd ?? (input.stdin === undefined ? 'ignore' : 'pipe'), 'pipe', 'pipe'],
      timeout: TIMEOUT_MS,
      killSignal: 'SIGKILL',
    });
    if (stdinFd !== null) closeSync(stdinFd);
    const out: Buffer[] = [];
    let outBytes = 0;
    let stderr = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      outBytes += chunk.length;
      if (outBytes > OUTPUT_BYTES_MAX) child.kill('SIGKILL');
      else out.push(chunk);
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      if (stderr.length < QUOTED_CHARACTERS_MAX) stderr += chunk.toString();
    });
    child.stdin?.on('error', () => undefined); // the exit code says more than EPIPE
    child.stdin?.end(input.stdin);
    child.on('error', (cause) => {
      reject(new AppError('failed_precondition', `${file} could not be run; is it installed?`, { cause }));
    });
    child.on('close', (code, signal) => {
      if (code === 0) return resolve(Buffer.concat(out).toString());
      const said = input.secret ? '' : `: ${stderr.split('\n')[0]?.slice(0, QUOTED_CHARACTERS_MAX) ?? ''}`;
      const words = `${file} ${args.slice(0, 2).join(' ')} failed (${signal ?? String(code)})${said}`;
      reject(new AppError('unavailable', words));
    });
  });
}

function unlinkedFile(dir: string, content: string): number {
  const folder = mkdtempSync(join(dir, 'stdin-'));
  try {
    writeFileSync(join(folder, 'stdin'), content, { mode: 0o600 });
    return openSync(join(folder, 'stdin'), 'r');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
