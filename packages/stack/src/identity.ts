// Which process a number means. A pid alone may have been given to another process since; pid, start time and
// boot together name one life of one process. Called where we signal something that we did not just spawn.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { until } from './until.js';

export interface ProcessIdentity {
  pid: number;
  /** Opaque: differs for another process with the same pid. */
  started: string;
}

/** The identity of a living process, or null when there is none with this pid (a zombie counts as gone). */
export function identify(pid: number): ProcessIdentity | null {
  const started = process.platform === 'linux' ? startedLinux(pid) : startedByPs(pid);
  return started === null ? null : { pid, started };
}

export function isAlive(identity: ProcessIdentity): boolean {
  return identify(identity.pid)?.started === identity.started;
}

/** Signals exactly this process; does nothing when it is gone. */
export function signalIdentity(identity: ProcessIdentity, signal: NodeJS.Signals): void {
  if (!isAlive(identity)) return;
  try {
    process.kill(identity.pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Ends a process: `signal`, then SIGKILL after `graceMs`. Resolves when it is gone. */
export async function endIdentity(
  identity: ProcessIdentity,
  signal: NodeJS.Signals,
  graceMs: number,
): Promise<void> {
  signalIdentity(identity, signal);
  const gone = (): true | null => (isAlive(identity) ? null : true);
  try {
    await until(`The end of process ${identity.pid}`, graceMs, gone);
  } catch {
    signalIdentity(identity, 'SIGKILL');
    await until(`The end of process ${identity.pid}`, 10_000, gone);
  }
}

let boot: string | undefined;

function startedLinux(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name in parentheses may hold anything; fields count from behind its last bracket.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (fields[0] === 'Z' || fields[0] === 'X') return null;
    boot ??= readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    return `${boot}/${fields[19] ?? ''}`;
  } catch {
    return null;
  }
}

function startedByPs(pid: number): string | null {
  try {
    const said = execFileSync('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], { encoding: 'utf8' }).trim();
    return said === '' || said.startsWith('Z') ? null : said.replace(/^\S+\s+/, '');
  } catch {
    return null;
  }
}
