// The product's own programs as separate processes over a test database, and what a benchmark needs of a trust.
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { testDatabase, type TestDatabase } from '@penstock/testkit/postgres';
import { createTestTrust, writeTlsFiles, type TestTrust } from '@penstock/testkit/trust';

const repo = fileURLToPath(new URL('../..', import.meta.url));
const READY_TIMEOUT_MS = 30_000;

export interface Ground {
  database: TestDatabase;
  trust: TestTrust;
  dataKey: Buffer;
  dir: string;
  /** Starts apps/NAME and waits for its readiness; returns its gRPC address. */
  start(name: 'scheduler' | 'collector', env?: Record<string, string>): Promise<string>;
  /** Processor time that the process behind an address has used so far. */
  cpuMs(address: string): number;
  /** Starts control-api and waits for its readiness. */
  startApi(env?: Record<string, string>): Promise<RunningApi>;
  /** Starts another program of ours with arguments; it ends with the ground. */
  run(program: string, args: string[], env?: Record<string, string>): ChildProcess;
  close(): Promise<void>;
}

export interface RunningApi {
  port: number;
  pid: number;
  /** One-time secret by which its first owner is made. */
  setupToken: string;
}

export async function makeGround(): Promise<Ground> {
  const dir = mkdtempSync(join(tmpdir(), 'penstock-bench-'));
  const database = await testDatabase();
  const trust = await createTestTrust();
  const dataKey = randomBytes(32);
  const children: ChildProcess[] = [];
  const pids = new Map<string, number>();
  const trustProgram = join(repo, 'apps/scheduler/dist/identity/make-trust.js');
  await promisify(execFile)(process.execPath, [
    ...[
      trustProgram,
      '--dir',
      join(dir, 'trust'),
      '--trust-domain',
      trust.trustDomain,
      '--service',
      'scheduler',
    ],
  ]);

  const run = (program: string, args: string[], env: Record<string, string> = {}): ChildProcess => {
    const child = spawn(process.execPath, [program, ...args], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { PATH: process.env['PATH'] ?? '', ...env },
    });
    children.push(child);
    return child;
  };

  return {
    database,
    trust,
    dataKey,
    dir,
    run,
    async start(name, env = {}) {
      const files = writeTlsFiles(join(dir, name), await trust.service(name));
      const [grpcPort, enrollPort, opsPort] = [await freePort(), await freePort(), await freePort()];
      const child = run(join(repo, `apps/${name}/dist/main.js`), [], {
        NODE_ENV: 'production',
        LOG_LEVEL: 'warn',
        TRUST_DOMAIN: trust.trustDomain,
        TLS_CERT_FILE: files.certFile,
        TLS_KEY_FILE: files.keyFile,
        TLS_ROOT_FILE: files.rootFile,
        OPS_PORT: String(opsPort),
        GRPC_PORT: String(grpcPort),
        ENROLL_PORT: String(enrollPort),
        DATABASE_URL: database.url(`penstock_${name}`),
        PARTITIONS_DATABASE_URL: database.url('penstock_partitions'),
        DATA_KEY: dataKey.toString('base64'),
        CA_DIR: join(dir, 'trust', 'ca'),
        ...env,
      });
      await ready(name, opsPort, child);
      const address = `127.0.0.1:${grpcPort}`;
      pids.set(address, child.pid ?? 0);
      return address;
    },
    async startApi(env = {}) {
      const files = writeTlsFiles(join(dir, 'control-api'), await trust.service('control-api'));
      const [port, opsPort] = [await freePort(), await freePort()];
      const setupToken = randomBytes(24).toString('base64url');
      const jwtKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
      const child = run(join(repo, 'apps/control-api/dist/main.js'), [], {
        NODE_ENV: 'production',
        LOG_LEVEL: 'warn',
        TRUST_DOMAIN: trust.trustDomain,
        TLS_CERT_FILE: files.certFile,
        TLS_KEY_FILE: files.keyFile,
        TLS_ROOT_FILE: files.rootFile,
        HTTP_PORT: String(port),
        OPS_PORT: String(opsPort),
        PUBLIC_URL: `http://127.0.0.1:${port}`,
        ADMIN_CIDRS: '127.0.0.0/8',
        DATABASE_URL: database.url('penstock_control_api'),
        DATA_KEY: dataKey.toString('base64'),
        JWT_KEY: jwtKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
        SETUP_TOKEN: setupToken,
        SCHEDULER_ADDRESS: '127.0.0.1:1',
        NODE_ENROLL_ADDRESS: 'edge.test:8444',
        NODE_ENFORCEMENT_ADDRESS: 'edge.test:8443',
        NODE_USAGE_ADDRESS: 'edge.test:8443',
        ...env,
      });
      await ready('control-api', opsPort, child);
      return { port, pid: child.pid ?? 0, setupToken };
    },
    cpuMs: (address) => cpuMsOf(pids.get(address) ?? 0),
    async close() {
      await Promise.all(children.map(stop));
      await database.drop();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

async function ready(name: string, opsPort: number, child: ChildProcess): Promise<void> {
  const deadline = performance.now() + READY_TIMEOUT_MS;
  for (;;) {
    if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}`);
    const answer = await fetch(`http://127.0.0.1:${opsPort}/ready`).catch(() => null);
    if (answer?.status === 200) return;
    if (performance.now() > deadline) throw new Error(`${name} is not ready: ${await answer?.text()}`);
    await pause(25);
  }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await gone;
}

/** Processor time of a process in ms, to 10 ms; Linux. */
export function cpuMsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** Share of the machine that was in use over `ms`. */
export async function busyShare(ms = 200): Promise<number> {
  const idle = (): number => cpus().reduce((sum, cpu) => sum + cpu.times.idle, 0);
  const [before, started] = [idle(), performance.now()];
  await pause(ms);
  return Math.max(0, 1 - (idle() - before) / ((performance.now() - started) * cpus().length));
}

/** Waits until less than a quarter of the machine is in use, at most `maxMs`; returns the share that was left. */
export async function quiet(maxMs = 5_000): Promise<number> {
  const deadline = performance.now() + maxMs;
  for (;;) {
    const share = await busyShare();
    if (share < 0.25 || performance.now() > deadline) return share;
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Waits for a condition over what arrives. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  ms = 60_000,
): Promise<void> {
  const deadline = performance.now() + ms;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`waited in vain: ${what}`);
    await pause(5);
  }
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(port));
    });
  });
}
