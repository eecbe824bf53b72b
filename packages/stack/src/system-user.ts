// The user that PostgreSQL runs as when we are root, which it refuses to be: `postgres` where Debian's package
// made it, else `penstock`, created when missing, else `nobody`. Called by postgres.ts.
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { AppError } from '@penstock/domain/errors';

export interface SystemUser {
  name: string;
  uid: number;
  gid: number;
}

const run = promisify(execFile);

/** Undefined when we are not root: the server then runs as ourselves. */
export async function serverUser(): Promise<SystemUser | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  for (const name of ['postgres', 'penstock']) {
    const user = await findUser(name);
    if (user !== null) return user;
  }
  try {
    const options = ['--system', '--user-group', '--no-create-home', '--home-dir', '/nonexistent'];
    await run('useradd', [...options, '--shell', '/usr/sbin/nologin', 'penstock']);
  } catch {
    // No useradd here (a small container): the fallback below is as good.
  }
  const user = (await findUser('penstock')) ?? (await findUser('nobody'));
  if (user !== null) return user;
  throw new AppError(
    'failed_precondition',
    'PostgreSQL does not run as root and there is no other user: add one called penstock.',
  );
}

async function findUser(name: string): Promise<SystemUser | null> {
  const passwd = await readFile('/etc/passwd', 'utf8').catch(() => '');
  const line = passwd.split('\n').find((entry) => entry.startsWith(`${name}:`));
  if (line === undefined) return null;
  const [, , uid, gid] = line.split(':');
  return { name, uid: Number(uid), gid: Number(gid) };
}
