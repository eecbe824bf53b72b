import { mkdtemp, rm, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createClient } from '@penstock/db/pool';
import { makeDirectory } from './files.js';
import { stackPaths, type StackPaths } from './paths.js';
import { PortBook } from './ports.js';
import { PostgresServer } from './postgres.js';
import { loadSecrets } from './secrets.js';

const asRoot = process.getuid?.() === 0;
let parent: string;
let paths: StackPaths;
let first: PostgresServer;

async function server(): Promise<PostgresServer> {
  const secrets = await loadSecrets(paths.secrets);
  const ports = await PortBook.open(paths.portsFile);
  return new PostgresServer({
    home: paths.postgresHome,
    sharedBinaries: paths.sharedBinaries,
    logFile: join(paths.logs, 'postgresql.log'),
    superuserPassword: secrets.superuserPassword,
    ports,
  });
}

async function ask(pg: PostgresServer, sql: string): Promise<unknown> {
  const client = createClient(pg.superuserUrl(), 'test');
  await client.connect();
  try {
    const { rows } = await client.query<Record<string, unknown>>(sql);
    return Object.values(rows[0] ?? {})[0];
  } finally {
    await client.end();
  }
}

// Below the home directory: as root nobody else can pass it (mode 0700), which is the point.
beforeAll(async () => {
  parent = await mkdtemp(join(homedir(), '.penstock-test-'));
  paths = stackPaths(join(parent, '.penstock'), asRoot);
  for (const dir of [paths.dir, paths.logs, paths.secrets]) await makeDirectory(dir);
  first = await server();
  await first.start();
});

afterAll(async () => {
  await first.destroy();
  await rm(parent, { recursive: true, force: true });
});

test('the server runs as no root, with fsync, and its data is private', async () => {
  expect(await ask(first, 'SHOW fsync')).toBe('on');
  const data = await stat(join(paths.postgresHome, 'data'));
  expect(data.mode & 0o777).toBe(0o700);
  if (asRoot) expect(data.uid).not.toBe(0);
});

test('a second look finds the living server and takes it over', async () => {
  const second = await server();
  await second.start();
  expect(second.adopted).toBe(true);
  expect([second.pid, second.port]).toEqual([first.pid, first.port]);
});

test('a server that was killed starts again on the same data and port', async () => {
  await ask(first, 'CREATE TABLE kept AS SELECT 42::int AS answer');
  const { port } = first;
  await first.kill('SIGKILL');
  expect(first.pid).toBeNull();
  await first.start();
  expect(first.adopted).toBe(false);
  expect(await ask(first, 'SELECT answer FROM kept')).toBe(42);
  expect(first.port).toBe(port);
});
