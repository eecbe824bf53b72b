// The built entry point as its own process: what it says when it cannot start, and that it starts, serves and stops.
import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from '@penstock/testkit/traffic/xray-client';
import { testDatabase, type TestDatabase } from '@penstock/testkit/postgres';
import { createTestTrust, writeTlsFiles } from '@penstock/testkit/trust';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { signingKey } from './world.js';

const READY_TIMEOUT_MS = 20_000;
const entry = fileURLToPath(new URL('../dist/main.js', import.meta.url));
let database: TestDatabase;
let directory: string;
let env: Record<string, string>;

beforeAll(async () => {
  if (!existsSync(entry)) throw new Error('build first: pnpm exec tsc -b apps/control-api');
  database = await testDatabase();
  directory = mkdtempSync(join(tmpdir(), 'control-api-main-'));
  const files = writeTlsFiles(
    join(directory, 'tls'),
    await (await createTestTrust('penstock.internal')).service('control-api'),
  );
  env = {
    ...{
      NODE_ENV: 'production',
      PUBLIC_URL: 'http://127.0.0.1',
      DATABASE_URL: database.url('penstock_control_api'),
    },
    ...{ DATA_KEY: randomBytes(32).toString('base64'), JWT_KEY: signingKey() },
    ...{ TLS_CERT_FILE: files.certFile, TLS_KEY_FILE: files.keyFile, TLS_ROOT_FILE: files.rootFile },
    ...{ SCHEDULER_ADDRESS: '127.0.0.1:1', NODE_ENROLL_ADDRESS: 'a:1', NODE_ENFORCEMENT_ADDRESS: 'a:1' },
    ...{ ADMIN_CIDRS: '127.0.0.0/8' },
    ...{ NODE_USAGE_ADDRESS: 'a:1', HTTP_PORT: String(await freePort()), OPS_PORT: String(await freePort()) },
  };
});
afterAll(async () => {
  await database.drop();
  rmSync(directory, { recursive: true });
});

interface Run {
  child: ChildProcess;
  output(): string;
  ended: Promise<number | null>;
}

function start(change: Record<string, string | undefined> = {}): Run {
  const child = spawn(process.execPath, [entry], {
    env: { ...env, ...change },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (data: Buffer) => (output += data.toString()));
  return { child, output: () => output, ended: new Promise((resolve) => child.once('close', resolve)) };
}

/** Throws with what the process said when it ends, or takes longer than any start. */
async function ready({ child, output }: Run): Promise<void> {
  const deadlineMs = performance.now() + READY_TIMEOUT_MS;
  for (;;) {
    const signal = AbortSignal.timeout(1_000);
    const answer = await fetch(`http://127.0.0.1:${env['OPS_PORT']}/ready`, { signal }).catch(() => null);
    if (answer?.status === 200) return;
    if (child.exitCode !== null || child.signalCode !== null)
      throw new Error(`it ended before it was ready:\n${output()}`);
    if (performance.now() > deadlineMs) {
      child.kill('SIGKILL');
      throw new Error(`not ready within ${READY_TIMEOUT_MS} ms:\n${output()}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test.each([
  ['no signing key', { JWT_KEY: undefined }, 'JWT_KEY is not set.'],
  [
    'a word for a signing key',
    { JWT_KEY: 'changeme' },
    'JWT_KEY is not valid: expected a P-256 private key as PKCS#8 PEM.',
  ],
  ['no data key', { DATA_KEY: '' }, 'DATA_KEY is not set.'],
  [
    'a short data key',
    { DATA_KEY: randomBytes(16).toString('base64') },
    'DATA_KEY is not valid: expected 32 bytes as base64',
  ],
  ['a data key of zeros', { DATA_KEY: Buffer.alloc(32).toString('base64') }, 'these are not random'],
  [
    'a short set-up token',
    { SETUP_TOKEN: 'letmein' },
    'SETUP_TOKEN is not valid: expected at least 22 characters',
  ],
  ['every proxy trusted', { TRUSTED_PROXIES: '0.0.0.0/0' }, 'TRUSTED_PROXIES'],
])('%s: exit 78 with the reason', async (_name, change, said) => {
  const run = start(change);
  expect(await run.ended).toBe(78);
  expect(run.output()).toContain(said);
  expect(run.output()).not.toContain('changeme');
});

test('a busy port and a file that is missing: one sentence and a code that is not 0', async () => {
  const busy = createServer();
  await new Promise<void>((resolve) => busy.listen(Number(env['HTTP_PORT']), '127.0.0.1', resolve));
  try {
    const run = start();
    expect(await run.ended).toBe(1);
    expect(run.output()).toMatch(/^control-api cannot listen \(EADDRINUSE\).*$/m);
  } finally {
    busy.close();
  }
  const missing = start({ TLS_KEY_FILE: '/nowhere/key.pem' });
  expect(await missing.ended).toBe(1);
  expect(missing.output()).toMatch(/^control-api cannot start: .*key\.pem.*$/m);
});

test('it starts, serves, is ready, tells its metrics and stops on SIGTERM', async () => {
  const run = start();
  await ready(run);
  const answer = await fetch(`http://127.0.0.1:${env['HTTP_PORT']}/api/v1/setup`);
  expect(await answer.json()).toEqual({ needed: true });
  expect((await fetch(`http://127.0.0.1:${env['HTTP_PORT']}/metrics`)).status).toBe(404);
  const metrics = await (await fetch(`http://127.0.0.1:${env['OPS_PORT']}/metrics`)).text();
  expect(metrics).toContain('http_requests_total{method="GET",route="/api/v1/setup",status="200"} 1');
  run.child.kill('SIGTERM');
  expect(await run.ended).toBe(0);
  for (const line of run.output().trim().split('\n')) expect(() => JSON.parse(line) as unknown).not.toThrow();
  for (const secret of [env['DATA_KEY'], env['DATABASE_URL']]) expect(run.output()).not.toContain(secret);
});

test('killed with -9 it starts again on the same database', async () => {
  const first = start();
  await ready(first);
  first.child.kill('SIGKILL');
  await first.ended;
  const second = start();
  await ready(second);
  second.child.kill('SIGTERM');
  expect(await second.ended).toBe(0);
});
