// `npm start` a second time on the same data: it says at once that one runs, and where, and disturbs nothing.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startStack } from '@penstock/stack/stack';
import { World } from './world.js';

const SAID_WITHIN_MS = 2_000;
const repo = join(import.meta.dirname, '../..');

let world: World;

beforeAll(async () => {
  world = await World.start();
});
afterAll(() => world?.destroy());

interface End {
  code: number | null;
  said: string;
  ms: number;
}

/** Runs what `npm start` runs, without npm itself, until it ends. */
async function secondStart(): Promise<End> {
  const from = performance.now();
  const child = spawn(process.execPath, [join(repo, 'packages/stack/dist/bin/start.js')], {
    env: { PATH: process.env['PATH'] ?? '', HOME: world.dir, PENSTOCK_DIR: world.stack.paths.dir },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (data: Buffer) => (said += data.toString()));
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, said, ms: performance.now() - from };
}

test('a second start says within two seconds that one runs, and where; that one goes on', async () => {
  const { code, said, ms } = await secondStart();
  expect(code, said).toBe(1);
  expect(said).toContain(
    `Penstock already runs on this data: ${world.stack.edges.api} (process ${process.pid})`,
  );
  expect(said).not.toMatch(/waiting|\n {4}at /);
  expect(ms).toBeLessThan(SAID_WITHIN_MS);
  expect(existsSync(world.stack.paths.endpointsFile)).toBe(true);
  expect(await world.asOwner('GET', '/api/v1/auth/me')).toHaveProperty('account');
});

test('one that is ending is waited for', async () => {
  const { dir } = world.stack.paths;
  const stopping = world.stack.stop();
  const next = startStack({ dir, autoRestart: false, nodeEnv: 'test' });
  await stopping;
  const stack = await next;
  expect((await fetch(`${stack.edges.api}/`)).status).toBe(200);
  await stack.stop();
});
