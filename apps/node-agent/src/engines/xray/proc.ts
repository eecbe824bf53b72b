// What /proc tells about processes: whether one is alive, which life of it, and which ones run on our configuration.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';

/** One life of one process; a reused pid has another start time, a rebooted machine another boot id. */
export interface ProcessLife {
  kernelBoot: string;
  pid: number;
  /** Clock ticks since the kernel's boot, as text: it is compared, not computed with. */
  startTime: string;
}

/** The life that `pid` leads now; null when it is gone or only waits to be reaped. */
export function lifeOf(pid: number): ProcessLife | null {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return null;
  }
  // The name in parentheses may hold anything; state is the first field after it, start time the twentieth.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state] = fields;
  const startTime = fields[19];
  if (startTime === undefined || state === 'Z' || state === 'X') return null;
  return { kernelBoot: kernelBoot(), pid, startTime };
}

export function kernelBoot(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
}

export function isAlive(life: ProcessLife): boolean {
  const now = lifeOf(life.pid);
  return now !== null && now.startTime === life.startTime && now.kernelBoot === life.kernelBoot;
}

/** `boot` of the counters of this life: 16 bytes, hex. */
export function bootOf({ kernelBoot: boot, pid, startTime }: ProcessLife): string {
  return createHash('sha256').update(`${boot}\0${pid}\0${startTime}`).digest('hex').slice(0, 32);
}

/** Processes whose arguments are exactly "run … -c <configPath>": nobody but us starts an Xray on our file. */
export function processesOn(configPath: string): ProcessLife[] {
  const lives: ProcessLife[] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    let args: string[];
    try {
      args = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0');
    } catch {
      continue;
    }
    if (args[1] !== 'run' || args[args.indexOf('-c') + 1] !== configPath) continue;
    const life = lifeOf(Number(name));
    if (life !== null) lives.push(life);
  }
  return lives;
}
