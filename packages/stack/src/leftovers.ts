// What a start finds of the run before, when that was killed: the records in run/ name the processes. Services are
// told to stop; an agent is ended at once, which it is built for, so that its engines go on and the new agent takes
// them over with their counters and open sessions. Called by startStack before ports are picked.
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { endIdentity, isAlive, type ProcessIdentity } from './identity.js';

const graceMs = 5_000;
const suffix = '.process';

/** Names of the processes that were still running. */
export async function endLeftovers(runDir: string): Promise<string[]> {
  const files = (await readdir(runDir)).filter((file) => file.endsWith(suffix));
  const found = await Promise.all(
    files.map(async (file): Promise<string | null> => {
      const path = join(runDir, file);
      const name = file.slice(0, -suffix.length);
      const identity = parseRecord(await readFile(path, 'utf8').catch(() => ''));
      const running = identity !== null && isAlive(identity);
      if (running)
        await endIdentity(identity, name.startsWith('node-agent') ? 'SIGKILL' : 'SIGTERM', graceMs);
      await rm(path, { force: true });
      return running ? name : null;
    }),
  );
  return found.filter((name) => name !== null);
}

function parseRecord(text: string): ProcessIdentity | null {
  try {
    const parsed = JSON.parse(text) as Partial<ProcessIdentity>;
    if (typeof parsed.pid !== 'number' || typeof parsed.started !== 'string') return null;
    return { pid: parsed.pid, started: parsed.started };
  } catch {
    return null;
  }
}
