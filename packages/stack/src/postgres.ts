// The stack's own PostgreSQL. It runs in a session of its own and outlives us: after a kill -9 of everything
// else the next start finds the living server by its postmaster.pid and takes it over, port and all.
// Invariants: fsync is on; it listens on loopback only; every login needs a password; it is never root.
// Called by startStack; tests also kill and restart it.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chown, mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createClient } from '@penstock/db/pool';
import { AppError } from '@penstock/domain/errors';
import { makeDirectory, writePrivate } from './files.js';
import { endIdentity, identify, isAlive, signalIdentity, type ProcessIdentity } from './identity.js';
import { lastLines, openLog } from './logs.js';
import { postgresBinaries } from './postgres-binaries.js';
import { isFree, type PortBook } from './ports.js';
import { serverUser, type SystemUser } from './system-user.js';
import { until } from './until.js';

const startTimeoutMs = 60_000;
const stopTimeoutMs = 30_000;
const orphanTimeoutMs = 20_000;
/** sun_path is 108 bytes on Linux, 104 elsewhere; the server adds `/.s.PGSQL.12345.lock`. */
const socketPathMax = 80;

export interface PostgresOptions {
  home: string;
  sharedBinaries: string | undefined;
  logFile: string;
  superuserPassword: string;
  ports: PortBook;
  fixedPort?: number | undefined;
  /** Extra settings, for tests (`fsync` stays on whatever is given). */
  settings?: Readonly<Record<string, string>>;
}

const settings = {
  listen_addresses: '127.0.0.1',
  max_connections: '100',
  shared_buffers: '128MB',
  max_wal_size: '1GB',
  jit: 'off',
  unix_socket_permissions: '0700',
  password_encryption: 'scram-sha-256',
  log_timezone: 'UTC',
  timezone: 'UTC',
} as const;

export class PostgresServer {
  /** True when the last start() found a living server. */
  adopted = false;
  private identity: ProcessIdentity | null = null;
  private listenPort = 0;

  constructor(private readonly options: PostgresOptions) {}

  get pid(): number | null {
    return this.identity !== null && isAlive(this.identity) ? this.identity.pid : null;
  }

  get port(): number {
    return this.listenPort;
  }

  /** Address for a superuser; holds the password, so it goes to no log and no argument list. */
  superuserUrl(database = 'postgres'): string {
    return this.url('postgres', this.options.superuserPassword, database);
  }

  url(role: string, password: string, database: string): string {
    return `postgresql://${role}:${encodeURIComponent(password)}@127.0.0.1:${this.listenPort}/${database}`;
  }

  /** Starts the server, or takes over the one that runs on this data. Resolves when it answers. */
  async start(): Promise<void> {
    const user = await serverUser();
    const binaries = await postgresBinaries(this.options.sharedBinaries);
    await this.prepareHome(user);
    const data = join(this.options.home, 'data');
    if (!existsSync(join(data, 'PG_VERSION'))) await this.initialise(binaries, data, user);
    this.adopted = await this.adopt(data);
    if (!this.adopted) await this.launch(binaries, data, user);
  }

  /** Fast shutdown: open transactions are rolled back, everything committed is checkpointed. */
  async stop(): Promise<void> {
    if (this.identity === null) return;
    await endIdentity(this.identity, 'SIGINT', stopTimeoutMs);
    this.identity = null;
  }

  /** For tests: a fault. The other server processes see their parent's end and leave by themselves. */
  async kill(signal: NodeJS.Signals): Promise<void> {
    const { identity } = this;
    if (identity === null) return;
    signalIdentity(identity, signal);
    if (signal === 'SIGKILL')
      await until('The end of PostgreSQL', 10_000, () => (isAlive(identity) ? null : true));
  }

  /**
   * Moves data away that nobody has the secrets of any more (as root it outlives a removed clone). Returns where to,
   * or null when there was none.
   */
  async setAside(): Promise<string | null> {
    const { home } = this.options;
    if (!existsSync(join(home, 'data'))) return null;
    const running = await readPostmaster(join(home, 'data'));
    if (running !== null) await endIdentity(running.identity, 'SIGINT', stopTimeoutMs);
    const place = `${home}.${randomBytes(4).toString('hex')}`;
    await rename(home, place);
    return place;
  }

  /** Removes the data; the server must be stopped. */
  async destroy(): Promise<void> {
    await this.stop();
    await rm(this.options.home, { recursive: true, force: true });
  }

  private async prepareHome(user: SystemUser | undefined): Promise<void> {
    const { home } = this.options;
    if (user === undefined) return makeDirectory(home);
    await mkdir(dirname(home), { recursive: true, mode: 0o755 });
    await makeDirectory(home);
    await chown(home, user.uid, user.gid);
  }

  private async initialise(binaries: string, data: string, user: SystemUser | undefined): Promise<void> {
    const fresh = `${data}.new`;
    await rm(fresh, { recursive: true, force: true });
    const passwordFile = join(this.options.home, 'password');
    await writePrivate(passwordFile, `${this.options.superuserPassword}\n`);
    if (user !== undefined) await chown(passwordFile, user.uid, user.gid);
    try {
      const shape = ['--auth=scram-sha-256', '--encoding=UTF8', '--no-locale', '--username=postgres'];
      await this.run(
        join(binaries, 'bin', 'initdb'),
        ['-D', fresh, `--pwfile=${passwordFile}`, ...shape],
        user,
      );
    } finally {
      await rm(passwordFile, { force: true });
    }
    // An interrupted initdb leaves `data.new`, never half a cluster under the real name.
    await rm(data, { recursive: true, force: true });
    await rename(fresh, data);
  }

  private async adopt(data: string): Promise<boolean> {
    const found = await readPostmaster(data);
    if (found === null) return false;
    // A server that is just starting or stopping is waited for.
    const ready = await until('PostgreSQL that was found running', startTimeoutMs, async () => {
      const now = await readPostmaster(data);
      if (now === null) return { gone: true as const };
      return now.ready && (await this.answers(now.port)) ? { gone: false as const, now } : null;
    });
    if (ready.gone) return false;
    this.identity = ready.now.identity;
    this.listenPort = ready.now.port;
    return true;
  }

  private async launch(binaries: string, data: string, user: SystemUser | undefined): Promise<void> {
    this.listenPort = await this.options.ports.get('postgresql', { fixed: this.options.fixedPort });
    const socketDir = this.options.home.length <= socketPathMax ? this.options.home : '';
    const all = { ...settings, ...this.options.settings, fsync: 'on', unix_socket_directories: socketDir };
    const args = ['-D', data, '-p', String(this.listenPort)];
    for (const [name, value] of Object.entries(all)) args.push('-c', `${name}=${value}`);
    await until(
      'PostgreSQL',
      orphanTimeoutMs,
      () => this.attempt(join(binaries, 'bin', 'postgres'), args, data, user),
      250,
    );
  }

  /** True when the server answers; null to try again while backends of a killed server are still leaving. */
  private async attempt(
    program: string,
    args: string[],
    data: string,
    user: SystemUser | undefined,
  ): Promise<true | null> {
    const log = await openLog(this.options.logFile);
    const child = spawn(program, args, {
      cwd: data,
      env: serverEnv,
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
      ...credentials(user),
    });
    const ended = new Promise<string>((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('exit', (code, signal) => resolve(`it ended with ${signal ?? `code ${code}`}`));
    });
    child.unref();
    await log.close();
    let failure: string | null = null;
    void ended.then((reason) => (failure = reason));
    const outcome = await until('The answer of PostgreSQL', startTimeoutMs, async () => {
      if (failure !== null) return 'ended' as const;
      return (await this.answers(this.listenPort)) ? ('ready' as const) : null;
    });
    if (outcome === 'ready' && child.pid !== undefined) {
      this.identity = identify(child.pid);
      return true;
    }
    const said = await lastLines(this.options.logFile, 6);
    if (/shared memory|lock file "postmaster.pid" already exists/.test(said)) return null;
    if (!(await isFree(this.listenPort))) {
      throw new AppError(
        'failed_precondition',
        `Port ${this.listenPort} (postgresql) is taken by another process.`,
      );
    }
    throw new AppError('unavailable', `PostgreSQL does not start: ${failure ?? 'unknown'}.\n${said}`);
  }

  private async answers(port: number): Promise<boolean> {
    const password = encodeURIComponent(this.options.superuserPassword);
    const client = createClient(
      `postgresql://postgres:${password}@127.0.0.1:${port}/postgres`,
      'penstock-start',
    );
    try {
      await client.connect();
      await client.query('SELECT 1');
      return true;
    } catch (error) {
      if ((error as { code?: unknown }).code === '28P01') {
        throw new AppError(
          'failed_precondition',
          'PostgreSQL refuses the password that is kept beside its data.',
        );
      }
      return false;
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  private async run(program: string, args: string[], user: SystemUser | undefined): Promise<void> {
    const child = spawn(program, args, {
      cwd: this.options.home,
      env: serverEnv,
      stdio: ['ignore', 'pipe', 'pipe'],
      ...credentials(user),
    });
    let said = '';
    const keep = (chunk: Buffer): void => {
      said = (said + chunk.toString('utf8')).slice(-4000);
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    const code = await new Promise<number | null>((resolve) => {
      child.once('error', () => resolve(null));
      child.once('close', resolve);
    });
    if (code !== 0) throw new AppError('unavailable', `${program} failed.\n${said.trim()}`);
  }
}

const serverEnv = { PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };

function credentials(user: SystemUser | undefined): { uid?: number; gid?: number } {
  return user === undefined ? {} : { uid: user.uid, gid: user.gid };
}

/** The living server on this data directory, from its postmaster.pid; null when there is none. */
async function readPostmaster(
  data: string,
): Promise<{ identity: ProcessIdentity; port: number; ready: boolean } | null> {
  const text = await readFile(join(data, 'postmaster.pid'), 'utf8').catch(() => '');
  // Lines: pid, data directory, start time, port, socket directory, listen address, shared memory, status.
  const lines = text.split('\n');
  const pid = Number(lines[0]);
  const port = Number(lines[3]);
  if (!Number.isInteger(pid) || pid <= 1 || lines[1] !== data) return null;
  const identity = identify(pid);
  if (identity === null || !(await servesData(pid, data))) return null;
  return { identity, port, ready: (lines[7] ?? '').trim() === 'ready' && Number.isInteger(port) };
}

/** A pid file can outlive its server and the number be given to anybody: on Linux the arguments tell. */
async function servesData(pid: number, data: string): Promise<boolean> {
  if (process.platform !== 'linux') return true;
  const handle = await open(`/proc/${pid}/cmdline`).catch(() => null);
  if (handle === null) return false;
  try {
    return (await handle.readFile('utf8')).split('\0').includes(data);
  } finally {
    await handle.close();
  }
}
