// control-api as separate processes beside a world: the built entry point over the world's database and keys, so that
// the world's people are known to each. For what must hold over several processes or through the death of one.
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { freePort } from '@penstock/testkit/traffic/xray-client';
import type { World } from './world.js';

const entry = fileURLToPath(new URL('../dist/main.js', import.meta.url));
const READY_TIMEOUT_MS = 30_000;

export interface ApiProcess {
  url: string;
  pid: number;
  child: ChildProcess;
  output(): string;
  /** Asks it to end, or kills it; resolves when it is gone. */
  stop(signal?: NodeJS.Signals): Promise<void>;
}

/** Starts `count` processes and waits until each is ready. */
export async function startProcesses(
  world: World,
  count: number,
  env: Record<string, string> = {},
): Promise<ApiProcess[]> {
  if (!existsSync(entry)) throw new Error('build first: pnpm exec tsc -b apps/control-api');
  return Promise.all(Array.from({ length: count }, () => startProcess(world, env)));
}

async function startProcess(world: World, env: Record<string, string>): Promise<ApiProcess> {
  const { config } = world.context;
  const [httpPort, opsPort] = [await freePort(), await freePort()];
  const child = spawn(process.execPath, [entry], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...{ NODE_ENV: 'production', PUBLIC_URL: config.PUBLIC_URL, DATABASE_URL: config.DATABASE_URL },
      ...{ DATABASE_CONNECTIONS: '5', ADMIN_CIDRS: '127.0.0.0/8', LOG_LEVEL: 'warn' },
      DATA_KEY: config.DATA_KEY.toString('base64'),
      JWT_KEY: config.JWT_KEY.export({ format: 'pem', type: 'pkcs8' }).toString(),
      ...{ TRUST_DOMAIN: config.TRUST_DOMAIN, SCHEDULER_ADDRESS: '127.0.0.1:1' },
      ...{ TLS_CERT_FILE: config.TLS_CERT_FILE, TLS_KEY_FILE: config.TLS_KEY_FILE },
      TLS_ROOT_FILE: config.TLS_ROOT_FILE,
      ...{ NODE_ENROLL_ADDRESS: 'edge.test:8444', NODE_ENFORCEMENT_ADDRESS: 'edge.test:8443' },
      ...{ NODE_USAGE_ADDRESS: 'edge.test:8443', HTTP_PORT: String(httpPort), OPS_PORT: String(opsPort) },
      ...env,
    },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (data: Buffer) => (output += data.toString()));
  const gone = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const deadline = performance.now() + READY_TIMEOUT_MS;
  for (;;) {
    const answer = await fetch(`http://127.0.0.1:${opsPort}/ready`).catch(() => null);
    if (answer?.status === 200) break;
    if (child.exitCode !== null || performance.now() > deadline)
      throw new Error(`control-api is not ready:\n${output}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return {
    ...{ url: `http://127.0.0.1:${httpPort}`, pid: child.pid ?? 0, child, output: () => output },
    stop: async (signal = 'SIGTERM') => {
      child.kill(signal);
      await gone;
    },
  };
}
