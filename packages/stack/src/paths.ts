// Where one stack keeps its things. Everything lives below its directory (`./.penstock` of the clone for
// npm start), except PostgreSQL when we are root: it must run as another user, who cannot pass a clone under
// /root, so its data lies in /var/lib/penstock under a name made from the directory's path.
// Pure; called by every other file of this package.
import { createHash } from 'node:crypto';
import { realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AppError } from '@penstock/domain/errors';

export interface StackPaths {
  /** Root of the clone: where apps/ is. */
  repo: string;
  dir: string;
  /** 16 hexadecimal digits made from `dir`: tells stacks of one machine apart. */
  id: string;
  secrets: string;
  trust: string;
  logs: string;
  run: string;
  agents: string;
  caddy: string;
  lockFile: string;
  portsFile: string;
  endpointsFile: string;
  /** Parent of PostgreSQL's data and socket. */
  postgresHome: string;
  /** Where binaries that another user must run are copied to; undefined when they run in place. */
  sharedBinaries: string | undefined;
}

/** Root of this clone, the same from the source and from the compiled file. */
export const repoRoot = fileURLToPath(new URL('../../..', import.meta.url)).replace(/\/$/, '');

/** What is fetched or built once for a clone: engines' binaries. */
export function cacheDir(repo: string = repoRoot): string {
  return join(repo, '.cache');
}

const systemHome = '/var/lib/penstock';

/** `dir` must exist or have an existing parent: its real path names the system directory. */
export function stackPaths(dir: string, asRoot: boolean): StackPaths {
  const real = join(realParent(dir), basename(dir));
  const id = createHash('sha256').update(real).digest('hex').slice(0, 16);
  return {
    repo: repoRoot,
    dir: real,
    id,
    secrets: join(real, 'secret'),
    trust: join(real, 'trust'),
    logs: join(real, 'log'),
    run: join(real, 'run'),
    agents: join(real, 'agent'),
    caddy: join(real, 'caddy'),
    lockFile: join(real, 'lock'),
    portsFile: join(real, 'ports.json'),
    endpointsFile: join(real, 'endpoints.json'),
    postgresHome: asRoot ? join(systemHome, id) : join(real, 'postgres'),
    sharedBinaries: asRoot ? join(systemHome, 'bin') : undefined,
  };
}

function realParent(dir: string): string {
  const parent = dirname(resolve(dir));
  try {
    return realpathSync(parent);
  } catch (error) {
    throw new AppError('failed_precondition', `There is no directory ${parent}.`, { cause: error });
  }
}
