// Files that must never be half written or readable by others: directories 0700, files 0600, replaced in one
// step. Called by everything in this package that writes.
import { randomBytes } from 'node:crypto';
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { AppError } from '@penstock/domain/errors';

/** Makes a directory (0700) below one that exists, and says clearly when that is not possible. */
export async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
    if (code === 'EEXIST') return;
    throw new AppError('failed_precondition', `Cannot make the directory ${path} (${code}).`, {
      cause: error,
    });
  }
}

/** Replaces a file in one step, also for a machine that loses power: content first, then the name. Mode 0600. */
export async function writePrivate(path: string, content: string | Uint8Array): Promise<void> {
  const fresh = `${path}.${randomBytes(4).toString('hex')}`;
  try {
    const file = await open(fresh, 'wx', 0o600);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(fresh, path);
    const directory = await open(dirname(path), 'r');
    await directory.sync().finally(() => directory.close());
  } catch (error) {
    await rm(fresh, { force: true });
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
    throw new AppError('failed_precondition', `Cannot write ${path} (${code}).`, { cause: error });
  }
}

/** Content of a file, or null when there is none. Other faults are thrown. */
export async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
    throw new AppError('failed_precondition', `Cannot read ${path} (${code}).`, { cause: error });
  }
}
