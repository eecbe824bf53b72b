import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { PortBook } from './ports.js';

let dir: string;
const servers: Server[] = [];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'penstock-ports-'));
});

afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => new Promise((resolve) => server.close(resolve))));
  await rm(dir, { recursive: true, force: true });
});

function occupy(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    servers.push(server);
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
}

test('a port is kept over starts', async () => {
  const file = join(dir, 'ports.json');
  const first = await PortBook.open(file);
  const port = await first.get('api');
  await first.save();
  const second = await PortBook.open(file);
  expect(await second.get('api')).toBe(port);
  expect((await stat(file)).mode & 0o777).toBe(0o600);
});

test('a remembered port that somebody else took is picked again, a pinned one is not', async () => {
  const file = join(dir, 'ports.json');
  const book = await PortBook.open(file);
  const [api, xray] = [await book.get('api'), await book.get('local-xray')];
  await book.save();
  await occupy(api);
  await occupy(xray);
  const next = await PortBook.open(file);
  expect(await next.get('api')).not.toBe(api);
  expect(await next.get('local-xray', { pinned: true })).toBe(xray);
});

test('a busy port that was asked for is one clear sentence', async () => {
  const book = await PortBook.open(join(dir, 'ports.json'));
  const port = await book.get('api');
  await occupy(port);
  await expect(book.get('api', { fixed: port })).rejects.toMatchObject({
    code: 'failed_precondition',
    message: `Port ${port} (api) is taken by another process.`,
  });
});

test('a port is given out once', async () => {
  const book = await PortBook.open(join(dir, 'ports.json'));
  const ports = await Promise.all(Array.from({ length: 50 }, (_, index) => book.get(`p${index}`)));
  expect(new Set(ports).size).toBe(50);
});

test('a damaged file is named', async () => {
  const file = join(dir, 'ports.json');
  for (const text of ['', '[', '{"api":"80"}', '{"api":0}', '{"api":70000}', 'null']) {
    await writeFile(file, text);
    await expect(PortBook.open(file)).rejects.toMatchObject({ code: 'failed_precondition' });
    expect(await readFile(file, 'utf8')).toBe(text);
  }
});
