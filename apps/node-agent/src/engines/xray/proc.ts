// Which life of Xray this is, and which processes run on our configuration.
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { processLife } from '../process-life.js';
import type { ProcessLife } from '../process-life.js';

/** `boot` of the counters of this life: 16 bytes, hex. */
export function bootOf({ kernelBootId, pid, startTime }: ProcessLife): string {
  return createHash('sha256').update(`${kernelBootId}\0${pid}\0${startTime}`).digest('hex').slice(0, 32);
}

/** Processes whose arguments are exactly "run … -c <configPath>": nobody but us starts an Xray on our file. */
export async function processesOn(configPath: string): Promise<ProcessLife[]> {
  const lives: ProcessLife[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const args = (await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '')).split('\0');
    if (args[1] !== 'run' || args[args.indexOf('-c') + 1] !== configPath) continue;
    const life = await processLife(Number(name));
    if (life !== null) lives.push(life);
  }
  return lives;
}
