// One stack a directory. The lock names its holder's process; a holder that is gone (kill -9) loses it.
// Called by startStack first and by its stop() last.
import { link, readFile, rename, rm, unlink } from 'node:fs/promises';
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
      if (holder === null || !isAlive(holder)) {
        // Moved away under a name of our own first: of two takers one fails here and tries again.
        const stale = `${path}.stale.${process.pid}`;
        await rename(path, stale).then(
          () => unlink(stale),
          () => undefined,
        );
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

async function readHolder(path: string): Promise<ProcessIdentity | null> {
  try {
    const parsed = JSON.parse(await readFile(path, 'utf8')) as Partial<ProcessIdentity>;
    if (typeof parsed.pid !== 'number' || typeof parsed.started !== 'string') return null;
    return { pid: parsed.pid, started: parsed.started };
  } catch {
    return null;
  }
}
