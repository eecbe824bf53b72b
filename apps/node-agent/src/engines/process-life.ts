// Which life of which process: kernel boot id + pid + start time. A pid alone is reused, a time alone jumps; the
// three together name one process for ever. Used to adopt an engine that outlived the agent, and in counters' boots.
import { readFile } from 'node:fs/promises';

export interface ProcessLife {
  kernelBootId: string;
  pid: number;
  /** Clock ticks since the kernel started, field 22 of /proc/<pid>/stat. */
  startTime: string;
}

export async function kernelBootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
}

/** The life of a running process; null when there is none of that pid (a zombie counts as none). */
export async function processLife(pid: number): Promise<ProcessLife | null> {
  let stat: string;
  try {
    stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return null;
  }
  // The name in parentheses may itself hold spaces and parentheses; fields are counted from the last one.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const state = fields[0] ?? 'X';
  const startTime = fields[19];
  if (startTime === undefined || state === 'Z' || state === 'X') return null;
  return { kernelBootId: await kernelBootId(), pid, startTime };
}

/** True while that very process runs. */
export async function stillRuns(life: ProcessLife): Promise<boolean> {
  const now = await processLife(life.pid);
  return now !== null && now.startTime === life.startTime && now.kernelBootId === life.kernelBootId;
}
