import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { endLeftovers } from './leftovers.js';
import { takeLock } from './lock.js';
import { Supervised } from './supervised.js';
import { until } from './until.js';

let dir: string;
let running: Supervised[] = [];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'penstock-run-'));
});

afterEach(async () => {
  for (const process of running) await process.stop();
  running = [];
  await rm(dir, { recursive: true, force: true });
});

function node(script: string, autoRestart = true): Supervised {
  const spec = { name: 'sample', command: [process.execPath, '-e', script] as const, env: {}, cwd: dir };
  const options = { logDir: dir, runDir: dir, autoRestart, say: () => undefined, onChange: () => undefined };
  const supervised = new Supervised({ ...spec, command: [...spec.command] }, options);
  running.push(supervised);
  return supervised;
}

const forever = 'setInterval(() => {}, 1000)';

test('a process that died is started again', async () => {
  const sample = node(forever);
  await sample.start();
  const before = sample.pid;
  await sample.kill('SIGKILL');
  const after = await until('the restart', 10_000, () => sample.pid);
  expect(after).not.toBe(before);
});

test('without automatic restart it stays down until it is told', async () => {
  const sample = node(forever, false);
  await sample.start();
  await sample.kill('SIGKILL');
  expect(sample.pid).toBeNull();
  await sample.restart();
  expect(sample.pid).not.toBeNull();
});

test('a process that cannot start is one sentence with what it said', async () => {
  const sample = node(`console.error('DATA_KEY is not set.'); process.exit(78)`);
  await sample.start();
  await expect(
    until('the failure', 10_000, async () => {
      await sample.waitReady(5_000);
      return sample.endCount > 0 ? true : null;
    }),
  ).rejects.toThrow(/sample does not start: it ended with code 78\.\nDATA_KEY is not set\./);
  expect(await readFile(sample.logFile, 'utf8')).toBe('DATA_KEY is not set.\n');
});

test('what a killed run left is found by its record and ended', async () => {
  const sample = node(forever);
  await sample.start();
  const pid = sample.pid;
  const left = endLeftovers(dir);
  expect(await left).toEqual(['sample']);
  expect(() => process.kill(pid ?? 0, 0)).toThrow();
});

test('a lock whose holder is gone is taken over, a held one is waited for', async () => {
  const file = join(dir, 'lock');
  const held = await takeLock(file, () => undefined);
  let waited = 0;
  const second = takeLock(file, (pid) => (waited = pid));
  await until('the wait', 5_000, () => (waited === process.pid ? true : null));
  await held.release();
  await (await second).release();
});

test('a holder that serves is named with its address within two seconds, and waited for when it stops', async () => {
  const file = join(dir, 'lock-of-one-that-serves');
  const held = await takeLock(file, () => undefined);
  await held.serving('http://127.0.0.1:7400');
  const waits: number[] = [];
  const from = performance.now();
  await expect(takeLock(file, (pid) => waits.push(pid))).rejects.toMatchObject({
    code: 'conflict',
    message: `Penstock already runs on this data: http://127.0.0.1:7400 (process ${process.pid}). To end it, press Ctrl-C in its terminal.`,
  });
  expect(performance.now() - from).toBeLessThan(2_000);
  expect(waits).toEqual([]);
  await held.serving(null);
  const second = takeLock(file, (pid) => waits.push(pid));
  await until('the wait', 5_000, () => (waits.length === 1 ? true : null));
  await held.release();
  await (await second).release();
});

test('one that is starting is waited for until it serves, and then named', async () => {
  const file = join(dir, 'lock-of-one-that-starts');
  const held = await takeLock(file, () => undefined);
  let waited = false;
  const second = takeLock(file, () => (waited = true));
  const named = expect(second).rejects.toMatchObject({ code: 'conflict' });
  await until('the wait', 5_000, () => (waited ? true : null));
  await held.serving('http://127.0.0.1:7401');
  await named;
  await held.release();
});
