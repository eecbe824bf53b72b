// One stack a directory. The lock names its holder's process; a holder that is gone (kill -9) loses it.
// Called by startStack first and by its stop() last.
import { link, readFile, rm } from 'node:fs/promises';
import { AppError } from '@penstock/domain/errors';
import { writePrivate } from './files.js';
import { identify, isAlive, type ProcessIdentity } from './identity.js';
import { pause } from './until.js';
import { systemClock } from '@penstock/domain/clock';

/** An old stack that was told to stop gets this long. */
const waitMs = 40_000;

const stackWait: LockWait = { everyMs: 200, busy: 'Penstock already runs on this data' };

export interface LockWait {
  everyMs: number;
  /** What is said when the holder does not let go. */
  busy: string;
}

/** Takes the lock; waits for a holder that is ending. Returns the function that gives it back. */
export async function takeLock(
  path: string,
  onWait: (pid: number) => void,
  { everyMs, busy }: LockWait = stackWait,
): Promise<() => Promise<void>> {
  const me = identify(process.pid);
  if (me === null) throw new AppError('internal', 'This process cannot see itself.');
  const deadline = systemClock.monotonic() + waitMs;
  const mine = `${path}.${process.pid}`;
  let told = false;
  await writePrivate(mine, JSON.stringify(me));
  try {
    for (;;) {
      try {
        await link(mine, path);
        break;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      const holder = await readHolder(path);
      // Given back meanwhile.
      if (holder === 'none') continue;
      if (holder === 'unreadable' || !isAlive(holder)) {
        await removeDead(path, mine);
        continue;
      }
      if (systemClock.monotonic() > deadline) {
        throw new AppError('conflict', `${busy} (process ${holder.pid}); stop it first.`);
      }
      if (!told) onWait(holder.pid);
      told = true;
      await pause(everyMs);
    }
  } finally {
    await rm(mine, { force: true });
  }
  return () => rm(path, { force: true });
}

/**
 * Removes the lock of a process that is gone. One taker at a time may do that, and looks again when it is his turn:
 * else he could remove the lock of one who took it in between.
 */
async function removeDead(path: string, mine: string): Promise<void> {
  const turn = `${path}.turn`;
  try {
    await link(mine, turn);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    const other = await readHolder(turn);
    // Whoever had this turn died within it.
    if (other !== 'none' && (other === 'unreadable' || !isAlive(other))) await rm(turn, { force: true });
    return;
  }
  try {
    const holder = await readHolder(path);
    if (holder !== 'none' && (holder === 'unreadable' || !isAlive(holder))) await rm(path, { force: true });
  } finally {
    await rm(turn, { force: true });
  }
}

async function readHolder(path: string): Promise<ProcessIdentity | 'none' | 'unreadable'> {
  try {
    const parsed = JSON.parse(await readFile(path, 'utf8')) as Partial<ProcessIdentity>;
    if (typeof parsed.pid !== 'number' || typeof parsed.started !== 'string') return 'unreadable';
    return { pid: parsed.pid, started: parsed.started };
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'none' : 'unreadable';
  }
}
