// One stack a directory. The lock names its holder's process; a holder that is gone (kill -9) loses it, and one that
// serves says where, so that whoever comes second learns it at once instead of waiting for an end that nobody wants.
// Called by startStack first and by its stop() last, and by whoever changes the operator's configuration.
import { link, readFile, rm } from 'node:fs/promises';
import { AppError } from '@penstock/domain/errors';
import { writePrivate } from './files.js';
import { identify, isAlive, type ProcessIdentity } from './identity.js';
import { pause } from './until.js';
import { systemClock } from '@penstock/domain/clock';

/** A holder that is starting or was told to stop gets this long. */
const waitMs = 40_000;
/** One that serves gets this long to begin to stop: its launcher may have been killed a moment ago. */
const servingMs = 500;

const stackWait: LockWait = { everyMs: 100, busy: 'Penstock already runs on this data' };

export interface LockWait {
  everyMs: number;
  /** What is said when the holder does not let go. */
  busy: string;
}

/** What its holder says of himself: where he serves, or null when he does not or is about to end. */
interface Holder extends ProcessIdentity {
  address: string | null;
}

export interface Lock {
  /** For those who come second. null: we are ending. */
  serving(address: string | null): Promise<void>;
  release(): Promise<void>;
}

/**
 * Takes the lock; waits for a holder that is starting or ending. Throws conflict when he does not let go, and at once
 * when he serves.
 */
export async function takeLock(
  path: string,
  onWait: (pid: number) => void,
  { everyMs, busy }: LockWait = stackWait,
): Promise<Lock> {
  const me = identify(process.pid);
  if (me === null) throw new AppError('internal', 'This process cannot see itself.');
  const deadline = systemClock.monotonic() + waitMs;
  const mine = `${path}.${process.pid}`;
  let servingUntil: number | null = null;
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
      const now = systemClock.monotonic();
      servingUntil = holder.address === null ? null : (servingUntil ?? now + servingMs);
      if (servingUntil !== null && now >= servingUntil) {
        const where = `${busy}: ${holder.address ?? ''} (process ${holder.pid}).`;
        throw new AppError('conflict', `${where} To end it, press Ctrl-C in its terminal.`);
      }
      if (now > deadline) {
        throw new AppError('conflict', `${busy} (process ${holder.pid}); stop it first.`);
      }
      if (!told && servingUntil === null) {
        onWait(holder.pid);
        told = true;
      }
      await pause(everyMs);
    }
  } finally {
    await rm(mine, { force: true });
  }
  return {
    serving: (address) => writePrivate(path, JSON.stringify({ ...me, address })),
    release: () => rm(path, { force: true }),
  };
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

async function readHolder(path: string): Promise<Holder | 'none' | 'unreadable'> {
  try {
    const parsed = JSON.parse(await readFile(path, 'utf8')) as Partial<Holder>;
    if (typeof parsed.pid !== 'number' || typeof parsed.started !== 'string') return 'unreadable';
    const { pid, started, address = null } = parsed;
    return { pid, started, address: typeof address === 'string' ? address : null };
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'none' : 'unreadable';
  }
}
