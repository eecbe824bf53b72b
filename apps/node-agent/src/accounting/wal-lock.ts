// One agent per journal. The lock file names its owner by boot id, pid and start time of the process, so a lock left by
// a killed agent or by the machine's last life is known to be stale, whoever has that pid now.
import { link, readFile, rename, rm, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '@penstock/domain/errors';

const LOCK_FILE = 'lock';
const ATTEMPTS_MAX = 5;

async function textOrEmpty(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch {
    return '';
  }
}

/** Words that name one life of one process; only the pid where there is no /proc. */
async function lifeOf(pid: number): Promise<string> {
  const stat = await textOrEmpty(`/proc/${String(pid)}/stat`);
  // The command may hold spaces and brackets; the start time is the 20th field behind its last bracket.
  const started = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  const boot = (await textOrEmpty('/proc/sys/kernel/random/boot_id')).trim();
  return `${boot} ${String(pid)} ${started}`;
}

async function isAlive(life: string): Promise<boolean> {
  const pid = Number(life.split(' ')[1]);
  if (!Number.isSafeInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EPERM')) return false;
  }
  return (await lifeOf(pid)) === life;
}

/** Takes the lock of `directory`; the returned function gives it back. Throws failed_precondition when another has it. */
export async function lockDirectory(directory: string): Promise<() => Promise<void>> {
  const path = join(directory, LOCK_FILE);
  const mine = await lifeOf(process.pid);
  const offer = join(directory, `${LOCK_FILE}.${String(process.pid)}`);
  await writeFile(offer, mine, { mode: 0o600 });
  try {
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      try {
        await link(offer, path);
        return async () => {
          if ((await textOrEmpty(path)) === mine) await unlink(path);
        };
      } catch (error) {
        if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
      }
      await removeStale(path, `${offer}.stale`);
    }
  } finally {
    await rm(offer, { force: true });
  }
  throw new AppError(
    'failed_precondition',
    `ERR_WAL_DIR_UNUSABLE: the lock in ${directory} changes hands too often.`,
  );
}

async function removeStale(path: string, aside: string): Promise<void> {
  const owner = await textOrEmpty(path);
  if (owner !== '' && (await isAlive(owner))) {
    throw new AppError(
      'failed_precondition',
      `ERR_WAL_DIR_UNUSABLE: another agent (pid ${owner.split(' ')[1] ?? '?'}) uses this journal. Stop it first.`,
    );
  }
  // Moved aside before it is removed: if somebody locked in between, what we hold is theirs and goes back.
  try {
    await rename(path, aside);
  } catch {
    return;
  }
  if ((await textOrEmpty(aside)) === owner) await unlink(aside);
  else await rename(aside, path);
}
